//! C1–C7, C12: a product that fails, lies, is slow or refuses; the real adapter stands before it.
//! Each row is a script for the stub, and the judge at the end.
//! Must never heal a product before its fault was seen.
//! Read next: `../stub.rs`, `adapter.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::event::{event, moved_within};
use musubi_e2e::hub::MUNICIPALITY;
use musubi_e2e::wait_until;
use musubi_proto::hub::v1::{ParkedState, ResumeRequest, RetryParkedRequest};
use prost::Message;

use super::adapter::{OTHERS_MAX, Served};
use crate::dice::Dice;
use crate::load::subject;
use crate::others::{self, Other, ROUNDS, Times};
use crate::row::{Ctx, Row, RowReport};
use crate::scene::{PATIENCE, SYSTEM};
use crate::stub::Act;

/// C1–C7, C12.
pub const ROWS: &[Row] = &[
    Row {
        name: "C1",
        what: "a product answers 500, 502, 503 and 429, also with Retry-After",
        accept: "Retry-After is kept to; I1–I4: 0",
        count: 3,
        run: |ctx| Box::pin(errors(ctx)),
    },
    Row {
        name: "C2",
        what: "a product applies and never answers",
        accept: "asked or sent again under the same key; I2: 0",
        count: 3,
        run: |ctx| Box::pin(silence(ctx)),
    },
    Row {
        name: "C3",
        what: "200 with an error, with a cut body, with a page; 204",
        accept: "none of them counts as delivered; I1–I4: 0",
        count: 3,
        run: |ctx| Box::pin(lies(ctx)),
    },
    Row {
        name: "C4",
        what: "30 % random errors, some of them after the effect",
        accept: "I2, I3: 0",
        count: 200,
        run: |ctx| Box::pin(random_errors(ctx)),
    },
    Row {
        name: "C5",
        what: "a product that is slow for some residents: late, silent, byte by byte",
        accept: "the other residents do not wait; I1–I4: 0; the other receivers take at most 1.2 × as long (judged outside the test run)",
        count: 1,
        run: |ctx| Box::pin(slow(ctx)),
    },
    Row {
        name: "C6",
        what: "a permanent refusal of one resident",
        accept: "that resident is parked and later events wait behind; an alarm within 60 s; a retry delivers in order; the others at 0.95 × the rate (judged outside the test run)",
        count: 1,
        run: |ctx| Box::pin(poison(ctx)),
    },
    Row {
        name: "C7",
        what: "a permanent refusal of everybody",
        accept: "the binding stops after 20 residents and the town is not parked; one alarm of it",
        count: 1,
        run: |ctx| Box::pin(refuses_everybody(ctx)),
    },
    Row {
        name: "C12",
        what: "a vendor in another time zone; leap day, 令和 and 平成 begin",
        accept: "dates unchanged end to end",
        count: 1,
        run: |ctx| Box::pin(dates(ctx)),
    },
];

/// What is wrong is said within this time.
const ALARM: Duration = Duration::from_secs(60);
/// Rate of the other residents beside one that is refused.
const RATE_MIN: f64 = 0.95;
const SUBJECTS: u32 = 16;
const VERSIONS: u32 = 3;

/// Publishes and waits for the end; each first attempt may be harmed, up to so many times.
async fn harmed(ctx: &Ctx, timeout_ms: u64, acts: &'static [Act]) -> Result<RowReport> {
    let mut served = Served::start(ctx, timeout_ms).await?;
    let times = u64::from(ctx.count);
    served.stub.script(move |call| {
        let place = usize::try_from(call.number).unwrap_or_default() % acts.len();
        match acts.get(place) {
            Some(act) if call.attempt <= times => *act,
            _ => Act::Right,
        }
    });
    served.scene.publish(0..SUBJECTS, 1..=VERSIONS).await?;
    served.finish().await
}

async fn errors(ctx: Ctx) -> Result<RowReport> {
    const ACTS: &[Act] = &[
        Act::Right,
        Act::Status(500, 0),
        Act::Status(502, 0),
        Act::Status(503, 1),
        Act::Status(429, 1),
    ];
    harmed(&ctx, 2_000, ACTS).await
}

async fn silence(ctx: Ctx) -> Result<RowReport> {
    const ACTS: &[Act] = &[Act::Right, Act::ApplyThenSilence, Act::Silence];
    harmed(&ctx, 300, ACTS).await
}

async fn lies(ctx: Ctx) -> Result<RowReport> {
    const ACTS: &[Act] = &[
        Act::Right,
        Act::ErrorInBody,
        Act::CutBody,
        Act::NoContent,
        Act::Page,
    ];
    harmed(&ctx, 2_000, ACTS).await
}

async fn random_errors(ctx: Ctx) -> Result<RowReport> {
    let mut served = Served::start(&ctx, 500).await?;
    let mut dice = Dice::new(ctx.seed);
    served.stub.script(move |_| match dice.below(20) {
        0 | 1 => Act::Status(503, 0),
        2 => Act::Status(500, 0),
        3 | 4 => Act::ApplyThenStatus(500),
        5 => Act::ApplyThenSilence,
        _ => Act::Right,
    });
    served.scene.publish(0..ctx.count, 1..=VERSIONS).await?;
    served.finish().await
}

async fn slow(ctx: Ctx) -> Result<RowReport> {
    let mut served = Served::start(&ctx, 8_000).await?;
    let slow = [subject(0), subject(1), subject(2)];
    let of = slow.clone();
    served.stub.script(move |call| {
        let place = of.iter().position(|slow| slow == call.subject);
        match place.filter(|_| call.attempt == 1) {
            Some(0) => Act::Late(Duration::from_secs(6)),
            Some(1) => Act::Silence,
            Some(_) => Act::Dribble(Duration::from_millis(150)),
            None => Act::Right,
        }
    });
    served.scene.publish(0..SUBJECTS, 1..=1).await?;
    let others = usize::try_from(SUBJECTS)? - slow.len();
    wait_until(PATIENCE, "the other residents", async || {
        let state = served.stub.ledger().state;
        Ok(state.keys().filter(|one| !slow.contains(one)).count() == others)
    })
    .await?;
    // The late one has no effect before it answers.
    let waited = served.stub.ledger().state.contains_key(&slow[0]);
    let mut report = served.finish().await?;
    if waited {
        report
            .violations
            .push("C5: other residents waited for a slow one".to_owned());
    }
    if ctx.measured {
        report.add(others_while_slow(&ctx.within("others")).await?);
    }
    Ok(report)
}

/// Another receiver's rounds, with this product quick and with it at 2 s an answer.
async fn others_while_slow(ctx: &Ctx) -> Result<RowReport> {
    let mut served = Served::start(ctx, 8_000).await?;
    let other = Other::start(&served.scene).await?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let calm = other.round(&mut served.scene).await?;
        served.scene.settle().await?;
        served.stub.script(|_| Act::Late(Duration::from_secs(2)));
        let harmed = other.round(&mut served.scene).await?;
        served.stub.script(|_| Act::Right);
        served.scene.settle().await?;
        times.add(calm, harmed);
    }
    let mut report = served.finish().await?;
    report.injected = u64::from(ROUNDS);
    times.judge("C5", OTHERS_MAX, &mut report);
    Ok(report)
}

async fn poison(ctx: Ctx) -> Result<RowReport> {
    let mut served = Served::start(&ctx, 2_000).await?;
    let poison = subject(3);
    served
        .stub
        .script(move |call| match call.subject == poison {
            true => Act::Refuse,
            false => Act::Right,
        });
    served.scene.publish(0..SUBJECTS, 1..=VERSIONS).await?;
    served.scene.settle().await?;
    alarmed(&mut served, "SUBJECT_PARKED").await?;
    let parked = served.scene.client.parked(SYSTEM).await?;
    let mut wrong = Vec::new();
    let refused = parked
        .iter()
        .filter(|unit| unit.state() == ParkedState::Rejected)
        .count();
    if (refused, parked.len()) != (1, usize::try_from(VERSIONS)?) {
        wrong.push(format!("C6: {refused} refused of {} parked", parked.len()));
    }
    // While it is parked nothing of it passes, and everybody else has everything.
    let so_far = served.scene.finish(1, served.stub.receiver()).await?;
    wrong.extend(so_far.violations);
    served.stub.script(|_| Act::Right);
    retry_all(&served).await?;
    let mut report = served.finish().await?;
    report.violations.extend(wrong);
    if ctx.measured {
        report.add(others_beside_poison(&ctx.within("others")).await?);
    }
    Ok(report)
}

/// Rounds of the other residents of this product, without a refused one and with one.
async fn others_beside_poison(ctx: &Ctx) -> Result<RowReport> {
    let mut served = Served::start(ctx, 2_000).await?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let calm = residents(&mut served, 0).await?;
        let harmed = residents(&mut served, 1).await?;
        times.add(calm, harmed);
    }
    served.stub.script(|_| Act::Right);
    retry_all(&served).await?;
    let mut report = served.finish().await?;
    times.judge("C6", 1.0 / RATE_MIN, &mut report);
    Ok(report)
}

/// The time until all residents of a round but the refused one have everything.
async fn residents(served: &mut Served, poisoned: u32) -> Result<Duration> {
    let first = served.scene.next_subject();
    let others = first + others::SUBJECTS;
    let poison = subject(others);
    served
        .stub
        .script(move |call| match call.subject == poison {
            true => Act::Refuse,
            false => Act::Right,
        });
    let all = served.stub.effects() + (others::SUBJECTS * others::VERSIONS) as usize;
    let started = Instant::now();
    let range = first..others + poisoned;
    served.scene.publish(range, 1..=others::VERSIONS).await?;
    wait_until(PATIENCE, "the other residents", async || {
        let found = served.stub.effects();
        ensure!(found >= all, "{found} of {all}");
        Ok(true)
    })
    .await?;
    let took = started.elapsed();
    served.scene.settle().await?;
    Ok(took)
}

/// The hub says by itself, within its time, that something is wrong; how often it said so.
async fn alarmed(served: &mut Served, kind: &str) -> Result<usize> {
    let process = served.scene.hub.process();
    let mut raised = 0;
    wait_until(ALARM, kind, async || {
        let said = process.log_text()?;
        let lines = said.lines().filter(|line| line.contains("alarm.raised"));
        raised = lines.filter(|line| line.contains(kind)).count();
        Ok(raised > 0)
    })
    .await?;
    Ok(raised)
}

/// Has everything that is parked delivered again, and waits until nothing is.
async fn retry_all(served: &Served) -> Result<()> {
    let request = RetryParkedRequest {
        subscription: format!("{MUNICIPALITY}/{SYSTEM}"),
        operator: "test".to_owned(),
        reason: "the product is mended".to_owned(),
        ..RetryParkedRequest::default()
    };
    let client = &served.scene.client;
    client
        .admin()
        .retry_parked(request)
        .await
        .context("retry what is parked")?;
    wait_until(PATIENCE, "nothing to be parked", async || {
        let parked = client.parked(SYSTEM).await?;
        ensure!(parked.is_empty(), "{} parked", parked.len());
        Ok(true)
    })
    .await
}

async fn refuses_everybody(ctx: Ctx) -> Result<RowReport> {
    /// Residents that may be parked before the binding stops.
    const PARKED_MAX: usize = 20;
    let mut served = Served::start(&ctx, 2_000).await?;
    served.stub.script(|_| Act::Refuse);
    served.scene.publish(0..60, 1..=1).await?;
    let client = served.scene.client.clone();
    wait_until(PATIENCE, "the binding to stop", async || {
        let own = client.subscription(SYSTEM).await?;
        let stopped = own
            .bindings
            .first()
            .is_some_and(|binding| binding.paused && binding.pause_reason.contains("SAME_REFUSAL"));
        ensure!(stopped, "{:?}", own.bindings);
        Ok(true)
    })
    .await?;
    let parked = client.parked(SYSTEM).await?.len();
    let alarms = alarmed(&mut served, "BINDING_STOPPED").await?;
    served.stub.script(|_| Act::Right);
    let request = ResumeRequest {
        municipality: MUNICIPALITY.to_owned(),
        system: SYSTEM.to_owned(),
        operator: "test".to_owned(),
        reason: "the product is mended".to_owned(),
        ..ResumeRequest::default()
    };
    client
        .admin()
        .resume(request)
        .await
        .context("resume the binding")?;
    retry_all(&served).await?;
    let mut report = served.finish().await?;
    report.notes.push(format!(
        "{parked} residents were parked before the binding stopped"
    ));
    if alarms != 1 {
        let what = format!("C7: {alarms} alarms that the binding stopped");
        report.violations.push(what);
    }
    if parked > PARKED_MAX {
        report
            .violations
            .push(format!("C7: {parked} residents were parked"));
    }
    Ok(report)
}

/// Days, and how Kaede writes them.
const DAYS: &[(u32, u32, u32, &str)] = &[
    (1989, 1, 7, "昭和64-01-07"),
    (1989, 1, 8, "平成1-01-08"),
    (2019, 4, 30, "平成31-04-30"),
    (2019, 5, 1, "令和1-05-01"),
    (2024, 2, 29, "令和6-02-29"),
];

async fn dates(ctx: Ctx) -> Result<RowReport> {
    let mut command = musubi_e2e::process::musubi()?;
    command.env("TZ", "Pacific/Kiritimati");
    let mut served = Served::start_as(&ctx, 2_000, command).await?;
    for (number, (year, month, day, _)) in (0..).zip(DAYS) {
        let subject = subject(number);
        let mut payload = moved_within()?;
        let record = payload.record.as_mut().context("the example's record")?;
        let person = record.person.as_mut().context("the example's person")?;
        subject.clone_into(&mut person.atenabango);
        person.rirekibango = 1;
        let since = record
            .address_since
            .as_mut()
            .context("the example's date")?;
        (since.year, since.month, since.day) = (*year, *month, *day);
        since.value = format!("{year:04}-{month:02}-{day:02}");
        served
            .scene
            .publish_event(event(&subject, 1, payload.encode_to_vec()))
            .await?;
    }
    let mut report = served.finish().await?;
    let bodies = served.stub.ledger().bodies;
    for (number, day) in (0..).zip(DAYS) {
        let found = bodies
            .get(&subject(number))
            .map(|body| body["jushoSadame"].clone());
        if found.as_ref().and_then(serde_json::Value::as_str) != Some(day.3) {
            report
                .violations
                .push(format!("C12: {} arrived as {found:?}", day.3));
        }
        report.injected += 1;
    }
    Ok(report)
}

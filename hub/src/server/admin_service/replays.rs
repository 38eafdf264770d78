//! Replays for operators: started, listed, stopped.
//! Behind `AdminService.StartReplay`, `ListReplays` and `StopReplay`.
//! Must never start one whose range does not exist, nor show a 宛名番号.
//! Read next: `server/runner/replay.rs`.

use musubi_proto::hub::v1::{
    ActKind, Replay, ReplaySelection, ReplayState as WireState, StartReplayRequest,
    StopReplayRequest, Stream as WireStream,
};
use prost_types::Timestamp;
use tonic::Code;

use super::page;
use crate::clock::{now_ms, timestamp};
use crate::event::{Position, Stream, Subject};
use crate::limits::{IDENTIFIER_CHARS_MAX, PAGE_MAX, REPLAY_NAMES_MAX};
use crate::server::runner::{Command, Shared};
use crate::server::status::{Failure, invalid, not_found};
use crate::server::town::Town;
use crate::store::{
    NewAct, ReplayProgress, ReplayRow, ReplayState, Selected, Selection, SubscriptionRow,
};

fn wire(row: &ReplayRow) -> Replay {
    let of = &row.selection;
    let position = |at: Option<Position>| at.map_or(0, |at| at.0);
    let progress = &row.progress;
    let state = match progress.state {
        ReplayState::Running => WireState::Running,
        ReplayState::Done => WireState::Done,
        ReplayState::Stopped => WireState::Stopped,
    };
    let selection = ReplaySelection {
        stream: of.stream.map_or(0, Stream::wire),
        from_position: position(of.from_position),
        to_position: position(of.to_position),
        from_time: of.from_ms.map(timestamp),
        to_time: of.to_ms.map(timestamp),
        subjects: of.subjects.iter().map(|s| s.0.clone()).collect(),
        types: of.types.clone(),
    };
    Replay {
        id: row.id.clone(),
        subscription: row.subscription.clone(),
        selection: Some(selection),
        repair: row.repair,
        state: state as i32,
        note: progress.note.clone(),
        operator: row.operator.clone(),
        reason: row.reason.clone(),
        started_at: Some(timestamp(row.started_ms)),
        ended_at: progress.ended_ms.map(timestamp),
        units: row.selected.0,
        subjects: row.selected.1,
        delivered: progress.delivered,
        known: progress.known,
        parked: progress.parked,
    }
}

/// Starts a replay; a dry run only counts.
pub(super) async fn start(town: &Town, ask: StartReplayRequest) -> Result<Replay, Failure> {
    let shared = town.shared();
    let started_ms = now_ms();
    let wanted = ask.selection.unwrap_or_default();
    let selection = read(shared, &wanted, started_ms)?;
    let subscription = open_subscription(town, &ask.subscription).await?;
    let store = &shared.store;
    // From the look into the log until the replay stands in the store, nothing is trimmed.
    let _nothing_goes = town.hold_still().await;
    in_log(shared, &selection).await?;
    let selected = store.selected(&subscription.id, &selection).await?;
    if selected.units == 0 {
        let message = "the subscription had nothing of it; see what it had with `musubi case show`";
        let failure = Failure::new(Code::FailedPrecondition, "NOTHING_TO_REPLAY", message);
        return Err(failure.field("selection"));
    }
    still_there(shared, &wanted, &selected).await?;
    let dry = ask.dry_run;
    let row = ReplayRow {
        id: if dry { String::new() } else { new_id() },
        binding_epoch: subscription.binding().map_or(0, |binding| binding.epoch),
        subscription: subscription.id,
        selection,
        repair: ask.repair,
        operator: ask.operator,
        reason: ask.reason,
        started_ms,
        selected: (selected.units, selected.subjects),
        progress: ReplayProgress::start(ask.repair),
    };
    let mut shown = wire(&row);
    if dry {
        shown.state = WireState::Unspecified as i32;
        return Ok(shown);
    }
    let act = NewAct {
        subscription: row.subscription.clone(),
        target: format!("{} {}", row.subscription, row.id),
        subjects: selected.subjects,
        note: format!("{} units", selected.units),
        ..NewAct::now(ActKind::Replay as i32, &row.operator, &row.reason)
    };
    if !store.start_replay(row, act).await? {
        let message = "a replay of this subscription runs; wait for its end, or stop it";
        let failure = Failure::new(Code::FailedPrecondition, "REPLAY_RUNNING", message);
        return Err(failure.field("subscription"));
    }
    look(town, &shown.subscription).await;
    Ok(shown)
}

/// Replays, latest first.
pub(super) async fn list(town: &Town, limit: u32) -> Result<Vec<Replay>, Failure> {
    let store = &town.shared().store;
    let rows = store.replays(&town.municipality, page(limit)).await?;
    Ok(rows.iter().map(wire).collect())
}

/// Stops a replay; a dry run shows the one that would be stopped.
pub(super) async fn stop(town: &Town, ask: StopReplayRequest) -> Result<Replay, Failure> {
    let store = &town.shared().store;
    let rows = store.replays(&town.municipality, PAGE_MAX).await?;
    let found = rows.into_iter().find(|row| row.id == ask.id);
    let mut row = found.ok_or_else(|| not_found("replay", &ask.id).field("id"))?;
    let ended = || {
        let message = format!("the replay `{}` does not run any more", ask.id);
        let failure = Failure::new(Code::FailedPrecondition, "REPLAY_ENDED", message);
        failure.field("id")
    };
    if ask.dry_run {
        return match row.progress.state {
            ReplayState::Running => Ok(wire(&row)),
            ReplayState::Done | ReplayState::Stopped => Err(ended()),
        };
    }
    let progress = ReplayProgress {
        state: ReplayState::Stopped,
        note: format!("stopped by {}", ask.operator),
        ended_ms: Some(now_ms()),
        ..row.progress.clone()
    };
    let act = NewAct {
        subscription: row.subscription.clone(),
        target: format!("{} {}", row.subscription, row.id),
        note: format!("after {} deliveries", row.progress.delivered),
        ..NewAct::now(ActKind::StopReplay as i32, &ask.operator, &ask.reason)
    };
    if !store
        .move_replay(&row.id, progress.clone(), Some(act))
        .await?
    {
        return Err(ended());
    }
    row.progress = progress;
    look(town, &row.subscription).await;
    Ok(wire(&row))
}

/// Ids rise with time.
fn new_id() -> String {
    format!("replay-{}", uuid::Uuid::now_v7().simple())
}

/// Has the runner look at the replays again; one that is ending has nothing to look at.
async fn look(town: &Town, subscription: &str) {
    if let Some(runner) = town.runner(subscription)
        && runner.commands.send(Command::Replays).await.is_err()
    {
        tracing::debug!("the hub is shutting down");
    }
}

async fn open_subscription(town: &Town, id: &str) -> Result<SubscriptionRow, Failure> {
    let store = &town.shared().store;
    let rows = store.subscriptions(&town.municipality).await?;
    let found = rows.into_iter().find(|row| row.id == id && !row.closed);
    found.ok_or_else(|| not_found("subscription", id).field("subscription"))
}

/// Reads a selection. It ends with what was published before the start: what comes meanwhile is
/// delivered anyway.
fn read(shared: &Shared, wanted: &ReplaySelection, now_ms: i64) -> Result<Selection, Failure> {
    if *wanted == ReplaySelection::default() {
        let message = "name a time, positions, a subject or a type";
        return Err(invalid("selection", message));
    }
    let names = [
        ("selection.subjects", &wanted.subjects),
        ("selection.types", &wanted.types),
    ];
    for (field, names) in names {
        let plain = |name: &String| (1..=IDENTIFIER_CHARS_MAX).contains(&name.chars().count());
        if names.len() > REPLAY_NAMES_MAX || !names.iter().all(plain) {
            let message = format!("at most {REPLAY_NAMES_MAX} names, none empty");
            return Err(invalid(field, &message));
        }
    }
    let positions = wanted.from_position > 0 || wanted.to_position > 0;
    let stream = WireStream::try_from(wanted.stream)
        .map_err(|_| invalid("selection.stream", "live or bulk"))?;
    let position = |at: u64| (at > 0).then_some(Position(at));
    let from_ms = millis("selection.from_time", wanted.from_time.as_ref())?;
    let to_ms = millis("selection.to_time", wanted.to_time.as_ref())?;
    if from_ms.is_some_and(|from| from >= now_ms) {
        return Err(out_of_range("selection.from_time", "it lies in the future"));
    }
    if to_ms.is_some_and(|to| from_ms.is_some_and(|from| to <= from)) {
        return Err(out_of_range(
            "selection.to_time",
            "it ends before it begins",
        ));
    }
    let m = &shared.municipality;
    let subjects = wanted.subjects.iter();
    Ok(Selection {
        stream: (positions || stream != WireStream::Unspecified)
            .then(|| Stream::from_wire(wanted.stream)),
        from_position: position(wanted.from_position),
        to_position: position(wanted.to_position),
        from_ms,
        to_ms: Some(to_ms.map_or(now_ms, |to| to.min(now_ms))),
        subjects: subjects
            .map(|subject| shared.pseudonyms.of(m, subject))
            .collect::<Vec<Subject>>(),
        types: wanted.types.clone(),
    })
}

fn millis(field: &str, time: Option<&Timestamp>) -> Result<Option<i64>, Failure> {
    let Some(time) = time else { return Ok(None) };
    let valid = (0..1_000_000_000).contains(&time.nanos);
    let millis = time.seconds.checked_mul(1_000).filter(|_| valid);
    let millis = millis.and_then(|ms| ms.checked_add(i64::from(time.nanos) / 1_000_000));
    let millis = millis.ok_or_else(|| invalid(field, "this is no time"))?;
    Ok(Some(millis))
}

/// The positions that are named stand in the log.
async fn in_log(shared: &Shared, of: &Selection) -> Result<(), Failure> {
    let Some(stream) = of.stream else {
        return Ok(());
    };
    let bounds = shared.log.bounds(&shared.municipality, stream).await;
    let bounds = bounds.map_err(|_| log_failed())?;
    for (field, at) in [
        ("selection.from_position", of.from_position),
        ("selection.to_position", of.to_position),
    ] {
        if at.is_some_and(|at| at < bounds.first || at >= bounds.next) {
            let last = bounds.next.0.saturating_sub(1);
            let message = format!(
                "the {} stream has positions {} to {last}",
                stream.name(),
                bounds.first.0
            );
            return Err(out_of_range(field, &message));
        }
    }
    if of.to_position.is_some() && of.to_position < of.from_position {
        let message = "it ends before it begins";
        return Err(out_of_range("selection.to_position", message));
    }
    Ok(())
}

/// What was had is still in the log.
async fn still_there(
    shared: &Shared,
    wanted: &ReplaySelection,
    selected: &Selected,
) -> Result<(), Failure> {
    for (stream, first) in [Stream::Live, Stream::Bulk].into_iter().zip(selected.first) {
        let Some(first) = first else { continue };
        let bounds = shared.log.bounds(&shared.municipality, stream).await;
        let bounds = bounds.map_err(|_| log_failed())?;
        if first < bounds.first {
            let field = match wanted.from_time {
                Some(_) => "selection.from_time",
                None if wanted.from_position > 0 => "selection.from_position",
                None => "selection",
            };
            let message = format!(
                "the {} stream begins with position {} now; the selection begins with {}",
                stream.name(),
                bounds.first.0,
                first.0
            );
            return Err(out_of_range(field, &message));
        }
    }
    Ok(())
}

fn out_of_range(field: &str, message: &str) -> Failure {
    Failure::new(Code::OutOfRange, "REPLAY_RANGE", message).field(field)
}

fn log_failed() -> Failure {
    Failure {
        retry_ms: 1_000,
        ..Failure::new(
            Code::Unavailable,
            "STORE_FAILED",
            "the hub's log does not answer; ask again",
        )
    }
}

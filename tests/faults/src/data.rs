//! F6: valid requests, changed at random, by the thousand.
//! Every answer must be a status; whatever was kept must be whole.
//! Must never send the same requests for two seeds.
//! Read next: `wire.rs`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use musubi_e2e::Hub;
use musubi_e2e::event::moved;
use musubi_e2e::hub::{MUNICIPALITY, SOURCE};
use musubi_proto::hub::v1::attach_request::Request;
use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::{
    AttachRequest, CaptureCursor, Event, Group, Hello, Origin, PublishRequest, PublishUnit,
    RefusedRow, RefusedUnit, Unit,
};
use prost::Message;
use tokio::task::JoinSet;
use tonic::Code;

use crate::dice::Dice;
use crate::wire::{ATTACH, PUBLISH, Wire, frame};

/// Requests under way at once.
const TOGETHER: u64 = 32;
/// Statuses that a wrong request may get: it, or what it asks for, is at fault. `Ok` answers each
/// unit by itself.
const CLEAN: [Code; 9] = [
    Code::Ok,
    Code::InvalidArgument,
    Code::Internal,
    Code::OutOfRange,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::NotFound,
    Code::PermissionDenied,
    Code::Unimplemented,
];

/// What the hub said to so many changed requests.
#[derive(Debug, Clone, Default)]
pub struct Fuzzed {
    /// Requests.
    pub sent: u64,
    /// Answers by code.
    pub codes: BTreeMap<String, u64>,
    /// Answers that are none, or not clean.
    pub violations: Vec<String>,
}

/// A publish of these units.
pub fn request(units: Vec<PublishUnit>) -> PublishRequest {
    PublishRequest {
        municipality: MUNICIPALITY.to_owned(),
        source: SOURCE.to_owned(),
        units,
        ..PublishRequest::default()
    }
}

/// A unit of these events.
pub fn unit(events: Vec<Event>) -> PublishUnit {
    PublishUnit {
        content: Some(Content::Unit(Unit { events })),
        ..PublishUnit::default()
    }
}

/// Valid requests of every shape, with their paths.
fn originals() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let grouped = |seq| -> Result<Event> {
        let group = Group {
            id: "G1".to_owned(),
            seq,
            size: 2,
        };
        Ok(Event {
            group: Some(group),
            ..moved(&format!("000100000{seq}"), 1)?
        })
    };
    let captured = PublishRequest {
        cursor: Some(CaptureCursor {
            value: "file 7".to_owned(),
        }),
        capture_epoch: 1,
        units: vec![
            PublishUnit {
                origin: Some(Origin {
                    file: "a.csv".to_owned(),
                    line: 3,
                }),
                ..unit(vec![moved("0001000005", 1)?])
            },
            refused_rows(),
        ],
        ..request(Vec::new())
    };
    let hello = AttachRequest {
        request: Some(Request::Hello(Hello {
            municipality: MUNICIPALITY.to_owned(),
            system: "010".to_owned(),
            product: "test-tax".to_owned(),
            adapter_version: "1".to_owned(),
            capabilities: None,
        })),
    };
    let single = request(vec![unit(vec![moved("0001000003", 1)?])]);
    let group = request(vec![unit(vec![grouped(1)?, grouped(2)?])]);
    Ok(vec![
        (PUBLISH, single.encode_to_vec()),
        (PUBLISH, group.encode_to_vec()),
        (PUBLISH, captured.encode_to_vec()),
        (ATTACH, hello.encode_to_vec()),
    ])
}

fn refused_rows() -> PublishUnit {
    let row = RefusedRow {
        rule: "CODE_UNKNOWN".to_owned(),
        item: "seibetsu".to_owned(),
        subject: "0001000007".to_owned(),
        subject_version: 1,
        row: b"a,b,c".to_vec().into(),
        ..RefusedRow::default()
    };
    PublishUnit {
        content: Some(Content::Refused(RefusedUnit {
            key: "R1".to_owned(),
            rows: vec![row],
        })),
        ..PublishUnit::default()
    }
}

/// Changes bytes at one to four places.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let length = bytes.len() as u64;
        let place = dice.below(length) as usize;
        let end = (place + 1 + dice.below(8) as usize).min(bytes.len());
        match dice.below(7) {
            0 => flip(bytes, place, 1 << dice.below(8)),
            1 => flip(bytes, place, 0xff),
            2 => drop(bytes.drain(place..end)),
            3 => bytes.insert(place, dice.below(256) as u8),
            4 => bytes.truncate(place),
            5 => {
                let copy = bytes.get(place..end).unwrap_or_default().to_vec();
                let to = dice.below(length) as usize;
                bytes.splice(to..to, copy);
            }
            // Text that is none: a lone continuation byte, an overlong zero.
            _ => drop(bytes.splice(place..end, [0xc0, 0x80])),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

fn flip(bytes: &mut [u8], place: usize, mask: u8) {
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= mask;
    }
}

/// One changed request: mostly its message, now and then its frame.
fn changed(originals: &[(&'static str, Vec<u8>)], seed: u64) -> (&'static str, Vec<u8>) {
    let mut dice = Dice::new(seed);
    let place = dice.below(originals.len() as u64) as usize;
    let (path, original) = originals.get(place).cloned().unwrap_or_default();
    let mut message = original;
    if dice.below(5) > 0 {
        mutate(&mut message, &mut dice);
        return (path, frame(0, &message));
    }
    let mut framed = frame(0, &message);
    mutate(&mut framed, &mut dice);
    (path, framed)
}

/// Sends so many changed requests.
pub async fn fuzz(hub: &Hub, count: u64, seed: u64) -> Result<Fuzzed> {
    let originals = std::sync::Arc::new(originals()?);
    let wires = [Wire::connect(hub).await?, Wire::connect(hub).await?];
    let mut tasks = JoinSet::new();
    for (task, wire) in (0..TOGETHER).zip(wires.iter().cycle().cloned()) {
        let originals = originals.clone();
        tasks.spawn(async move {
            let mut fuzzed = Fuzzed::default();
            for number in (task..count).step_by(TOGETHER as usize) {
                let own = seed.wrapping_mul(1_000_003).wrapping_add(number);
                let (path, body) = changed(&originals, own);
                let said = wire.send(path, &[], body).await?;
                fuzzed.note(own, said.code(), said.broken);
            }
            Ok::<_, anyhow::Error>(fuzzed)
        });
    }
    let mut all = Fuzzed::default();
    while let Some(done) = tasks.join_next().await {
        let one = done.context("a sender failed")??;
        all.sent += one.sent;
        all.violations.extend(one.violations);
        for (code, count) in one.codes {
            *all.codes.entry(code).or_default() += count;
        }
    }
    Ok(all)
}

impl Fuzzed {
    fn note(&mut self, seed: u64, code: Option<Code>, broken: Option<String>) {
        self.sent += 1;
        *self.codes.entry(format!("{code:?}")).or_default() += 1;
        match code {
            Some(code) if CLEAN.contains(&code) => {}
            Some(code) => self.violations.push(format!("request {seed}: {code:?}")),
            None => {
                let what = broken.unwrap_or_default();
                self.violations.push(format!("request {seed}: {what}"));
            }
        }
    }
}

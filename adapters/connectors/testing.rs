//! Events to deliver and a scripted product to deliver them to, for the tests of the vendors.
//! The person is invented; every item is there, so that each test takes away what it is about.
//! Nothing here may know a vendor.
//! Read next: a vendor's `tests.rs`.

use std::sync::{Arc, Mutex};

use musubi_adapter_sdk::Payload;
use musubi_adapter_sdk::hub::{
    DeliveredEvent, DeliveredUnit, Delivery, Event, Mode, Receipt, Stream,
};
use musubi_proto::rules::flexible_date;
use musubi_proto::standard::common::v1::{
    Address, AliasName, FlexibleDate, ForeignCategory, ForeignResidentStatus, Gender, HouseholdRef,
    PersonName, PersonRef, ProtectionFlags, ProtectionLevel, Relationship, ResidentRecord,
    ResidentState, ResidentType, SnapshotPart, StatusOfResidence,
};
use musubi_proto::standard::resident::v1 as resident;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Everything that any of the receivers is granted of a record.
pub(crate) const WHOLE_RECORD: &[&str] = &[
    "record.person",
    "record.name",
    "record.birth_on",
    "record.gender",
    "record.alias",
    "record.resident_type",
    "record.resident_state",
    "record.address",
    "record.address_since",
    "record.household",
    "record.head",
    "record.head_unset",
    "record.relationship",
    "record.became_resident_on",
    "record.foreign.category",
    "record.foreign.status_of_residence",
    "record.foreign.period_of_stay",
    "record.foreign.period_expires_on",
    "record.foreign.became_foreign_resident_on",
    "record.protection",
];

/// A date that is known, or not where a notation is given.
pub(crate) fn date(value: &str, notation: &str) -> Option<FlexibleDate> {
    flexible_date(value, !notation.is_empty(), notation).unwrap()
}

/// A person with every item.
pub(crate) fn record() -> ResidentRecord {
    let mut record = ResidentRecord {
        person: Some(PersonRef {
            atenabango: "0001002880".to_owned(),
            rirekibango: 4,
        }),
        household: Some(HouseholdRef {
            setaibango: "0050001466".to_owned(),
        }),
        name: Some(PersonName {
            full_name: "\u{20bb7}田　愛".to_owned(),
            furigana: "ヨシダ　アイ".to_owned(),
            ..PersonName::default()
        }),
        alias: Some(AliasName {
            tsusho: "見本　愛".to_owned(),
            tsusho_furigana: "ミホン　アイ".to_owned(),
            ..AliasName::default()
        }),
        birth_on: date("1946-02-29", "昭和２１年２月２９日"),
        head: Some(PersonRef {
            atenabango: "0001002872".to_owned(),
            rirekibango: 0,
        }),
        head_unset: Some(false),
        relationship: Some(Relationship {
            steps: Vec::new(),
            text: "子の妻".to_owned(),
        }),
        became_resident_on: date("2023-05-14", ""),
        address: Some(Address {
            municipality_code: "142042".to_owned(),
            machiaza_id: "0012003".to_owned(),
            prefecture: "神奈川県".to_owned(),
            municipality_name: "鎌倉市".to_owned(),
            town: "鎌倉山三丁目".to_owned(),
            lot: "２０番１８号".to_owned(),
            building: "海岸荘\n１０４".to_owned(),
            postal_code: "2480031".to_owned(),
            ..Address::default()
        }),
        address_since: date("2026-02-24", ""),
        foreign: Some(foreign()),
        protection: Some(ProtectionFlags::default()),
        ..ResidentRecord::default()
    };
    record.set_resident_type(ResidentType::Foreign);
    record.set_resident_state(ResidentState::Resident);
    record.set_gender(Gender::Female);
    if let Some(flags) = &mut record.protection {
        flags.set_level(ProtectionLevel::None);
    }
    record
}

fn foreign() -> ForeignResidentStatus {
    let mut foreign = ForeignResidentStatus {
        period_of_stay: "３年".to_owned(),
        period_expires_on: date("2028-08-29", ""),
        became_foreign_resident_on: date("2023-05-14", ""),
        ..ForeignResidentStatus::default()
    };
    foreign.set_category(ForeignCategory::MidToLongTerm);
    foreign.set_status_of_residence(StatusOfResidence::Student);
    foreign
}

/// The record with measures that protect the person.
pub(crate) fn protected(mut record: ResidentRecord, measures: &[&str]) -> ResidentRecord {
    let mut flags = ProtectionFlags {
        measure_ids: measures.iter().map(|&measure| measure.to_owned()).collect(),
        ..ProtectionFlags::default()
    };
    flags.set_level(ProtectionLevel::Active);
    record.protection = Some(flags);
    record
}

/// A move into the municipality, which may create the person.
pub(crate) fn moved_in(record: ResidentRecord) -> Payload {
    resident::ResidentMovedIn {
        record: Some(record),
        ..Default::default()
    }
    .into()
}

/// A correction of the record, which creates nobody.
pub(crate) fn corrected(record: ResidentRecord) -> Payload {
    resident::ResidentAttributesCorrected {
        record: Some(record),
        ..Default::default()
    }
    .into()
}

/// A move out of the municipality.
pub(crate) fn moved_out(mut record: ResidentRecord) -> Payload {
    record.set_resident_state(ResidentState::MovedOut);
    let deleted_on = date("2026-03-09", "");
    resident::ResidentMovedOut {
        record: Some(record),
        deleted_on,
        ..Default::default()
    }
    .into()
}

/// A support measure that started.
pub(crate) fn measure_started(measure_version: u32) -> Payload {
    let measure_id = "S000012".to_owned();
    resident::SupportMeasureStarted {
        measure_id,
        measure_version,
        ..Default::default()
    }
    .into()
}

/// A support measure that ended.
pub(crate) fn measure_ended(measure_version: u32) -> Payload {
    let measure_id = "S000012".to_owned();
    resident::SupportMeasureEnded {
        measure_id,
        measure_version,
        ..Default::default()
    }
    .into()
}

/// The header of a snapshot.
pub(crate) fn snapshot_header() -> DeliveredEvent {
    let part = SnapshotPart::Header.into();
    let header = resident::ResidentSnapshotPublished {
        part,
        ..Default::default()
    }
    .into();
    let mut event = event("", 0, &header, &[]);
    if let Some(event) = &mut event.event {
        event.subject.clear();
    }
    event
}

/// A delivered event of a person.
pub(crate) fn event(
    person: &str,
    version: u32,
    payload: &Payload,
    paths: &[&str],
) -> DeliveredEvent {
    DeliveredEvent {
        event: Some(Event {
            id: format!("{person}-{version}"),
            r#type: payload.type_name(),
            municipality: "142042".to_owned(),
            subject: person.to_owned(),
            subject_version: version,
            data: payload.encode().into(),
            ..Event::default()
        }),
        granted_paths: paths.iter().map(|&path| path.to_owned()).collect(),
    }
}

/// The event of the person of [`record`] in version 4.
pub(crate) fn of_person(payload: &Payload, paths: &[&str]) -> DeliveredEvent {
    event("0001002880", 4, payload, paths)
}

/// A unit of events.
pub(crate) fn unit(key: &str, sequence: u64, events: Vec<DeliveredEvent>) -> DeliveredUnit {
    DeliveredUnit {
        sequence,
        idempotency_key: key.to_owned(),
        group_size: u32::try_from(events.len()).unwrap(),
        events,
        position: sequence,
        stream: Stream::Live.into(),
        member: 0,
        withheld: false,
    }
}

/// A delivery of units.
pub(crate) fn delivery(units: Vec<DeliveredUnit>, mode: Mode) -> Delivery {
    Delivery {
        delivery_id: "d-1".to_owned(),
        subscription: "s".to_owned(),
        attempt: 1,
        binding_epoch: 1,
        owner_epoch: 1,
        units,
        mode: mode.into(),
        outcome_unknown: false,
    }
}

/// A live delivery of one event.
pub(crate) fn single(key: &str, event: DeliveredEvent) -> Delivery {
    delivery(vec![unit(key, 1, vec![event])], Mode::Live)
}

/// Outcome, reason and field of a receipt, for tables of expectations.
pub(crate) fn told(receipt: &Receipt) -> String {
    let outcome = receipt
        .outcome()
        .as_str_name()
        .trim_start_matches("OUTCOME_")
        .to_owned();
    [outcome, receipt.reason.clone(), receipt.field.clone()]
        .join(" ")
        .trim_end()
        .to_owned()
}

/// The same of each unit of a receipt.
pub(crate) fn told_units(receipt: &Receipt) -> Vec<String> {
    let units = receipt.units.iter();
    let whole = units.map(|unit| Receipt {
        outcome: unit.outcome,
        reason: unit.reason.clone(),
        field: unit.field.clone(),
        ..Receipt::default()
    });
    whole.map(|receipt| told(&receipt)).collect()
}

/// What a scripted product does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    /// Answers with this text: status line, headers, body, as it is.
    Say(String),
    /// Reads the request and never answers.
    Keep,
    /// Reads the request and ends the connection.
    Hang,
}

impl Script {
    /// An answer with a JSON body.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::Say(format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    /// An answer that promises more bytes than come.
    pub(crate) fn half(body: &str) -> Self {
        let length = body.len() + 10;
        Self::Say(format!(
            "HTTP/1.1 200 X\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// An answer without a body, with one header.
    pub(crate) fn bare(status: u16, header: &str) -> Self {
        Self::Say(format!(
            "HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    }
}

/// A product that follows a script, one entry a request; the last one stays.
#[derive(Debug)]
pub(crate) struct ScriptedProduct {
    /// Where it listens.
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ScriptedProduct {
    pub(crate) async fn start(script: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for index in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let step = script[index.min(script.len() - 1)].clone();
                tokio::spawn(follow(stream, step, Arc::clone(&seen)));
            }
        });
        Self { address, requests }
    }

    /// Requests so far: request line and headers in lower case, an empty line, the body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn follow(mut stream: TcpStream, step: Script, seen: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&bytes) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    seen.lock().unwrap().push(String::from_utf8(bytes).unwrap());
    match step {
        Script::Say(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        Script::Keep => std::future::pending::<()>().await,
        Script::Hang => {}
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

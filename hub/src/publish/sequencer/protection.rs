//! Whom an event protects: the hub's own memory of support measures (支援措置).
//! Read when an event is placed, so that what is delivered from then on is withheld.
//! Must never lower a protection but by the end of its own measure.
//! Read next: `project/protection.rs`.

use musubi_proto::standard::common::v1::ResidentRecord;
use musubi_proto::standard::resident::v1 as resident;
use prost::Message;

use crate::event::{Event, Subject};
use crate::store::ProtectionMark;

/// What all events with a record share.
#[derive(Clone, PartialEq, prost::Message)]
struct Recorded {
    #[prost(message, optional, tag = "1")]
    record: Option<ResidentRecord>,
}

/// The measures that an event starts, changes, ends or shows.
pub(super) fn marks(subject: &Subject, event: &Event) -> Vec<ProtectionMark> {
    let mark = |measure: String, version: u32, active: bool| ProtectionMark {
        subject: subject.clone(),
        measure,
        version,
        active,
    };
    let name = event.r#type.rsplit('.').next().unwrap_or_default();
    match name {
        "SupportMeasureStarted" => resident::SupportMeasureStarted::decode(&event.data[..])
            .map(|m| vec![mark(m.measure_id, m.measure_version, true)]),
        "SupportMeasureChanged" => resident::SupportMeasureChanged::decode(&event.data[..])
            .map(|m| vec![mark(m.measure_id, m.measure_version, true)]),
        "SupportMeasureEnded" => resident::SupportMeasureEnded::decode(&event.data[..])
            .map(|m| vec![mark(m.measure_id, m.measure_version, false)]),
        // Any event with a record shows the measures in force; all of them carry it in field 1
        // but the snapshot.
        "ResidentSnapshotPublished" => resident::ResidentSnapshotPublished::decode(&event.data[..])
            .map(|s| shown(s.record.unwrap_or_default(), &mark)),
        _ => Recorded::decode(&event.data[..])
            .map(|event| shown(event.record.unwrap_or_default(), &mark)),
    }
    .unwrap_or_default()
}

fn shown(
    record: ResidentRecord,
    mark: &dyn Fn(String, u32, bool) -> ProtectionMark,
) -> Vec<ProtectionMark> {
    let protection = record.protection.unwrap_or_default();
    protection
        .measure_ids
        .into_iter()
        .map(|id| mark(id, 0, true))
        .collect()
}

//! What an event says about the protection of a person (支援措置).
//! A product keeps, for each person and measure, the highest version and whether it ended.
//! It must never read an absent or unknown level as "not protected".
//! Read next: `state.rs`.

use musubi_proto::standard::common::v1::ProtectionLevel;

use super::missing;
use crate::granted::Granted;
use crate::payload::Payload;
use crate::receipt::Refusal;

/// What happens to the protection of a person.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Protection {
    /// Nothing was told, or the record says that nothing protects the person: leave all measures
    /// as they are. Only the end of a measure ends it.
    #[default]
    Untouched,
    /// A record names measures in force: add those never seen before, as version 0. Never lower
    /// one, and never open one again that has ended.
    Seen {
        /// 支援措置番号 of the measures in force.
        measure_ids: Vec<String>,
    },
    /// A measure started or changed: it is in force unless a higher version is held.
    InForce {
        /// 支援措置番号.
        measure_id: String,
        /// 支援措置版.
        measure_version: u32,
        /// Provisional or full.
        level: ProtectionLevel,
    },
    /// A measure ended: this one and no other, unless a higher version is held.
    Ended {
        /// 支援措置番号.
        measure_id: String,
        /// 支援措置版.
        measure_version: u32,
    },
}

/// Reads the protection out of any event.
pub(super) fn of(payload: &Payload, granted: Granted<'_>) -> Result<Protection, Refusal> {
    match payload {
        Payload::SupportMeasureStarted(event) => {
            in_force(&event.measure_id, event.measure_version, event.level)
        }
        Payload::SupportMeasureChanged(event) => {
            in_force(&event.measure_id, event.measure_version, event.level)
        }
        Payload::SupportMeasureEnded(event) => {
            if event.measure_id.is_empty() {
                return Err(missing("MEASURE_MISSING", "measure_id"));
            }
            Ok(Protection::Ended {
                measure_id: event.measure_id.clone(),
                measure_version: event.measure_version,
            })
        }
        _ if granted.covers("record.protection") => seen(payload),
        _ => Ok(Protection::Untouched),
    }
}

fn in_force(measure_id: &str, measure_version: u32, level: i32) -> Result<Protection, Refusal> {
    if measure_id.is_empty() {
        return Err(missing("MEASURE_MISSING", "measure_id"));
    }
    // An unknown level protects in full.
    let level = match ProtectionLevel::try_from(level) {
        Ok(ProtectionLevel::Unspecified) | Err(_) => ProtectionLevel::Active,
        Ok(level) => level,
    };
    Ok(Protection::InForce {
        measure_id: measure_id.to_owned(),
        measure_version,
        level,
    })
}

fn seen(payload: &Payload) -> Result<Protection, Refusal> {
    let Some(record) = payload.record() else {
        return Ok(Protection::Untouched);
    };
    let flags = record
        .protection
        .as_ref()
        .map(|flags| (flags.level(), &flags.measure_ids));
    match flags {
        Some((ProtectionLevel::None, _)) => Ok(Protection::Untouched),
        Some((ProtectionLevel::Unspecified, _)) | None => {
            let message = "whether the person is protected is not told";
            Err(Refusal::reject(
                "PROTECTION_UNKNOWN",
                "record.protection",
                message,
            ))
        }
        Some((_, measure_ids)) if measure_ids.is_empty() => {
            Err(missing("MEASURE_MISSING", "record.protection.measure_ids"))
        }
        Some((_, measure_ids)) => Ok(Protection::Seen {
            measure_ids: measure_ids.clone(),
        }),
    }
}

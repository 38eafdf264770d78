//! What an event says about the state of a person (住民状態).
//! Some events set it by their meaning; the others only where the state itself is granted.
//! It must never close a person whose number goes on (帰化, 国籍喪失).
//! Read next: `tests.rs`.

use musubi_proto::standard::common::v1::{CancelKind, FlexibleDate, ResidentState};

use super::{Field, code};
use crate::granted::Granted;
use crate::payload::Payload;
use crate::receipt::Refusal;

/// 住民状態 and the day since which it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// 住民状態.
    pub state: ResidentState,
    /// Day of moving out, death or removal. Clear for a resident; untouched when it was not told.
    pub on: Field<FlexibleDate>,
}

/// Reads the state out of any event.
pub(super) fn of(
    payload: &Payload,
    granted: Granted<'_>,
    effective_on: Option<&FlexibleDate>,
) -> Result<Field<State>, Refusal> {
    let on = match payload {
        Payload::ResidentMovedIn(_)
        | Payload::ResidentRecordedByAuthority(_)
        | Payload::ResidentBorn(_) => {
            return Ok(Field::Set(State {
                state: ResidentState::Resident,
                on: Field::Clear,
            }));
        }
        Payload::ResidentDeletedByAuthority(event) if event.inherits_number => {
            return Ok(Field::Untouched);
        }
        Payload::ResidentDeletedByAuthority(event) => {
            Field::granted(granted.covers("deleted_on"), event.deleted_on.clone())
        }
        Payload::ResidentMovedOut(event) => {
            Field::granted(granted.covers("deleted_on"), event.deleted_on.clone())
        }
        Payload::ResidentDied(event) => {
            Field::granted(granted.covers("death_on"), event.death_on.clone())
        }
        // The cancelled entry is removed on the legal day of the cancellation.
        Payload::ResidentTransactionCancelled(event)
            if event.cancel_kind() == CancelKind::Decrease =>
        {
            Field::granted(effective_on.is_some(), effective_on.cloned())
        }
        _ => day_of_removal(payload, granted),
    };
    in_record(payload, granted, on)
}

/// The day on the record: of the removal, or else the confirmed one of moving out.
fn day_of_removal(payload: &Payload, granted: Granted<'_>) -> Field<FlexibleDate> {
    let deletion = payload.record().and_then(|record| record.deletion.as_ref());
    if granted.covers("record.deletion.deleted_on") {
        return Field::granted(true, deletion.and_then(|info| info.deleted_on.clone()));
    }
    let granted = granted.covers("record.deletion.moved_out_on");
    let day = deletion.and_then(|info| info.moved_out_on.clone());
    // Who died or was struck off has no day of moving out: that tells nothing about the other.
    Field::granted(granted && day.is_some(), day)
}

fn in_record(
    payload: &Payload,
    granted: Granted<'_>,
    on: Field<FlexibleDate>,
) -> Result<Field<State>, Refusal> {
    const PATH: &str = "record.resident_state";
    let Some(record) = payload.record() else {
        return Ok(Field::Untouched);
    };
    let state: Field<ResidentState> = code(granted.covers(PATH), record.resident_state, PATH)?;
    Ok(match state {
        // A state is never empty: an absent one is one that was not told.
        Field::Untouched | Field::Clear => Field::Untouched,
        Field::Set(state @ (ResidentState::Resident | ResidentState::ScheduledOut)) => {
            Field::Set(State {
                state,
                on: Field::Clear,
            })
        }
        Field::Set(state) => Field::Set(State { state, on }),
    })
}

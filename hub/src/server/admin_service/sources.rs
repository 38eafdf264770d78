//! Sources, as operators set them: how often each has to be heard.
//! Behind `AdminService.SetSourceRhythm`.
//! Must never touch a capture's epoch: a running capture goes on.
//! Read next: `store/alarms.rs`, `server/town/alarms.rs`.

use musubi_proto::hub::v1::{ActKind, SetSourceRhythmRequest, SetSourceRhythmResponse};

use super::words;
use crate::clock::now_ms;
use crate::limits::{SOURCE_RHYTHM_MAX, SOURCE_RHYTHM_MIN};
use crate::server::hub::Hub;
use crate::server::status::{Failure, invalid};
use crate::server::town::Town;
use crate::store::{NewAct, RhythmRow};

/// Sets or ends a source's rhythm.
pub(super) async fn set_rhythm(
    hub: &Hub,
    town: &Town,
    ask: SetSourceRhythmRequest,
) -> Result<SetSourceRhythmResponse, Failure> {
    words(&ask.operator, &ask.reason, [("source", &ask.source); 2])?;
    let rhythm_ms = match &ask.rhythm {
        None => None,
        Some(rhythm) => Some(checked(rhythm)?),
    };
    let m = &town.municipality;
    let store = &hub.commons.store;
    let before = store.rhythms(m).await?;
    let before = before.into_iter().find(|row| row.source == ask.source);
    let before = before.map(|row| duration(row.rhythm_ms));
    let note = rhythm_ms.map_or("none".to_owned(), |ms| format!("every {} s", ms / 1_000));
    let act = NewAct {
        target: ask.source.clone(),
        note: format!("rhythm {note}"),
        ..NewAct::now(ActKind::SourceRhythm as i32, &ask.operator, &ask.reason)
    };
    let row = RhythmRow {
        source: ask.source,
        rhythm_ms: rhythm_ms.unwrap_or(0),
        heard_ms: now_ms(),
    };
    store.put_rhythm(m, row, act).await?;
    Ok(SetSourceRhythmResponse {
        before,
        after: ask.rhythm,
    })
}

fn checked(rhythm: &prost_types::Duration) -> Result<i64, Failure> {
    let (least, most) = (SOURCE_RHYTHM_MIN.as_secs(), SOURCE_RHYTHM_MAX.as_secs());
    let seconds = u64::try_from(rhythm.seconds).unwrap_or(0);
    if rhythm.nanos != 0 || !(least..=most).contains(&seconds) {
        let message = format!("whole seconds, from {least} to {most}; none for no rhythm");
        return Err(invalid("rhythm", &message));
    }
    Ok(rhythm.seconds * 1_000)
}

fn duration(ms: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: ms / 1_000,
        nanos: 0,
    }
}

//! Alarms, as operators see them.
//! Behind `AdminService.ListAlarms`; looks anew for each question.
//! Must never show an alarm of a municipality that the caller does not operate.
//! Read next: `server/town/alarms.rs`.

use std::sync::Arc;

use musubi_proto::hub::v1::{Alarm as WireAlarm, ListAlarmsRequest, ListAlarmsResponse};

use super::page;
use crate::alarms::{Alarm, advice, severity};
use crate::clock::timestamp;
use crate::event::Municipality;
use crate::server::status::Failure;
use crate::server::town::{Town, alarm_place};

fn wire(m: &Municipality, alarm: &Alarm) -> WireAlarm {
    let kind = alarm.name.kind;
    WireAlarm {
        kind: kind as i32,
        severity: severity(kind) as i32,
        municipality: m.to_string(),
        subscription: alarm.name.subscription.clone(),
        source: alarm.name.source.clone(),
        reason: crate::telemetry::stable_reason(&alarm.reason).to_owned(),
        count: alarm.count,
        since: Some(timestamp(alarm.since_ms)),
        advice: advice(kind).to_owned(),
    }
}

/// A page of the alarms of these municipalities, which are in order.
pub(super) async fn list(
    towns: &[Arc<Town>],
    request: &ListAlarmsRequest,
) -> Result<ListAlarmsResponse, Failure> {
    let size = page(request.page_size);
    let mut response = ListAlarmsResponse::default();
    let mut last = String::new();
    for town in towns {
        let m = &town.municipality;
        for alarm in town.alarms().await? {
            let place = alarm_place(m, &alarm);
            if place <= request.page_token {
                continue;
            }
            if response.alarms.len() == size {
                response.next_page_token = last;
                return Ok(response);
            }
            response.alarms.push(wire(m, &alarm));
            last = place;
        }
    }
    Ok(response)
}

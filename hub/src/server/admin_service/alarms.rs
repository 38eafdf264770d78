//! Alarms, as operators see them.
//! Behind `AdminService.ListAlarms`; looks anew for each question.
//! Must never show an alarm of a municipality that the caller does not operate.
//! Read next: `server/town/alarms.rs`.

use std::sync::Arc;

use musubi_proto::hub::v1::admin_service_client::AdminServiceClient;
use musubi_proto::hub::v1::{Alarm as WireAlarm, ListAlarmsRequest, ListAlarmsResponse};

use tonic::{Request, Status};

use super::page;
use crate::alarms::{Alarm, advice, severity};
use crate::clock::timestamp;
use crate::event::Municipality;
use crate::limits::PEER_ANSWER;
use crate::server::cluster::Cluster;
use crate::server::cluster::forward::mark_passed_on;
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

/// The same page over all instances of a cluster: each knows the municipalities that it owns.
///
/// # Errors
/// When one of them does not answer: a list that lacks its alarms would look like a good one.
pub(super) async fn of_others(
    cluster: &Cluster,
    asked: &Request<ListAlarmsRequest>,
    here: ListAlarmsResponse,
) -> Result<ListAlarmsResponse, Status> {
    let others = cluster.owners.others().await.map_err(Failure::from)?;
    let answers = others.iter().map(|address| async move {
        let silent = || Failure::instance_silent(address);
        let channel = cluster.peer(address).ok_or_else(silent)?;
        let mut request = Request::new(asked.get_ref().clone());
        request.set_timeout(PEER_ANSWER);
        if let Some(token) = asked.metadata().get("authorization") {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        mark_passed_on(request.metadata_mut());
        let answer = AdminServiceClient::new(channel).list_alarms(request).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) if !status.details().is_empty() => Err(status),
            Err(_) => Err(silent().into()),
        }
    });
    let pages = futures::future::try_join_all(answers).await?;
    Ok(merge(pages, here, page(asked.get_ref().page_size)))
}

/// One page of several that begin behind the same place.
fn merge(
    pages: Vec<ListAlarmsResponse>,
    here: ListAlarmsResponse,
    size: usize,
) -> ListAlarmsResponse {
    let mut more = false;
    let mut alarms = Vec::new();
    for page in pages.into_iter().chain([here]) {
        more |= !page.next_page_token.is_empty();
        alarms.extend(page.alarms);
    }
    alarms.sort_by_cached_key(place);
    // Two of them say the same while a municipality changes hands.
    alarms.dedup_by(|later, kept| place(later) == place(kept));
    more |= alarms.len() > size;
    alarms.truncate(size);
    let last = alarms.last().filter(|_| more);
    ListAlarmsResponse {
        next_page_token: last.map(place).unwrap_or_default(),
        alarms,
    }
}

fn place(alarm: &WireAlarm) -> String {
    let Some(m) = Municipality::parse(&alarm.municipality) else {
        return String::new();
    };
    alarm_place(&m, alarm.kind, &alarm.subscription, &alarm.source)
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
            let name = &alarm.name;
            let place = alarm_place(m, name.kind as i32, &name.subscription, &name.source);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(towns: &[&str], more: bool) -> ListAlarmsResponse {
        let alarm = |code: &&str| WireAlarm {
            municipality: (*code).to_owned(),
            kind: 1,
            ..WireAlarm::default()
        };
        let next = if more { "more" } else { "" };
        ListAlarmsResponse {
            alarms: towns.iter().map(alarm).collect(),
            next_page_token: next.to_owned(),
        }
    }

    #[test]
    fn pages_of_all_instances_make_one_in_order_that_goes_on_where_it_ends() {
        let (here, there) = (
            page_of(&["131016", "232033"], false),
            page_of(&["141003"], true),
        );
        let codes = |page: &ListAlarmsResponse| -> Vec<String> {
            let alarms = page.alarms.iter();
            alarms.map(|alarm| alarm.municipality.clone()).collect()
        };
        let all = merge(vec![there.clone()], here.clone(), 5);
        assert_eq!(codes(&all), ["131016", "141003", "232033"]);
        assert!(all.next_page_token.starts_with("232033"));
        let cut = merge(vec![there], here.clone(), 2);
        assert_eq!(codes(&cut), ["131016", "141003"]);
        assert!(cut.next_page_token.starts_with("141003"));
        let whole = merge(vec![here.clone()], here, 5);
        assert_eq!(
            (codes(&whole).len(), whole.next_page_token.as_str()),
            (2, "")
        );
    }
}

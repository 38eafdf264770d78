//! A 届出 of several persons is one unit, however its receiver takes it.

use musubi_proto::hub::v1::{Capabilities, Event, Group, UnitScope};

use super::stage::{Adapter, FLAG, Hub, ids, moved, unit};

const TAX: &str = "142042/010";

/// Three persons of one household who move, as one 届出.
fn family() -> Vec<Event> {
    let names = ["0000000001", "0000000002", "0000000003"];
    let mut events: Vec<Event> = names.iter().map(|name| moved(name, 1)).collect();
    for (seq, event) in (1..).zip(&mut events) {
        let id = "G0000001".to_owned();
        event.group = Some(Group { id, seq, size: 3 });
    }
    events
}

#[tokio::test]
async fn a_receiver_of_groups_gets_the_whole_notification_as_one_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("010", "kaede").await;
    let events = family();
    let published: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    hub.publish(vec![unit(events)]).await;
    let groups = Capabilities {
        unit_scope: UnitScope::Group as i32,
        ..FLAG
    };
    let mut kaede = Adapter::attach_with(&hub, "010", "kaede", groups).await;
    let delivery = kaede.delivery().await;
    assert_eq!(ids(&delivery), published);
    let whole = &delivery.units[0];
    assert_eq!((whole.sequence, whole.member, whole.group_size), (1, 0, 3));
    kaede.apply(&delivery).await;
    let seen = hub.wait_for(TAX, "the unit is done", |found| found.complete_up_to == 1);
    assert_eq!(seen.await.counts.unwrap().applied, 3);
    hub.stop().await;
}

#[tokio::test]
async fn a_receiver_of_events_gets_the_members_of_one_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("010", "kaede").await;
    let events = family();
    let published: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    hub.publish(vec![unit(events)]).await;
    let mut kaede = Adapter::attach_with(&hub, "010", "kaede", FLAG).await;
    let mut members = Vec::new();
    for _ in 0..3 {
        let delivery = kaede.delivery().await;
        let one = &delivery.units[0];
        assert_eq!((one.sequence, one.group_size), (1, 3));
        members.push((one.member, ids(&delivery).remove(0)));
        // The unit is not complete before its last member has an outcome.
        assert_eq!(hub.subscription(TAX).await.complete_up_to, 0);
        kaede.apply(&delivery).await;
    }
    members.sort();
    let expected: Vec<(u32, String)> = (1..).zip(published).collect();
    assert_eq!(members, expected);
    hub.wait_for(TAX, "the unit is done", |found| found.complete_up_to == 1)
        .await;
    hub.stop().await;
}

//! Protected persons (支援措置) at a product that cannot hold the flag.

use musubi_proto::hub::v1::attach_request::Request as Ask;
use musubi_proto::hub::v1::{Capabilities, Credits, Delivery, Hello, Subscription};
use musubi_proto::standard::resident::v1::{ResidentMovedWithin, SupportMeasureStarted};
use prost::Message;

use super::stage::{Adapter, FLAG, Hub, MOVED, event, moved, unit};

const STARTED: &str = "musubi.standard.resident.v1.SupportMeasureStarted";
const EXAMPLE: &str = include_str!("../../../schemas/examples/support_measure_started.json");
const NO_FLAG: Capabilities = Capabilities {
    protection_flag: false,
    ..FLAG
};

pub(crate) fn started(name: &str, version: u32) -> musubi_proto::hub::v1::Event {
    let pool = musubi_proto::descriptor_pool();
    let descriptor = pool.get_message_by_name(STARTED).unwrap();
    let mut json = serde_json::Deserializer::from_str(EXAMPLE);
    let message = prost_reflect::DynamicMessage::deserialize(descriptor, &mut json).unwrap();
    let message: SupportMeasureStarted = message.transcode_to().unwrap();
    event(name, version, STARTED, message.encode_to_vec())
}

/// The address of a delivered move, and whether its path is granted.
fn address(delivery: &Delivery) -> (bool, bool) {
    let delivered = &delivery.units[0].events[0];
    let event = delivered.event.as_ref().unwrap();
    assert_eq!(event.r#type, MOVED);
    let moved = ResidentMovedWithin::decode(&event.data[..]).unwrap();
    let record = moved.record.unwrap();
    let granted = delivered.granted_paths.iter();
    (
        record.address.is_some(),
        granted
            .into_iter()
            .any(|path| path.contains("address") && path != "record.address_since"),
    )
}

#[tokio::test]
async fn an_address_is_withheld_also_when_the_measure_began_after_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("010", "kaede").await;
    hub.bind("024", "momiji").await;
    hub.accept(moved("0000000001", 1)).await;
    hub.accept(moved("0000000002", 1)).await;
    hub.accept(started("0000000001", 2)).await;
    // The protection overtakes; the move before it is delivered with what holds now.
    let mut momiji = Adapter::attach_with(&hub, "024", "momiji", NO_FLAG).await;
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    for (adapter, holds) in [(&mut momiji, false), (&mut kaede, true)] {
        let mut seen = 0;
        for _ in 0..3 {
            let delivery = adapter.delivery().await;
            let event = delivery.units[0].events[0].event.clone().unwrap();
            match (event.r#type.as_str(), event.subject.as_str()) {
                (MOVED, "0000000001") => assert_eq!(address(&delivery), (holds, holds)),
                (MOVED, _) => assert_eq!(address(&delivery), (true, true)),
                _ => {}
            }
            adapter.apply(&delivery).await;
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
    hub.stop().await;
}

#[tokio::test]
async fn protection_is_remembered_over_a_restart_and_for_later_events() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("024", "momiji").await;
    hub.accept(started("0000000001", 1)).await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    // The record of the example says "not protected": the hub knows better.
    hub.accept(moved("0000000001", 2)).await;
    let mut momiji = Adapter::attach_with(&hub, "024", "momiji", NO_FLAG).await;
    let first = momiji.delivery().await;
    let second = momiji.delivery().await;
    let is_move =
        |delivery: &Delivery| delivery.units[0].events[0].event.as_ref().unwrap().r#type == MOVED;
    let moved = if is_move(&first) { first } else { second };
    assert_eq!(address(&moved), (false, false));
    hub.stop().await;
}

/// More than the hub holds in memory for one subscription.
const BACKLOG: u32 = musubi_hub::limits::WINDOW_UNITS as u32 + 300;

#[tokio::test]
async fn protection_overtakes_a_backlog_that_is_larger_than_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("024", "momiji").await;
    let names: Vec<String> = (1..=BACKLOG).map(|n| format!("{n:010}")).collect();
    for page in names.chunks(500) {
        let units = page.iter().map(|name| unit(vec![moved(name, 1)]));
        hub.publish(units.collect()).await;
    }
    hub.accept(started("9000000001", 1)).await;
    let hello = Hello {
        municipality: "142042".to_owned(),
        system: "024".to_owned(),
        product: "momiji".to_owned(),
        adapter_version: "1".to_owned(),
        capabilities: Some(FLAG),
    };
    let mut momiji = Adapter::try_hello(&hub, hello).await.unwrap();
    let one = || Ask::Credits(Credits { add: 1 });
    momiji.say(one()).await;
    let mut before = 0;
    loop {
        let delivery = momiji.delivery().await;
        let event = delivery.units[0].events[0].event.clone().unwrap();
        momiji.apply(&delivery).await;
        if event.r#type == STARTED {
            break;
        }
        before += 1;
        assert!(before < 50, "the measure waits behind the backlog");
    }
    // Everything else follows, and the measure does not come again.
    for _ in 0..20 {
        momiji.say(Ask::Credits(Credits { add: 100 })).await;
    }
    for _ in before..BACKLOG {
        let delivery = momiji.delivery().await;
        let event = delivery.units[0].events[0].event.clone().unwrap();
        assert_eq!(event.r#type, MOVED);
        momiji.apply(&delivery).await;
    }
    let all = u64::from(BACKLOG) + 1;
    let done = |own: &Subscription| own.complete_up_to == all;
    hub.wait_for("142042/024", "everything is done", done).await;
    hub.stop().await;
}

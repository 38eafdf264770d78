//! Adapters that break the protocol are refused by name, and nothing changes.

use musubi_proto::hub::v1::attach_request::Request as Ask;
use musubi_proto::hub::v1::attach_response::Response as Tell;
use musubi_proto::hub::v1::{Credits, Hello, Outcome, Receipt};
use tonic::Code;

use super::stage::{Adapter, FLAG, Hub, TOWN, failed, moved, told};

const PRODUCT: &str = "tax";

fn hello() -> Hello {
    Hello {
        municipality: TOWN.to_owned(),
        system: "010".to_owned(),
        product: PRODUCT.to_owned(),
        adapter_version: "1".to_owned(),
        capabilities: Some(FLAG),
    }
}

#[tokio::test]
async fn a_wrong_hello_is_refused_with_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("010", PRODUCT).await;
    let but = |change: fn(&mut Hello)| {
        let mut hello = hello();
        change(&mut hello);
        hello
    };
    let wrong = [
        (but(|h| h.municipality.clear()), "municipality"),
        (
            but(|h| "142041".clone_into(&mut h.municipality)),
            "municipality",
        ),
        (but(|h| h.system.clear()), "hello.system"),
        (but(|h| "01０".clone_into(&mut h.system)), "hello.system"),
        (but(|h| h.product.clear()), "hello.product"),
        (but(|h| h.adapter_version.clear()), "hello.adapter_version"),
        (
            but(|h| h.adapter_version = "9".repeat(201)),
            "hello.adapter_version",
        ),
        (
            but(|h| "1\n2".clone_into(&mut h.adapter_version)),
            "hello.adapter_version",
        ),
    ];
    for (hello, field) in wrong {
        let error = Adapter::try_hello(&hub, hello).await.err().unwrap();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(
            failed(&error),
            ("INVALID_FIELD".to_owned(), field.to_owned())
        );
    }
    for hello in [
        but(|h| "039".clone_into(&mut h.system)),
        but(|h| "nobody".clone_into(&mut h.product)),
    ] {
        let error = Adapter::try_hello(&hub, hello).await.err().unwrap();
        assert_eq!(
            failed(&error),
            ("NOT_BOUND".to_owned(), "product".to_owned())
        );
    }
    let own = hub.subscription("142042/010").await;
    assert!(!own.bindings[0].attached);
    hub.stop().await;
}

#[tokio::test]
async fn absurd_credits_and_a_second_hello_end_the_stream_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("010", PRODUCT).await;
    let wrong = [
        (Ask::Credits(Credits { add: u32::MAX }), "credits.add"),
        (Ask::Credits(Credits { add: 10_001 }), "credits.add"),
        (Ask::Hello(hello()), "hello"),
    ];
    for (said, field) in wrong {
        let mut adapter = Adapter::attach(&hub, "010", PRODUCT).await;
        adapter.say(said).await;
        let error = adapter.end().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(
            failed(&error),
            ("INVALID_FIELD".to_owned(), field.to_owned())
        );
    }
    // What was refused left no credit behind: the next stream works with its own.
    let mut adapter = Adapter::attach(&hub, "010", PRODUCT).await;
    hub.accept(moved("0000000001", 1)).await;
    let delivery = adapter.delivery().await;
    adapter.apply(&delivery).await;
    hub.wait_for("142042/010", "applied", |own| {
        own.counts.unwrap().applied == 1
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn a_receipt_for_what_was_never_sent_and_a_second_receipt_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("010", PRODUCT).await;
    let mut adapter = Adapter::attach(&hub, "010", PRODUCT).await;
    hub.accept(moved("0000000001", 1)).await;
    hub.accept(moved("0000000002", 1)).await;
    let first = adapter.delivery().await;
    let second = adapter.delivery().await;
    for id in ["", "142042/010#99-1", "142042/024#1-1"] {
        let receipt = Receipt {
            delivery_id: id.to_owned(),
            outcome: Outcome::Applied as i32,
            ..Receipt::default()
        };
        adapter.say(Ask::Receipt(receipt)).await;
    }
    adapter.apply(&first).await;
    adapter.answer(&first, Outcome::Rejected, "TWICE").await;
    adapter.apply(&second).await;
    let own = hub
        .wait_for("142042/010", "both applied", |own| {
            own.counts.unwrap().applied == 2
        })
        .await;
    assert_eq!((own.counts.unwrap().rejected, own.in_flight), (0, 0));
    let mut refused = Vec::new();
    while refused.len() < 4 {
        match adapter.hear().await {
            Some(Tell::Refused(word)) => {
                let found = told(&word.status.unwrap());
                let field = "receipt.delivery_id".to_owned();
                assert_eq!(found, ("NOT_LEASED".to_owned(), field));
                refused.push(word.delivery_id);
            }
            Some(Tell::CompleteUpTo(_)) => {}
            other => panic!("no refusal but {other:?}"),
        }
    }
    let expected = ["", "142042/010#99-1", "142042/024#1-1", &first.delivery_id];
    assert_eq!(refused, expected);
    hub.stop().await;
}

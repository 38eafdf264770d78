//! F1 to F7, F10 and F12: wrong, large, doubled and foreign data.
//! A clean answer, nothing kept of what was refused, and the hub goes on.
//! Must never ask less of a wrong request than its reason and field.
//! Read next: `data/content.rs`, `data/broken.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a row fails by a panic, which its report names"
)]

mod broken;
mod content;

use std::path::Path;

use musubi_e2e::event::moved;
use musubi_e2e::hub::reason_and_field;
use musubi_e2e::receiver::Receiver;
use musubi_e2e::{Client, Hub};
use musubi_proto::google::rpc::Status as RpcStatus;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Accepted, Capabilities, Event, Stream};

use crate::judged::judged;
use crate::row::{Row, RowReport};
use crate::wire::Wire;

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";

/// F1 to F7, F10, F12.
pub const ROWS: &[Row] = &[
    Row {
        name: "F1",
        what: "the same id again, with the same and with other content",
        accept: "same acknowledgement and no second entry; refused as ALREADY_EXISTS",
        count: 3,
        run: |ctx| judged(content::f1(ctx)),
    },
    Row {
        name: "F2",
        what: "a version is left out, repeated, or goes back",
        accept: "held or refused, never delivered out of order",
        count: 2,
        run: |ctx| judged(content::f2(ctx)),
    },
    Row {
        name: "F3",
        what: "an enum value and a field that the contract does not know",
        accept: "refused; kept, and withheld from receivers",
        count: 1,
        run: |ctx| judged(content::f3(ctx)),
    },
    Row {
        name: "F4",
        what: "older and newer sources, adapters and hubs",
        accept: "what is unknown is passed over or refused by name, I1–I3: 0",
        count: 1,
        run: |ctx| judged(content::f4(ctx)),
    },
    Row {
        name: "F5",
        what: "messages that are too large, too many, or too deep",
        accept: "refused, memory at most 32 MiB more",
        count: 1,
        run: |ctx| judged(broken::f5(ctx)),
    },
    Row {
        name: "F6",
        what: "broken frames, broken messages, and valid requests changed at random",
        accept: "a status for each, no panic, nothing of it kept",
        count: 20000,
        run: |ctx| judged(broken::f6(ctx)),
    },
    Row {
        name: "F7",
        what: "a compression bomb",
        accept: "refused, memory at most 32 MiB more",
        count: 1,
        run: |ctx| judged(broken::f7(ctx)),
    },
    Row {
        name: "F10",
        what: "empty values and the longest ones",
        accept: "taken whole or refused with the field, never cut",
        count: 1,
        run: |ctx| judged(content::f10(ctx)),
    },
    Row {
        name: "F12",
        what: "ids of a clock that goes back",
        accept: "accepted; an id is only an identifier",
        count: 20,
        run: |ctx| judged(content::f12(ctx)),
    },
];

struct Scene {
    client: Client,
    hub: Hub,
    wire: Wire,
}

async fn scene(folder: &Path) -> Scene {
    let hub = Hub::start(folder).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let wire = Wire::connect(&hub).await.unwrap();
    Scene { client, hub, wire }
}

impl Scene {
    async fn say(&self, event: Event) -> Answer {
        let answers = self.client.publish(vec![vec![event]]).await.unwrap();
        answers.into_iter().next().unwrap().answer.unwrap()
    }

    async fn accept(&self, event: Event) -> Accepted {
        match self.say(event).await {
            Answer::Accepted(accepted) => accepted,
            other => panic!("not accepted: {other:?}"),
        }
    }

    async fn logged(&self) -> Vec<Event> {
        let stored = self.client.log(Stream::Live).await.unwrap();
        stored
            .into_iter()
            .map(|stored| stored.event.unwrap())
            .collect()
    }

    /// So much was tried, and every rule held.
    async fn report(&self, injected: u64, notes: Vec<String>) -> RowReport {
        RowReport {
            injected,
            published: self.logged().await.len() as u64,
            notes,
            ..RowReport::default()
        }
    }

    fn resident(&mut self) -> u64 {
        self.hub.process().resident_bytes().unwrap()
    }

    /// Right events pass, and the hub never panicked.
    async fn assert_sound(&mut self, subject: &str) {
        self.accept(moved(subject, 1).unwrap()).await;
        self.hub.process().must_run().unwrap();
        let log = self.hub.process().log_text().unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[track_caller]
fn refused(answer: Answer) -> (RpcStatus, String, String) {
    let Answer::Refused(status) = answer else {
        panic!("not refused: {answer:?}");
    };
    let (reason, field) = reason_and_field(&status);
    (status, reason, field)
}

fn attach_capabilities() -> Capabilities {
    Capabilities {
        protection_flag: true,
        idempotent: true,
        ..Capabilities::default()
    }
}

async fn receiver(scene: &Scene) -> Receiver {
    Receiver::attach_when_bound(&scene.client, SYSTEM, PRODUCT, attach_capabilities())
        .await
        .unwrap()
}

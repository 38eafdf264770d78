//! F1 to F7, F10 and F12: wrong, large, doubled and foreign data.
//! A clean answer, nothing kept of what was refused, and the hub goes on.
//! Must never ask less of a wrong request than its reason and field.
//! Read next: `../data.rs`, `../wire.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a row fails by a panic, which its report names"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use musubi_e2e::event::{event, moved, moved_within};
use musubi_e2e::hub::{reason_and_field, reason_and_field_of};
use musubi_e2e::receiver::{Receiver, receipt};
use musubi_e2e::{Client, Hub};
use musubi_proto::google::rpc::Status as RpcStatus;
use musubi_proto::hub::v1::attach_request::Request;
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Accepted, AttachRequest, AttachResponse, Capabilities, Event, Hello, Outcome, PublishRequest,
    PublishResponse, Receipt, Stream,
};
use prost::Message;
use tonic::Code;
use uuid::{NoContext, Timestamp, Uuid};

use crate::data::{fuzz, request, unit};
use crate::judged::judged;
use crate::load::Taker;
use crate::row::{Ctx, Row, RowReport};
use crate::wire::{ATTACH, PUBLISH, Wire, field, frame, nested_groups, varint};

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";
const MIB: usize = 1024 * 1024;
/// How much more a hub may hold after a wrong request.
const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// F1 to F7, F10, F12.
pub const ROWS: &[Row] = &[
    Row {
        name: "F1",
        what: "the same id again, with the same and with other content",
        accept: "same acknowledgement and no second entry; refused as ALREADY_EXISTS",
        count: 3,
        run: |ctx| judged(f1(ctx)),
    },
    Row {
        name: "F2",
        what: "a version is left out, repeated, or goes back",
        accept: "held or refused, never delivered out of order",
        count: 2,
        run: |ctx| judged(f2(ctx)),
    },
    Row {
        name: "F3",
        what: "an enum value and a field that the contract does not know",
        accept: "refused; kept, and withheld from receivers",
        count: 1,
        run: |ctx| judged(f3(ctx)),
    },
    Row {
        name: "F4",
        what: "older and newer sources, adapters and hubs",
        accept: "what is unknown is passed over or refused by name, I1–I3: 0",
        count: 1,
        run: |ctx| judged(f4(ctx)),
    },
    Row {
        name: "F5",
        what: "messages that are too large, too many, or too deep",
        accept: "refused, memory at most 32 MiB more",
        count: 1,
        run: |ctx| judged(f5(ctx)),
    },
    Row {
        name: "F6",
        what: "broken frames, broken messages, and valid requests changed at random",
        accept: "a status for each, no panic, nothing of it kept",
        count: 20000,
        run: |ctx| judged(f6(ctx)),
    },
    Row {
        name: "F7",
        what: "a compression bomb",
        accept: "refused, memory at most 32 MiB more",
        count: 1,
        run: |ctx| judged(f7(ctx)),
    },
    Row {
        name: "F10",
        what: "empty values and the longest ones",
        accept: "taken whole or refused with the field, never cut",
        count: 1,
        run: |ctx| judged(f10(ctx)),
    },
    Row {
        name: "F12",
        what: "ids of a clock that goes back",
        accept: "accepted; an id is only an identifier",
        count: 20,
        run: |ctx| judged(f12(ctx)),
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

async fn f1(ctx: Ctx) -> RowReport {
    let scene = scene(&ctx.folder).await;
    let first = moved("0000012345", 1).unwrap();
    let accepted = scene.accept(first.clone()).await;
    for _ in 0..3 {
        let again = scene.accept(first.clone()).await;
        assert_eq!(again.position, accepted.position);
        assert!(again.duplicate);
    }
    let mut payload = moved_within().unwrap();
    payload
        .record
        .as_mut()
        .unwrap()
        .address
        .as_mut()
        .unwrap()
        .building = "他".to_owned();
    let other = event("0000012345", 1, payload.encode_to_vec());
    let other = Event {
        id: first.id.clone(),
        ..other
    };
    let (status, reason, field) = refused(scene.say(other).await);
    assert_eq!(status.code, Code::AlreadyExists as i32);
    assert_eq!(reason, "ID_REUSED");
    assert!(field.ends_with("id"), "{field}");
    let logged = scene.logged().await;
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0].data, first.data);
    scene.report(4, Vec::new()).await
}

async fn f2(ctx: Ctx) -> RowReport {
    let scene = scene(&ctx.folder).await;
    let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
    let person = "0000012345";
    for version in [1, 2] {
        scene.accept(moved(person, version).unwrap()).await;
    }
    for version in [4, 5] {
        let answer = scene.say(moved(person, version).unwrap()).await;
        assert!(matches!(answer, Answer::Held(_)), "{answer:?}");
    }
    for (version, expected) in [(2, "VERSION_REUSED"), (1, "VERSION_GOES_BACK")] {
        let (_, reason, field) = refused(scene.say(moved(person, version).unwrap()).await);
        assert_eq!(reason, expected);
        assert!(field.ends_with("subject_version"), "{field}");
    }
    scene.accept(moved(person, 3).unwrap()).await;
    scene.client.wait_until_logged(5).await.unwrap();
    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let versions: Vec<u32> = taker
        .journal()
        .effects
        .iter()
        .map(|effect| effect.2)
        .collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
    scene.report(4, Vec::new()).await
}

async fn f3(ctx: Ctx) -> RowReport {
    let scene = scene(&ctx.folder).await;
    let mut payload = moved_within().unwrap();
    payload.record.as_mut().unwrap().gender = 99;
    let wrong = event("0000012345", 1, payload.encode_to_vec());
    let (_, reason, name) = refused(scene.say(wrong).await);
    assert_eq!(reason, "UNKNOWN_ENUM_VALUE");
    assert!(name.ends_with("data.record.gender"), "{name}");
    // A field that was given another type.
    let retyped = [vec![0x08], varint(7)].concat();
    let (_, reason, _) = refused(scene.say(event("0000012345", 1, retyped)).await);
    assert_eq!(reason, "UNDECODABLE_PAYLOAD");

    let secret = b"a later edition's item";
    let mut data = moved("0000012345", 1).unwrap().data.to_vec();
    data.extend(field(19_000, secret));
    let right = event("0000012345", 1, data.clone());
    scene.accept(right).await;
    assert_eq!(scene.logged().await[0].data, data, "kept as it came");
    let mut receiver = receiver(&scene).await;
    receiver.allow(1).await.unwrap();
    let delivery = receiver.delivery().await.unwrap();
    let bytes = delivery.encode_to_vec();
    assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    receiver.answer(&delivery, Outcome::Applied).await.unwrap();
    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    scene.report(3, Vec::new()).await
}

async fn f4(ctx: Ctx) -> RowReport {
    let mut scene = scene(&ctx.folder).await;
    // A newer source: fields of the request and of the envelope that this hub does not know.
    let later = field(900, b"later");
    let mut bytes = request(vec![unit(vec![moved("0000012345", 1).unwrap()])]).encode_to_vec();
    bytes.extend(&later);
    let said = scene.wire.message(PUBLISH, &bytes).await.unwrap();
    assert_eq!(said.code(), Some(Code::Ok));
    let answers = PublishResponse::decode(said.message()).unwrap().answers;
    assert!(matches!(answers[0].answer, Some(Answer::Accepted(_))));
    // A stream that this hub does not know must not land in one that it knows.
    let unknown = PublishRequest {
        stream: 7,
        ..request(vec![unit(vec![moved("0000012353", 1).unwrap()])])
    };
    let error = scene.client.events().publish(unknown).await.unwrap_err();
    let found = reason_and_field_of(&error);
    assert_eq!(found, ("INVALID_FIELD".to_owned(), "stream".to_owned()));

    // A newer adapter says Hello with more in it, then something that this hub cannot name.
    let mut hello = Hello {
        municipality: musubi_e2e::hub::MUNICIPALITY.to_owned(),
        system: SYSTEM.to_owned(),
        product: PRODUCT.to_owned(),
        adapter_version: "9.0".to_owned(),
        capabilities: None,
    }
    .encode_to_vec();
    hello.extend(&later);
    // Fields of AttachRequest: 1 is Hello, 2 credits of one.
    let said = [field(1, &hello), later.clone(), field(2, &[8, 1])];
    let body: Vec<u8> = said.iter().flat_map(|message| frame(0, message)).collect();
    let heard = scene.wire.send(ATTACH, &[], body).await.unwrap();
    assert_eq!(heard.code(), Some(Code::Ok), "{heard:?}");
    let first = usize::from(heard.body[4]);
    let welcome = AttachResponse::decode(&heard.body[5..5 + first]).unwrap();
    assert!(matches!(welcome.response, Some(Response::Welcome(_))));

    // An outcome of a later edition says nothing: the unit is delivered again.
    let mut receiver = receiver(&scene).await;
    receiver.allow(10).await.unwrap();
    let taken = receiver.delivery().await.unwrap();
    let unknown = Receipt {
        outcome: 77,
        ..receipt(&taken, Outcome::Applied)
    };
    receiver.send(unknown).await.unwrap();
    let again = receiver.delivery().await.unwrap();
    assert_eq!(again.units, taken.units);
    receiver.answer(&again, Outcome::Applied).await.unwrap();
    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    scene.assert_sound("0000012361").await;
    scene.report(5, Vec::new()).await
}

/// Requests that are too large or too deep, each with what it is called.
fn oversized() -> Vec<(&'static str, Vec<u8>)> {
    let event = |data: Vec<u8>| {
        let event = event("0000012345", 1, data);
        request(vec![unit(vec![event])]).encode_to_vec()
    };
    let record = moved("0000012345", 1).unwrap().data.to_vec();
    let entry = field(500, &[field(1, b"k"), field(2, b"v")].concat());
    let mut deep = record;
    for _ in 0..101 {
        deep = field(1, &deep);
    }
    let many = request(vec![unit(vec![moved("0000012345", 1).unwrap()]); 10_000]);
    vec![
        ("4 MiB and one byte", vec![0; 4 * MIB + 1]),
        ("10,000 units", many.encode_to_vec()),
        (
            "10,000 repeated fields",
            event(field(1, &[]).repeat(10_000)),
        ),
        ("101 levels of messages", event(deep)),
        ("101 groups in the payload", event(nested_groups(500, 101))),
        ("101 groups in the request", nested_groups(500, 101)),
        ("a map of a million keys", event(entry.repeat(1_000_000))),
        ("256 KiB of a map", event(entry.repeat(20_000))),
    ]
}

async fn f5(ctx: Ctx) -> RowReport {
    let mut notes = Vec::new();
    let mut scene = scene(&ctx.folder).await;
    scene.assert_sound("0000012353").await;
    for (what, bytes) in oversized() {
        let before = scene.resident();
        let said = scene.wire.message(PUBLISH, &bytes).await.unwrap();
        let grown = scene.resident().saturating_sub(before);
        notes.push(format!("{what}: {:?}, {grown} bytes more", said.code()));
        assert!(grown <= GROWTH_BYTES_MAX, "{what}: {grown}");
        match said.code() {
            Some(Code::Ok) => {
                let answers = PublishResponse::decode(said.message()).unwrap().answers;
                let answer = answers.into_iter().next().unwrap().answer.unwrap();
                let (_, reason, field) = refused(answer);
                assert!(!reason.is_empty() && !field.is_empty(), "{what}");
            }
            Some(Code::OutOfRange | Code::InvalidArgument | Code::Internal) => {}
            other => panic!("{what}: {other:?} {said:?}"),
        }
    }
    assert_eq!(scene.logged().await.len(), 1, "nothing of them is kept");
    scene.assert_sound("0000012361").await;
    scene.report(8, notes).await
}

async fn f6(ctx: Ctx) -> RowReport {
    let mut report = f6_frames(ctx.within("frames")).await;
    report.add(f6_changed(ctx.within("changed")).await);
    report
}

async fn f6_frames(ctx: Ctx) -> RowReport {
    let mut notes = Vec::new();
    let mut scene = scene(&ctx.folder).await;
    let right = request(vec![unit(vec![moved("0000012345", 1).unwrap()])]).encode_to_vec();
    let text_that_is_none = field(1, &[0xff, 0xfe]);
    let half = frame(0, &right)[..right.len() / 2].to_vec();
    let mut long = frame(0, &right);
    long[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    let cases = [
        ("malformed protobuf", frame(0, &[0xff; 64])),
        ("a wrong wire type", frame(0, &[0x08, 0x01])),
        ("text that is no UTF-8", frame(0, &text_that_is_none)),
        ("a frame that ends early", half),
        ("a frame of 4 GiB", long),
        ("a compressed flag without encoding", frame(1, &right)),
        ("a flag of another kind", frame(7, &right)),
        ("no frame at all", Vec::new()),
        ("half a frame's head", vec![0, 0]),
    ];
    for (what, body) in cases {
        let said = scene.wire.send(PUBLISH, &[], body).await.unwrap();
        let code = said.code();
        notes.push(format!("{what}: {code:?}"));
        let clean = [
            Code::InvalidArgument,
            Code::Internal,
            Code::OutOfRange,
            Code::Unimplemented,
        ];
        assert!(
            code.is_some_and(|code| clean.contains(&code)),
            "{what}: {said:?}"
        );
    }
    assert!(scene.logged().await.is_empty());
    scene.assert_sound("0000012361").await;
    scene.report(9, notes).await
}

async fn f6_changed(ctx: Ctx) -> RowReport {
    let mut scene = scene(&ctx.folder).await;
    let fuzzed = fuzz(&scene.hub, u64::from(ctx.count), ctx.seed)
        .await
        .unwrap();
    assert!(
        fuzzed.violations.is_empty(),
        "{:?}",
        &fuzzed.violations[..5]
    );
    assert_eq!(fuzzed.sent, u64::from(ctx.count));
    assert!(fuzzed.codes.len() > 3, "{:?}", fuzzed.codes);
    // What was kept can be read, and is delivered.
    let kept = scene.logged().await.len();
    let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
    scene.assert_sound("0000012361").await;
    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    assert_eq!(taker.journal().effects.len(), kept + 1);
    scene
        .report(fuzzed.sent, vec![format!("{:?}", fuzzed.codes)])
        .await
}

/// So many bytes of zero, by `gzip`.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..mebibytes {
            input.write_all(&vec![0; MIB]).unwrap();
        }
    });
    let output = gzip.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

async fn f7(ctx: Ctx) -> RowReport {
    let mut notes = Vec::new();
    let mut scene = scene(&ctx.folder).await;
    scene.assert_sound("0000012353").await;
    let bomb = bomb(200);
    assert!(bomb.len() < MIB, "200 MiB in {} bytes", bomb.len());
    let before = scene.resident();
    for encoding in ["gzip", "deflate", "zstd", "identity"] {
        let headers = [("grpc-encoding", encoding)];
        let said = scene.wire.send(PUBLISH, &headers, frame(1, &bomb)).await;
        let code = said.unwrap().code();
        notes.push(format!("{encoding}: {code:?}"));
        assert!(
            matches!(code, Some(Code::Unimplemented | Code::Internal)),
            "{encoding}: {code:?}"
        );
    }
    let grown = scene.resident().saturating_sub(before);
    assert!(grown <= GROWTH_BYTES_MAX, "{grown}");
    scene.assert_sound("0000012361").await;
    scene.report(4, notes).await
}

fn with_building(version: u32, text: &str) -> Event {
    let mut payload = moved_within().unwrap();
    let record = payload.record.as_mut().unwrap();
    text.clone_into(&mut record.address.as_mut().unwrap().building);
    event("0000012345", version, payload.encode_to_vec())
}

async fn f10(ctx: Ctx) -> RowReport {
    let scene = scene(&ctx.folder).await;
    let mut version = 0;
    let mut sent = Vec::new();
    // Four bytes and one character each: characters count, not bytes.
    for length in [0, 1, 300, 301] {
        let event = with_building(version + 1, &"𠮷".repeat(length));
        match scene.say(event.clone()).await {
            Answer::Accepted(_) => {
                version += 1;
                sent.push(event.data);
            }
            answer => {
                let (_, reason, field) = refused(answer);
                assert_eq!((reason.as_str(), length), ("TEXT_TOO_LONG", 301));
                assert!(field.ends_with("record.address.building"), "{field}");
            }
        }
    }
    assert_eq!(version, 3);
    let logged: Vec<_> = scene.logged().await.into_iter().map(|e| e.data).collect();
    assert_eq!(logged, sent);

    let longest = "1".repeat(15);
    scene.accept(moved(&longest, 1).unwrap()).await;
    let wrong = [
        (
            moved(&"1".repeat(16), 1).unwrap(),
            "TEXT_TOO_LONG",
            "subject",
        ),
        (moved("", 1).unwrap(), "MISSING_FIELD", "subject"),
        (event("0000012353", 1, Vec::new()), "MISSING_FIELD", "data"),
        (
            event("0000012353", 0, vec![8]),
            "MISSING_FIELD",
            "subject_version",
        ),
    ];
    for (event, expected, name) in wrong {
        let (_, reason, field) = refused(scene.say(event).await);
        assert_eq!(reason, expected);
        assert!(field.ends_with(name), "{field}");
    }
    let empty = scene.client.publish(Vec::new()).await.unwrap();
    assert!(empty.is_empty());
    let unsaid = AttachRequest {
        request: Some(Request::Hello(Hello::default())),
    };
    let said = scene.wire.message(ATTACH, &unsaid.encode_to_vec()).await;
    assert_eq!(said.unwrap().code(), Some(Code::InvalidArgument));
    scene.report(8, Vec::new()).await
}

async fn f12(ctx: Ctx) -> RowReport {
    let scene = scene(&ctx.folder).await;
    let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
    let mut ids = Vec::new();
    for version in 1..=20_u32 {
        // A day earlier each time.
        let seconds = 1_790_000_000 - u64::from(version) * 86_400;
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)).to_string();
        ids.push(id.clone());
        let event = moved("0000012345", version).unwrap();
        scene.accept(Event { id, ..event }).await;
    }
    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let effects = taker.journal().effects;
    let applied: Vec<&String> = effects.iter().map(|effect| &effect.0).collect();
    assert_eq!(applied, ids.iter().collect::<Vec<_>>());
    scene.report(20, Vec::new()).await
}

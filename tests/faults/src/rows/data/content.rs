//! F1 to F4, F10 and F12: doubled, missing, foreign and extreme values.
//! Each is answered by name, and what is kept is kept as it came.
//! Must never ask less of a wrong request than its reason and field.
//! Read next: `broken.rs`.

use musubi_e2e::event::{event, moved, moved_within};
use musubi_e2e::hub::reason_and_field_of;
use musubi_e2e::receiver::receipt;
use musubi_proto::hub::v1::attach_request::Request;
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    AttachRequest, AttachResponse, Event, Hello, Outcome, PublishRequest, PublishResponse, Receipt,
};
use prost::Message;
use tonic::Code;
use uuid::{NoContext, Timestamp, Uuid};

use super::{PRODUCT, SYSTEM, receiver, refused, scene};
use crate::data::{request, unit};
use crate::load::Taker;
use crate::row::{Ctx, RowReport};
use crate::wire::{ATTACH, PUBLISH, field, frame, varint};

pub(super) async fn f1(ctx: Ctx) -> RowReport {
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

pub(super) async fn f2(ctx: Ctx) -> RowReport {
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

pub(super) async fn f3(ctx: Ctx) -> RowReport {
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

pub(super) async fn f4(ctx: Ctx) -> RowReport {
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

fn with_building(version: u32, text: &str) -> Event {
    let mut payload = moved_within().unwrap();
    let record = payload.record.as_mut().unwrap();
    text.clone_into(&mut record.address.as_mut().unwrap().building);
    event("0000012345", version, payload.encode_to_vec())
}

pub(super) async fn f10(ctx: Ctx) -> RowReport {
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

pub(super) async fn f12(ctx: Ctx) -> RowReport {
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

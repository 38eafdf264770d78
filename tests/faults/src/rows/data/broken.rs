//! F5 to F7: what is too large, too deep, broken, or blown up.
//! A status for each, and little memory.
//! Must never take the end of a connection for an answer.
//! Read next: `../../wire.rs`, `../../data.rs`.

use std::io::Write;
use std::process::{Command, Stdio};

use musubi_e2e::event::{event, moved};
use musubi_proto::hub::v1::PublishResponse;
use prost::Message;
use tonic::Code;

use super::{PRODUCT, SYSTEM, refused, scene};
use crate::data::{fuzz, request, unit};
use crate::load::Taker;
use crate::row::{Ctx, RowReport};
use crate::wire::{PUBLISH, field, frame, nested_groups};

const MIB: usize = 1024 * 1024;
/// How much more a hub may hold after a wrong request.
const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;

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

pub(super) async fn f5(ctx: Ctx) -> RowReport {
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

pub(super) async fn f6(ctx: Ctx) -> RowReport {
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

pub(super) async fn f7(ctx: Ctx) -> RowReport {
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

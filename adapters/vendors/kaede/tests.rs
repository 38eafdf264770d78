//! What leaves for Kaede, and what its answers come to.

use std::path::Path;
use std::time::Duration;

use musubi_adapter_sdk::hub::{Mode, Outcome};
use musubi_adapter_sdk::{Deliver, Translate};
use musubi_products::{HttpArgs, kaede};
use musubi_proto::standard::common::v1::ResidentRecord;
use serde_json::{Value, json};

use super::deliver::Kaede;
use super::translate::{Request, Translator};
use super::{Config, open};
use crate::connectors::testing::{
    Script, ScriptedProduct, WHOLE_RECORD, corrected, delivery, event, measure_ended,
    measure_started, moved_in, moved_out, of_person, protected, record, single, snapshot_header,
    told, unit,
};

fn body(event: musubi_adapter_sdk::hub::DeliveredEvent) -> Value {
    match Translator.translate(&unit("k", 1, vec![event])).unwrap() {
        Request::Person { body, .. } => body.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_record_becomes_a_registration() {
    let event = of_person(&moved_in(protected(record(), &["S1", "S2"])), WHOLE_RECORD);
    let request = Translator
        .translate(&unit("k", 1, vec![event.clone()]))
        .unwrap();
    assert!(matches!(
        request,
        Request::Person {
            creates: true,
            version: 4,
            ..
        }
    ));
    let expected = json!({
        "rireki": 4, "shimei": "\u{20bb7}田　愛", "shimeiKana": "ヨシダ　アイ",
        "tsusho": "見本　愛", "tsushoKana": "ミホン　アイ",
        "umare": "昭和21-02-29", "umareFusho": "昭和２１年２月２９日",
        "seibetsu": "F", "kubun": "G",
        "jusho": "神奈川県鎌倉市鎌倉山三丁目２０番１８号　海岸荘　１０４", "yubin": "2480031",
        "jushoSadame": "令和8-02-24", "jushoSadameFusho": null,
        "setai": "0050001466", "setainushi": "0001002872", "zokugara": "子の妻",
        "jotai": "ZAIJU", "jotaiHi": null, "jotaiHiFusho": null, "hogoTsuika": ["S1", "S2"],
    });
    assert_eq!(body(event), expected);
}

#[test]
fn what_is_not_granted_is_not_named_and_what_is_absent_is_cleared() {
    let bare = ResidentRecord::default();
    let paths = ["record.name", "record.alias", "record.head"];
    let cleared = json!({
        "rireki": 4, "shimei": null, "shimeiKana": null, "tsusho": null, "tsushoKana": null,
        "setainushi": null,
    });
    assert_eq!(body(of_person(&corrected(bare), &paths)), cleared);
    assert_eq!(
        body(of_person(&corrected(record()), &[])),
        json!({ "rireki": 4 })
    );
    let without_address: Vec<&str> = WHOLE_RECORD
        .iter()
        .copied()
        .filter(|path| *path != "record.address")
        .collect();
    let body = body(of_person(&corrected(record()), &without_address));
    assert!(
        body.get("jusho").is_none() && body.get("yubin").is_none(),
        "{body}"
    );
}

#[test]
fn a_move_out_tells_state_and_day() {
    let paths = ["record.resident_state", "deleted_on"];
    let body = body(of_person(&moved_out(record()), &paths));
    let expected = json!({
        "rireki": 4, "jotai": "TENSHUTSU", "jotaiHi": "令和8-03-09", "jotaiHiFusho": null,
    });
    assert_eq!(body, expected);
}

#[test]
fn what_kaede_cannot_hold_is_refused_with_its_field() {
    let mut nameless = record();
    nameless.birth_on = None;
    for (payload, person, field) in [
        (corrected(nameless), "0001002880", "record.birth_on"),
        (corrected(record()), "../1", "subject"),
    ] {
        let unit = unit("k", 1, vec![event(person, 4, &payload, WHOLE_RECORD)]);
        let refusal = Translator.translate(&unit).unwrap_err();
        assert_eq!(
            (refusal.reason.as_str(), refusal.field.as_str()),
            ("UNMAPPABLE", field)
        );
    }
}

#[tokio::test]
async fn requests_carry_key_method_and_path() {
    let product = ScriptedProduct::start(vec![Script::json(200, "{}")]).await;
    let adapter = Kaede::new(&Config::new(&product.address)).unwrap();
    for payload in [
        moved_in(record()),
        corrected(record()),
        measure_started(2),
        measure_ended(3),
    ] {
        adapter
            .deliver(single("key-1", of_person(&payload, &["measure_id"])))
            .await;
    }
    let requests = product.requests();
    for (request, line) in requests.iter().zip([
        "PUT /api/nozeisha/0001002880 HTTP",
        "PATCH /api/nozeisha/0001002880 HTTP",
        "PUT /api/nozeisha/0001002880/hogo/S000012 HTTP",
        "PUT /api/nozeisha/0001002880/hogo/S000012 HTTP",
    ]) {
        assert!(request.starts_with(line), "{request}");
        assert!(request.contains("idempotency-key: key-1\r\n"), "{request}");
        assert!(
            request.contains("content-type: application/json\r\n"),
            "{request}"
        );
    }
    assert!(
        requests[2].ends_with(r#"{"han":2,"shuryo":false}"#),
        "{}",
        requests[2]
    );
    assert!(
        requests[3].ends_with(r#"{"han":3,"shuryo":true}"#),
        "{}",
        requests[3]
    );
}

/// Delivers once to each scripted product and compares what the receipt tells.
async fn check(cases: Vec<(Script, &str)>) {
    for (script, expected) in cases {
        let product = ScriptedProduct::start(vec![script.clone()]).await;
        let config = Config {
            request_timeout_ms: 300,
            ..Config::new(&product.address)
        };
        let adapter = open(config).await.unwrap();
        let receipt = adapter
            .deliver(single("k", of_person(&corrected(record()), &[])))
            .await;
        assert_eq!(told(&receipt), expected, "{script:?}");
        assert!(!receipt.message.contains("山田"), "{}", receipt.message);
        assert_eq!(
            product.requests().len(),
            1,
            "an adapter never repeats: {script:?}"
        );
        if expected == "RETRY BUSY" {
            let seconds = receipt.retry_after.unwrap().seconds;
            assert!(seconds == 7 || seconds == 1, "{seconds}");
        }
    }
}

#[tokio::test]
async fn each_answer_has_its_outcome() {
    let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","setsumei":"山田"}}}}"#);
    let held = |held: u32| {
        format!(r#"{{"error":{{"code":"FURUI_RIREKI","setsumei":"…"}},"hojiRireki":{held}}}"#)
    };
    let refused = r#"{"error":{"code":"NAGASA","komoku":"jusho","setsumei":"山田　太郎"}}"#;
    check(vec![
        (
            Script::json(201, r#"{"kekka":"TOROKU","rireki":4}"#),
            "APPLIED",
        ),
        (
            Script::json(200, r#"{"kekka":"KOSHIN","rireki":4}"#),
            "APPLIED",
        ),
        (
            Script::json(200, r#"{"kekka":"SUMI","rireki":4}"#),
            "DUPLICATE",
        ),
        (Script::json(409, &held(6)), "SUPERSEDED"),
        (Script::json(409, &held(4)), "DUPLICATE"),
        (Script::json(409, &held(3)), "UNKNOWN UNPROMISED_ANSWER"),
        (
            Script::json(404, &error("MITOROKU")),
            "NOT_RELEVANT UNKNOWN_PERSON",
        ),
        (Script::json(400, refused), "REJECTED NAGASA jusho"),
        (Script::bare(503, "Retry-After: 7"), "RETRY BUSY"),
        (Script::bare(429, "X-A: b"), "RETRY BUSY"),
        (Script::bare(401, "X-A: b"), "PAUSE CREDENTIALS"),
        (Script::bare(405, "X-A: b"), "PAUSE CONFIGURATION"),
        (
            Script::bare(302, "Location: http://127.0.0.1:1/"),
            "PAUSE CONFIGURATION",
        ),
        (Script::bare(413, "X-A: b"), "REJECTED TOO_LARGE"),
        (Script::bare(500, "X-A: b"), "UNKNOWN UNPROMISED_ANSWER"),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_is_not_promised_proves_nothing() {
    check(vec![
        (Script::json(200, "{}"), "UNKNOWN UNPROMISED_ANSWER"),
        (
            Script::json(200, r#"{"kekka":"KOSHIN","rireki":5}"#),
            "UNKNOWN UNPROMISED_ANSWER",
        ),
        (
            Script::json(201, r#"{"kekka":"KOSHIN","rireki":4}"#),
            "UNKNOWN UNPROMISED_ANSWER",
        ),
        (Script::json(200, "<html>"), "UNKNOWN UNPROMISED_ANSWER"),
        (Script::json(404, "<html>"), "UNKNOWN UNPROMISED_ANSWER"),
        (Script::json(400, "<html>"), "UNKNOWN UNPROMISED_ANSWER"),
        (
            Script::half(r#"{"kekka":"KOSHIN","rireki":4}"#),
            "UNKNOWN CONNECTION_LOST",
        ),
        (
            Script::Say("garbage\r\n\r\n".to_owned()),
            "UNKNOWN CONNECTION_LOST",
        ),
        (Script::Hang, "UNKNOWN CONNECTION_LOST"),
        (Script::Keep, "UNKNOWN TIMED_OUT"),
        (
            Script::json(200, &"x".repeat(100_000)),
            "UNKNOWN ANSWER_TOO_LARGE",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_product_that_is_away_is_tried_later_and_nothing_was_sent() {
    let adapter = open(Config::new("http://127.0.0.1:1")).await.unwrap();
    let receipt = adapter
        .deliver(single("k", of_person(&corrected(record()), &[])))
        .await;
    assert_eq!(told(&receipt), "RETRY UNREACHABLE");
}

#[tokio::test]
async fn nothing_is_sent_for_headers_shadows_and_what_cannot_be_expressed() {
    let product = ScriptedProduct::start(vec![Script::json(200, "{}")]).await;
    let adapter = open(Config::new(&product.address)).await.unwrap();
    let header = adapter.deliver(single("k", snapshot_header())).await;
    assert_eq!(told(&header), "NOT_RELEVANT NO_PERSON");
    let event = of_person(&moved_in(record()), WHOLE_RECORD);
    let shadow = delivery(vec![unit("k", 1, vec![event.clone()])], Mode::Shadow);
    assert_eq!(told(&adapter.deliver(shadow).await), "NOT_RELEVANT SHADOW");
    let keyless = adapter.deliver(single("a b", event)).await;
    assert_eq!(told(&keyless), "REJECTED KEY_UNUSABLE idempotency_key");
    assert!(product.requests().is_empty());
}

#[tokio::test]
async fn measures_have_versions_of_their_own() {
    let older = r#"{"error":{"code":"FURUI_HAN","setsumei":"…"},"hojiHan":5}"#;
    for (script, outcome) in [
        (
            Script::json(200, r#"{"kekka":"KOSHIN","han":2,"mitoroku":true}"#),
            Outcome::Applied,
        ),
        (
            Script::json(200, r#"{"kekka":"SUMI","han":2}"#),
            Outcome::Duplicate,
        ),
        (Script::json(409, older), Outcome::Superseded),
        (
            Script::json(404, r#"{"error":{"code":"MITOROKU"}}"#),
            Outcome::Unknown,
        ),
    ] {
        let product = ScriptedProduct::start(vec![script]).await;
        let adapter = open(Config::new(&product.address)).await.unwrap();
        let event = of_person(&measure_started(2), &["measure_id", "measure_version"]);
        assert_eq!(adapter.deliver(single("k", event)).await.outcome(), outcome);
    }
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    for address in [
        "",
        "ftp://a",
        "https://a",
        "http://",
        "a:80",
        "http://a/?b=c",
    ] {
        assert!(open(Config::new(address)).await.is_err(), "{address}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_by_its_key_before_anything_is_sent() {
    let missing = r#"{"error":{"code":"MITOROKU","setsumei":"…"}}"#;
    let known = r#"{"renban":1,"key":"k","atenabango":"0001002880","rireki":4}"#;
    let other = r#"{"renban":1,"key":"another","atenabango":"0001002880","rireki":4}"#;
    let applied = Script::json(200, r#"{"kekka":"KOSHIN","rireki":4}"#);
    for (script, expected, requests) in [
        (vec![Script::json(200, known)], "DUPLICATE", 1),
        (
            vec![Script::json(200, other)],
            "UNKNOWN UNPROMISED_ANSWER",
            1,
        ),
        (vec![Script::json(404, missing), applied], "APPLIED", 2),
        (vec![Script::Hang], "UNKNOWN CONNECTION_LOST", 1),
    ] {
        let product = ScriptedProduct::start(script).await;
        let adapter = open(Config::new(&product.address)).await.unwrap();
        let mut delivery = single("k", of_person(&corrected(record()), &[]));
        delivery.outcome_unknown = true;
        assert_eq!(told(&adapter.deliver(delivery).await), expected);
        let asked = product.requests();
        assert_eq!(asked.len(), requests, "{asked:?}");
        assert!(asked[0].starts_with("GET /api/jisseki/k HTTP"), "{asked:?}");
    }
}

/// The stand-in product, on a free port.
async fn start_product(folder: &Path) -> String {
    let address_file = folder.join("address");
    let http = HttpArgs {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: folder.join("data"),
        address_file: Some(address_file.clone()),
    };
    tokio::spawn(kaede::run(kaede::Args {
        http,
        flaky: 0,
        seed: 1,
    }));
    let wait = async {
        loop {
            if let Ok(address) = std::fs::read_to_string(&address_file) {
                return address;
            }
            tokio::task::yield_now().await;
        }
    };
    format!(
        "http://{}",
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_takes_every_form_of_request() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = open(Config::new(start_product(folder.path()).await))
        .await
        .unwrap();
    let protected = protected(record(), &["S1"]);
    let mut long = record();
    long.name.as_mut().unwrap().full_name = "長".repeat(101);
    for (key, event, expected) in [
        (
            "k0",
            of_person(&corrected(record()), WHOLE_RECORD),
            "NOT_RELEVANT UNKNOWN_PERSON",
        ),
        (
            "k1",
            of_person(&moved_in(protected.clone()), WHOLE_RECORD),
            "APPLIED",
        ),
        (
            "k1",
            of_person(&moved_in(protected), WHOLE_RECORD),
            "DUPLICATE",
        ),
        (
            "k2",
            of_person(&corrected(record()), WHOLE_RECORD),
            "DUPLICATE",
        ),
        (
            "k3",
            event("0001002880", 3, &corrected(record()), &[]),
            "SUPERSEDED",
        ),
        (
            "k4",
            event("0001002880", 5, &corrected(long), WHOLE_RECORD),
            "REJECTED NAGASA shimei",
        ),
        (
            "k5",
            event(
                "0001002880",
                5,
                &moved_out(record()),
                &["record.resident_state", "deleted_on"],
            ),
            "APPLIED",
        ),
    ] {
        assert_eq!(
            told(&adapter.deliver(single(key, event)).await),
            expected,
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_takes_every_form_of_a_measure() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = open(Config::new(start_product(folder.path()).await))
        .await
        .unwrap();
    for (key, event, expected) in [
        (
            "k6",
            event("0001002880", 0, &measure_started(2), &["measure_id"]),
            "APPLIED",
        ),
        (
            "k6",
            event("0001002880", 0, &measure_started(2), &["measure_id"]),
            "DUPLICATE",
        ),
        (
            "k7",
            event("0001002880", 0, &measure_ended(1), &["measure_id"]),
            "SUPERSEDED",
        ),
        (
            "k8",
            event("9", 0, &measure_started(1), &["measure_id"]),
            "APPLIED",
        ),
    ] {
        assert_eq!(
            told(&adapter.deliver(single(key, event)).await),
            expected,
            "{key}"
        );
    }
}

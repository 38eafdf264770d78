//! What leaves for Ayame, and what its answers come to.

use std::path::Path;
use std::time::Duration;

use musubi_adapter_sdk::Translate;
use musubi_adapter_sdk::hub::{DeliveredEvent, Mode};
use musubi_products::{HttpArgs, ayame};
use musubi_proto::standard::common::v1::{ForeignCategory, ResidentRecord};
use serde_json::{Value, json};

use super::translate::{Request, Translator};
use super::{Config, open};
use crate::connectors::testing::{
    Script, ScriptedProduct, WHOLE_RECORD, corrected, date, delivery, event, measure_ended,
    measure_started, moved_in, moved_out, of_person, protected, record, single, snapshot_header,
    told, told_units, unit,
};

fn body(event: DeliveredEvent) -> Value {
    match Translator.translate(&unit("k", 1, vec![event])).unwrap() {
        Request::Change { body, .. } => body.into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_record_becomes_a_registration() {
    let event = of_person(&moved_in(protected(record(), &["S1"])), WHOLE_RECORD);
    let expected = json!({
        "kind": "register",
        "set": {
            "name": {"full": "\u{20bb7}田　愛", "reading": "ヨシダ　アイ"},
            "alias": {"full": "見本　愛", "reading": "ミホン　アイ"},
            "birth": {"date": "1946-02-29", "wording": "昭和２１年２月２９日"},
            "sex": "female", "nationalityClass": "foreign",
            "headOfHousehold": "0001002872",
            "stay": {"category": "mid_to_long_term", "expires": "2028-08-29"},
            "residence": {"status": "resident", "on": null},
        },
        "address": {
            "from": {"date": "2026-02-24"}, "prefecture": "神奈川県", "city": "鎌倉市",
            "town": "鎌倉山三丁目", "lot": "２０番１８号", "building": "海岸荘\n１０４",
            "postalCode": "2480031",
        },
        "confidentialSeen": ["S1"],
    });
    assert_eq!(body(event), expected);
}

#[test]
fn what_is_not_granted_is_not_named_and_what_is_absent_is_cleared() {
    let paths = [
        "record.name",
        "record.alias",
        "record.head",
        "record.address",
        "record.foreign",
    ];
    let cleared = json!({
        "kind": "amend", "address": null,
        "set": {"name": null, "alias": null, "headOfHousehold": null, "stay": null},
    });
    assert_eq!(
        body(of_person(&corrected(ResidentRecord::default()), &paths)),
        cleared
    );
    assert_eq!(
        body(of_person(&corrected(record()), &[])),
        json!({ "kind": "amend" })
    );
    let mut kanaless = record();
    kanaless.name.as_mut().unwrap().furigana.clear();
    let set = body(of_person(&corrected(kanaless), &["record.name"]))["set"].take();
    assert_eq!(
        set,
        json!({"name": {"full": "\u{20bb7}田　愛", "reading": null}})
    );
    let only_kana = body(of_person(&corrected(record()), &["record.name.furigana"]))["set"].take();
    assert_eq!(only_kana, json!({"name": {"reading": "ヨシダ　アイ"}}));
}

#[test]
fn an_address_is_whole_or_not_told() {
    let since_alone = body(of_person(&corrected(record()), &["record.address_since"]));
    assert_eq!(since_alone, json!({ "kind": "amend" }));
    let without_since = body(of_person(&corrected(record()), &["record.address"]));
    assert!(without_since["address"].get("from").is_none());
    let mut undated = record();
    undated.address_since = None;
    let paths = ["record.address", "record.address_since"];
    assert_eq!(
        body(of_person(&corrected(undated), &paths))["address"]["from"],
        Value::Null
    );
}

#[test]
fn states_and_stays_have_their_own_forms() {
    let paths = ["record.resident_state", "deleted_on"];
    let set = body(of_person(&moved_out(record()), &paths))["set"].take();
    assert_eq!(
        set,
        json!({"residence": {"status": "moved_out", "on": {"date": "2026-03-09"}}})
    );
    let mut forever = record();
    let foreign = forever.foreign.as_mut().unwrap();
    foreign.period_expires_on = date("9999-12-31", "");
    foreign.set_category(ForeignCategory::SpecialPermanent);
    let set = body(of_person(&corrected(forever), &["record.foreign"]))["set"].take();
    assert_eq!(
        set,
        json!({"stay": {"category": "special_permanent", "expires": "indefinite"}})
    );
}

#[test]
fn what_ayame_cannot_hold_is_refused_with_its_field() {
    let mut dayless = record();
    dayless.birth_on = date("", "年月日不詳");
    let unit = unit("k", 1, vec![of_person(&corrected(dayless), WHOLE_RECORD)]);
    let refusal = Translator.translate(&unit).unwrap_err();
    assert_eq!(refusal.reason, "UNMAPPABLE");
    assert_eq!(refusal.field, "record.birth_on");
}

#[tokio::test]
async fn requests_carry_id_version_and_path() {
    let product = ScriptedProduct::start(vec![Script::json(200, "{}")]).await;
    let adapter = open(Config::new(&product.address)).await.unwrap();
    for payload in [corrected(record()), measure_started(2), measure_ended(3)] {
        adapter
            .deliver(single("key-1", of_person(&payload, &["measure_id"])))
            .await;
    }
    let requests = product.requests();
    for (request, line) in requests.iter().zip([
        "POST /v2/persons/0001002880/changes HTTP",
        "PUT /v2/persons/0001002880/confidential/S000012 HTTP",
        "PUT /v2/persons/0001002880/confidential/S000012 HTTP",
    ]) {
        assert!(request.starts_with(line), "{request}");
        assert!(request.contains(r#""changeId":"key-1""#), "{request}");
    }
    assert!(requests[0].contains("if-version: 4\r\n"), "{}", requests[0]);
    assert!(
        requests[1].contains(r#""ended":false,"version":2"#),
        "{}",
        requests[1]
    );
    assert!(
        requests[2].contains(r#""ended":true,"version":3"#),
        "{}",
        requests[2]
    );
}

#[tokio::test]
async fn each_answer_has_its_outcome() {
    let held = |held: u32| {
        format!(r#"{{"error":{{"code":"version_not_newer","detail":"…"}},"heldVersion":{held}}}"#)
    };
    let refused = r#"{"error":{"code":"too_long","property":"set.name.full","detail":"山田"}}"#;
    let unknown = r#"{"error":{"code":"unknown_person","detail":"…"}}"#;
    let cases = [
        (
            Script::json(200, r#"{"result":"applied","version":4}"#),
            "APPLIED",
        ),
        (
            Script::json(200, r#"{"result":"already_applied","version":4}"#),
            "DUPLICATE",
        ),
        (Script::json(409, &held(6)), "SUPERSEDED"),
        (Script::json(409, &held(4)), "DUPLICATE"),
        (Script::json(404, unknown), "NOT_RELEVANT UNKNOWN_PERSON"),
        (
            Script::json(422, refused),
            "REJECTED TOO_LONG set.name.full",
        ),
        (Script::bare(503, "Retry-After: 3"), "RETRY BUSY"),
        (Script::bare(403, "X-A: b"), "PAUSE CREDENTIALS"),
        (Script::json(200, "{}"), "UNKNOWN UNPROMISED_ANSWER"),
        (
            Script::json(200, r#"{"result":"applied","version":5}"#),
            "UNKNOWN UNPROMISED_ANSWER",
        ),
        (Script::json(200, "<html>"), "UNKNOWN UNPROMISED_ANSWER"),
        (Script::json(404, "{}"), "UNKNOWN UNPROMISED_ANSWER"),
        (
            Script::half(r#"{"result":"applied","version":4}"#),
            "UNKNOWN CONNECTION_LOST",
        ),
        (Script::Hang, "UNKNOWN CONNECTION_LOST"),
        (Script::Keep, "UNKNOWN TIMED_OUT"),
    ];
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
    }
    let adapter = open(Config::new("http://127.0.0.1:1")).await.unwrap();
    assert_eq!(
        told(&adapter.deliver(single("k", snapshot_header())).await),
        "NOT_RELEVANT NO_PERSON"
    );
}

/// Delivers changes of three persons as one batch; what each unit was told.
async fn batch(script: Script) -> (Vec<String>, Vec<String>) {
    let product = ScriptedProduct::start(vec![script]).await;
    let adapter = open(Config::new(&product.address)).await.unwrap();
    let units = (1..=3_u64).map(|number| {
        let event = event(&format!("{number}"), 4, &moved_in(record()), WHOLE_RECORD);
        unit(&format!("k{number}"), number, vec![event])
    });
    let receipt = adapter.deliver(delivery(units.collect(), Mode::Live)).await;
    (told_units(&receipt), product.requests())
}

#[tokio::test]
async fn changes_of_a_batch_share_a_request_and_have_their_own_answers() {
    let lines = concat!(
        r#"{"line":1,"no":"1","status":200,"result":"applied","version":4}"#,
        "\n",
        r#"{"line":2,"no":"2","status":409,"error":{"code":"version_not_newer"},"heldVersion":9}"#,
        "\n",
        r#"{"line":3,"no":"3","status":422,"error":{"code":"bad_date","property":"set.birth"}}"#,
        "\n"
    );
    let (told, requests) = batch(Script::json(200, lines)).await;
    assert_eq!(
        told,
        ["APPLIED", "SUPERSEDED", "REJECTED BAD_DATE set.birth"]
    );
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].starts_with("POST /v2/bulk HTTP"),
        "{}",
        requests[0]
    );
    let body = requests[0].split_once("\r\n\r\n").unwrap().1;
    let sent: Vec<Value> = body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, number) in sent.iter().zip(["1", "2", "3"]) {
        assert_eq!(line["no"], number);
        assert_eq!(line["ifVersion"], 4);
        assert_eq!(line["changeId"], format!("k{number}"));
        assert_eq!(line["kind"], "register");
    }
}

#[tokio::test]
async fn a_line_without_its_own_answer_is_unknown_and_a_busy_product_is_tried_later() {
    let lines = concat!(
        r#"{"line":1,"no":"1","status":200,"result":"applied","version":4}"#,
        "\n",
        r#"{"line":3,"no":"2","status":200,"result":"applied","version":4}"#,
        "\n"
    );
    let unknown = "UNKNOWN UNPROMISED_ANSWER";
    assert_eq!(
        batch(Script::json(200, lines)).await.0,
        ["APPLIED", unknown, unknown]
    );
    assert_eq!(
        batch(Script::half(lines)).await.0,
        ["UNKNOWN CONNECTION_LOST"; 3]
    );
    assert_eq!(
        batch(Script::bare(503, "Retry-After: 1")).await.0,
        ["RETRY BUSY"; 3]
    );
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_for_by_its_key_before_anything_is_sent() {
    let missing = r#"{"error":{"code":"unknown_change","detail":"…"}}"#;
    let known = r#"{"seq":1,"changeId":"k","no":"0001002880","version":4,"measure":null}"#;
    let applied = Script::json(200, r#"{"result":"applied","version":4}"#);
    for (script, expected, requests) in [
        (vec![Script::json(200, known)], "DUPLICATE", 1),
        (vec![Script::json(404, missing), applied], "APPLIED", 2),
        (vec![Script::json(404, "")], "UNKNOWN UNPROMISED_ANSWER", 1),
        (vec![Script::bare(503, "Retry-After: 3")], "RETRY BUSY", 1),
    ] {
        let product = ScriptedProduct::start(script).await;
        let adapter = open(Config::new(&product.address)).await.unwrap();
        let mut delivery = single("k", of_person(&corrected(record()), &[]));
        delivery.outcome_unknown = true;
        assert_eq!(told(&adapter.deliver(delivery).await), expected);
        let asked = product.requests();
        assert_eq!(asked.len(), requests, "{asked:?}");
        assert!(asked[0].starts_with("GET /v2/applied/k HTTP"), "{asked:?}");
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
    tokio::spawn(ayame::run(ayame::Args { http }));
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
    let mut homeless = record();
    homeless.address = None;
    for (key, mode, event, expected) in [
        (
            "k0",
            Mode::Live,
            of_person(&corrected(record()), WHOLE_RECORD),
            "NOT_RELEVANT UNKNOWN_PERSON",
        ),
        (
            "k1",
            Mode::Backfill,
            of_person(&moved_in(protected), WHOLE_RECORD),
            "APPLIED",
        ),
        (
            "k1",
            Mode::Backfill,
            of_person(&moved_in(record()), WHOLE_RECORD),
            "DUPLICATE",
        ),
        (
            "k2",
            Mode::Live,
            of_person(&corrected(record()), WHOLE_RECORD),
            "DUPLICATE",
        ),
        (
            "k3",
            Mode::Backfill,
            event("0001002880", 3, &corrected(record()), &[]),
            "SUPERSEDED",
        ),
        (
            "k4",
            Mode::Live,
            event("0001002880", 5, &corrected(long), WHOLE_RECORD),
            "REJECTED TOO_LONG set.name.full",
        ),
        (
            "k5",
            Mode::Live,
            event(
                "0001002880",
                5,
                &moved_out(record()),
                &["record.resident_state", "deleted_on"],
            ),
            "APPLIED",
        ),
        (
            "k6",
            Mode::Live,
            event("0001002880", 6, &corrected(homeless), &["record.address"]),
            "APPLIED",
        ),
    ] {
        let delivery = delivery(vec![unit(key, 1, vec![event])], mode);
        assert_eq!(told(&adapter.deliver(delivery).await), expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_takes_every_form_of_a_measure() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = open(Config::new(start_product(folder.path()).await))
        .await
        .unwrap();
    for (key, mode, event, expected) in [
        (
            "k7",
            Mode::Backfill,
            of_person(&measure_started(2), &["measure_id"]),
            "APPLIED",
        ),
        (
            "k7",
            Mode::Live,
            of_person(&measure_started(2), &["measure_id"]),
            "DUPLICATE",
        ),
        (
            "k8",
            Mode::Live,
            of_person(&measure_ended(1), &["measure_id"]),
            "SUPERSEDED",
        ),
        (
            "k9",
            Mode::Live,
            event("9", 0, &measure_started(1), &["measure_id"]),
            "APPLIED",
        ),
    ] {
        let delivery = delivery(vec![unit(key, 1, vec![event])], mode);
        assert_eq!(told(&adapter.deliver(delivery).await), expected, "{key}");
    }
}

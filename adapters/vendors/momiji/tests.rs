//! What is written for Momiji, and what its results come to: against the stand-in product.

use std::sync::Arc;
use std::time::Duration;

use musubi_adapter_sdk::hub::{DeliveredEvent, Delivery, Mode};
use musubi_adapter_sdk::{Deliver, Translate};
use musubi_products::momiji;
use musubi_proto::standard::common::v1::ResidentRecord;
use sqlx::{AnyPool, Row};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::answer::{self, ResultRow};
use super::translate::{Action, Member, Translator};
use super::{Config, open};
use crate::connectors::testing::{
    WHOLE_RECORD, corrected, date, delivery, event, measure_ended, measure_started, moved_in,
    moved_out, of_person, protected, record, single, snapshot_header, told, told_units, unit,
};

fn members(events: Vec<DeliveredEvent>) -> Vec<Member> {
    Translator.translate(&unit("k", 1, events)).unwrap()
}

fn items(event: DeliveredEvent) -> Vec<String> {
    let members = members(vec![event]);
    let items = members[0].items.iter();
    items
        .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-")))
        .collect()
}

#[test]
fn a_whole_record_becomes_a_registering_row() {
    let event = of_person(&moved_in(protected(record(), &["S1", "S2"])), WHOLE_RECORD);
    let expected = [
        "banchi=２０番１８号",
        "gaikoku_jumin_ymd=20230514",
        "gaikoku_kbn=G1",
        "jotai_fusho=-",
        "jotai_kbn=10",
        "jotai_ymd=-",
        "jumin_fusho=-",
        "jumin_kbn=02",
        "jumin_ymd=20230514",
        "jutei_fusho=-",
        "jutei_ymd=20260224",
        "katagaki=海岸荘\n１０４",
        "ken=神奈川県",
        "machi=鎌倉山三丁目",
        "machi_cd=0012003",
        "nushi_misettei=0",
        "nushi_no=0001002872",
        "seibetsu=2",
        "setai_no=0050001466",
        "shi=鎌倉市",
        "shimei=\u{20bb7}田　愛",
        "shimei_kana=ヨシダ　アイ",
        "tsusho=見本　愛",
        "tsusho_kana=ミホン　アイ",
        "umare_fusho=昭和２１年２月２９日",
        "umare_ymd=19460229",
        "yubin_no=2480031",
        "zairyu_kikan=３年",
        "zairyu_manryo=20280829",
        "zairyu_shikaku=留学",
        "zokugara=子の妻",
    ];
    assert_eq!(items(event.clone()), expected);
    let member = members(vec![event]).remove(0);
    assert_eq!((member.action, member.version), (Action::Register, 4));
    assert_eq!(member.seen, ["S1", "S2"]);
}

#[test]
fn what_is_not_granted_is_not_named_and_what_is_absent_is_cleared() {
    assert!(items(of_person(&corrected(record()), &[])).is_empty());
    let bare = of_person(
        &corrected(ResidentRecord::default()),
        &["record.address", "record.head"],
    );
    let cleared = [
        "banchi=-",
        "katagaki=-",
        "ken=-",
        "machi=-",
        "machi_cd=-",
        "nushi_misettei=1",
        "nushi_no=-",
        "shi=-",
        "yubin_no=-",
    ];
    assert_eq!(items(bare), cleared);
    let out = of_person(
        &moved_out(record()),
        &["record.resident_state", "deleted_on"],
    );
    assert_eq!(
        items(out),
        ["jotai_fusho=-", "jotai_kbn=20", "jotai_ymd=20260309"]
    );
    let mut forever = record();
    forever.foreign.as_mut().unwrap().period_expires_on = date("9999-12-31", "");
    let event = of_person(&corrected(forever), &["record.foreign.period_expires_on"]);
    assert_eq!(items(event), ["zairyu_manryo=99999999"]);
}

#[test]
fn one_member_that_cannot_be_expressed_refuses_the_unit() {
    let mut dayless = record();
    dayless.birth_on = date("", "年月日不詳");
    let events = vec![
        of_person(&moved_in(record()), WHOLE_RECORD),
        event("2", 1, &moved_in(dayless), WHOLE_RECORD),
    ];
    let refusal = Translator.translate(&unit("k", 1, events)).unwrap_err();
    assert_eq!(
        (refusal.reason.as_str(), refusal.field.as_str()),
        ("UNMAPPABLE", "record.birth_on")
    );
}

#[test]
fn the_strongest_member_decides_and_a_missing_one_proves_nothing() {
    let pair = [
        of_person(&corrected(record()), &[]),
        event("2", 7, &corrected(record()), &[]),
    ];
    let members = members(pair.to_vec());
    let row = |line: i64, code: &str, held: Option<i64>| ResultRow {
        line,
        code: code.to_owned(),
        column: if code.starts_with('1') {
            "katagaki".to_owned()
        } else {
            String::new()
        },
        held,
    };
    let cases = [
        (
            vec![
                row(0, "00", None),
                row(1, "03", None),
                row(2, "00", Some(7)),
            ],
            "APPLIED",
        ),
        (
            vec![
                row(0, "00", None),
                row(1, "02", Some(5)),
                row(2, "02", Some(7)),
            ],
            "DUPLICATE",
        ),
        (
            vec![
                row(0, "00", None),
                row(1, "02", Some(5)),
                row(2, "03", None),
            ],
            "SUPERSEDED",
        ),
        (
            vec![row(0, "00", None), row(1, "03", None), row(2, "03", None)],
            "NOT_RELEVANT UNKNOWN_PERSON",
        ),
        (
            vec![row(0, "10", None), row(1, "20", None), row(2, "11", None)],
            "REJECTED TOO_LONG katagaki",
        ),
        (
            vec![row(0, "00", None), row(1, "00", Some(4))],
            "UNKNOWN UNPROMISED_ANSWER",
        ),
        (vec![row(0, "77", None)], "UNKNOWN UNPROMISED_ANSWER"),
        (vec![], "UNKNOWN UNPROMISED_ANSWER"),
    ];
    for (rows, expected) in cases {
        let answer = answer::read(&rows, &members);
        let receipt = musubi_adapter_sdk::receipt(&Delivery::default(), answer);
        assert_eq!(told(&receipt), expected, "{rows:?}");
    }
    let former = [
        row(0, "00", None),
        row(1, "00", Some(4)),
        row(2, "00", Some(7)),
    ];
    let receipt =
        musubi_adapter_sdk::receipt(&Delivery::default(), answer::read_former(&former, &members));
    assert_eq!(told(&receipt), "DUPLICATE");
}

/// The stand-in product on a database file, which can be stopped.
struct Product {
    _folder: TempDir,
    database: String,
    task: JoinHandle<()>,
}

impl Product {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", folder.path().join("momiji.db").display());
        let mut product = Self {
            _folder: folder,
            database,
            task: tokio::spawn(async {}),
        };
        product.restart();
        product
    }

    fn restart(&mut self) {
        let args = momiji::Args {
            database: self.database.clone(),
            poll_ms: 5,
        };
        self.task = tokio::spawn(async move { momiji::run(args).await.unwrap() });
    }

    async fn adapter(&self) -> Arc<dyn Deliver> {
        let config = Config {
            poll_ms: 5,
            ..Config::new(&self.database)
        };
        open(config).await.unwrap()
    }

    async fn stop(&mut self) {
        self.task.abort();
        assert!((&mut self.task).await.is_err());
    }

    /// Waits until a statement gives a number.
    async fn wait_for(&self, statement: &'static str, expected: i64) {
        let pool = AnyPool::connect(&self.database).await.unwrap();
        let wait = async {
            loop {
                if let Ok(row) = sqlx::query(statement).fetch_one(&pool).await
                    && row.get::<i64, _>(0) == expected
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap();
    }
}

/// Delivers until the product has made its tables.
async fn first(adapter: &Arc<dyn Deliver>, delivery: Delivery) -> String {
    let deliver = async {
        loop {
            let told = told(&adapter.deliver(delivery.clone()).await);
            if !told.starts_with("RETRY") {
                return told;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), deliver)
        .await
        .unwrap()
}

fn group(key: &str, sequence: u64, events: Vec<DeliveredEvent>) -> Delivery {
    delivery(vec![unit(key, sequence, events)], Mode::Live)
}

#[tokio::test(flavor = "multi_thread")]
async fn units_get_through_and_each_result_has_its_outcome() {
    let product = Product::start().await;
    let adapter = product.adapter().await;
    let household = vec![
        of_person(&moved_in(record()), WHOLE_RECORD),
        event("2", 1, &moved_in(record()), WHOLE_RECORD),
    ];
    assert_eq!(
        first(&adapter, group("k1", 1, household.clone())).await,
        "APPLIED"
    );
    let unknown = event("3", 1, &corrected(record()), WHOLE_RECORD);
    let mut long = record();
    long.address.as_mut().unwrap().building = "あ".repeat(301);
    for (delivery, expected) in [
        (group("k1", 1, household.clone()), "DUPLICATE"),
        (group("k2", 2, household), "DUPLICATE"),
        (single("k3", unknown), "NOT_RELEVANT UNKNOWN_PERSON"),
        (
            single("k4", event("2", 2, &corrected(long), WHOLE_RECORD)),
            "REJECTED TOO_LONG katagaki",
        ),
        (
            single("k5", event("2", 2, &corrected(record()), &[])),
            "APPLIED",
        ),
        (
            single("k6", event("2", 1, &corrected(record()), &[])),
            "SUPERSEDED",
        ),
        (
            single("k7", event("2", 0, &measure_started(2), &["measure_id"])),
            "APPLIED",
        ),
        (
            single("k8", event("2", 0, &measure_ended(1), &["measure_id"])),
            "SUPERSEDED",
        ),
        (
            single("k9", event("9", 0, &measure_started(1), &["measure_id"])),
            "APPLIED",
        ),
        (single("k10", snapshot_header()), "NOT_RELEVANT NO_PERSON"),
    ] {
        let key = delivery.units[0].idempotency_key.clone();
        assert_eq!(told(&adapter.deliver(delivery).await), expected, "{key}");
    }
    product.wait_for("SELECT COUNT(*) FROM hihokensha", 2).await;
    product
        .wait_for("SELECT COUNT(*) FROM hihokensha WHERE hogo_flg = 1", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_batch_share_a_transaction_and_a_poisoned_one_fails_no_other() {
    let product = Product::start().await;
    let adapter = product.adapter().await;
    let created = single("k1", of_person(&moved_in(record()), WHOLE_RECORD));
    assert_eq!(first(&adapter, created).await, "APPLIED");
    // What the database itself refuses, in the middle of the transaction.
    let pool = AnyPool::connect(&product.database).await.unwrap();
    sqlx::query(
        "CREATE TRIGGER poison BEFORE INSERT ON if_shori_marker WHEN NEW.unit_key = 'k3' \
         BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut long = record();
    long.address.as_mut().unwrap().building = "あ".repeat(301);
    let mut dayless = record();
    dayless.birth_on = date("", "年月日不詳");
    let of = |person: &str, payload| vec![event(person, 1, &payload, WHOLE_RECORD)];
    let units = vec![
        unit("k2", 2, of("2", moved_in(record()))),
        unit("k3", 3, of("3", moved_in(record()))),
        unit("k4", 4, of("4", moved_in(long))),
        unit("k5", 5, of("5", moved_in(dayless))),
        unit("k1", 1, vec![of_person(&moved_in(record()), WHOLE_RECORD)]),
        unit("k6", 6, of("6", moved_in(record()))),
        unit("k7", 7, vec![snapshot_header()]),
    ];
    let receipt = adapter.deliver(delivery(units, Mode::Live)).await;
    assert_eq!(
        told_units(&receipt),
        [
            "APPLIED",
            "RETRY DATABASE",
            "REJECTED TOO_LONG katagaki",
            "REJECTED UNMAPPABLE record.birth_on",
            "DUPLICATE",
            "APPLIED",
            "NOT_RELEVANT NO_PERSON",
        ]
    );
    product.wait_for("SELECT COUNT(*) FROM hihokensha", 3).await;
    // Nothing of the poisoned unit lies there.
    product
        .wait_for("SELECT COUNT(*) FROM if_setai_header", 0)
        .await;
    product
        .wait_for("SELECT COUNT(*) FROM if_setaiin_meisai", 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_item_stays_and_an_empty_one_is_cleared() {
    let product = Product::start().await;
    let adapter = product.adapter().await;
    let created = single("k1", of_person(&moved_in(record()), WHOLE_RECORD));
    assert_eq!(first(&adapter, created).await, "APPLIED");
    let mut changed = record();
    changed.alias = None;
    changed.address = None;
    let change = event("0001002880", 5, &corrected(changed), &["record.alias"]);
    assert_eq!(
        told(&adapter.deliver(single("k2", change)).await),
        "APPLIED"
    );
    product
        .wait_for("SELECT COUNT(*) FROM hihokensha WHERE tsusho IS NULL", 1)
        .await;
    product
        .wait_for(
            "SELECT COUNT(*) FROM hihokensha WHERE machi_cd = '0012003'",
            1,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_already_lies_there_is_waited_for_and_not_written_again() {
    let mut product = Product::start().await;
    let created = single("k1", of_person(&moved_in(record()), WHOLE_RECORD));
    let adapter = product.adapter().await;
    assert_eq!(first(&adapter, created).await, "APPLIED");
    product.stop().await;
    let change = single("k2", event("0001002880", 5, &corrected(record()), &[]));
    let lost = tokio::spawn({
        let (adapter, change) = (Arc::clone(&adapter), change.clone());
        async move { adapter.deliver(change).await }
    });
    product
        .wait_for("SELECT COUNT(*) FROM if_shori_marker", 1)
        .await;
    // The adapter dies while the unit waits; its successor gets the unit again.
    lost.abort();
    drop(adapter);
    let successor = product.adapter().await;
    let again = tokio::spawn({
        let (successor, change) = (Arc::clone(&successor), change.clone());
        async move { told(&successor.deliver(change).await) }
    });
    product.restart();
    assert_eq!(again.await.unwrap(), "APPLIED");
    assert_eq!(told(&successor.deliver(change).await), "DUPLICATE");
    product
        .wait_for("SELECT COUNT(*) FROM if_kekka WHERE gyo = 0", 2)
        .await;
}

#[tokio::test]
async fn a_database_that_is_away_is_tried_later_and_a_wrong_address_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("sqlite://{}", folder.path().join("none.db").display());
    let adapter = open(Config::new(nowhere)).await.unwrap();
    let receipt = adapter
        .deliver(single("k", of_person(&corrected(record()), &[])))
        .await;
    assert_eq!(told(&receipt), "RETRY DATABASE");
    for wrong in ["", "mysql://a/b", "momiji.db"] {
        assert!(open(Config::new(wrong)).await.is_err(), "{wrong}");
    }
    let secret = Config::new("postgres://a:password@b/c");
    assert!(!format!("{secret:?}").contains("password"));
}

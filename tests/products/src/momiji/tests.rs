use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tempfile::TempDir;

use super::{tables, units};

struct Database {
    _folder: TempDir,
    product: AnyConnection,
    sender: AnyConnection,
}

type Item<'a> = (&'a str, Option<&'a str>);

impl Database {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("sub/momiji.db").display());
        let product = tables::open(&url).await.unwrap();
        let sender = AnyConnection::connect(&url).await.unwrap();
        Self {
            _folder: folder,
            product,
            sender,
        }
    }

    /// Hands in a unit as an adapter does, in one transaction.
    async fn hand_in(&mut self, key: &str, count: i64, rows: &[(&str, &str, i64, &[Item<'_>])]) {
        let mut tx = self.sender.begin().await.unwrap();
        sqlx::query("INSERT INTO if_setai_header VALUES ($1, $2, $3)")
            .bind(key.to_owned())
            .bind(count)
            .bind("2026-03-02T09:00:00+09:00".to_owned())
            .execute(&mut *tx)
            .await
            .unwrap();
        for (gyo, (shori, no, version, items)) in (1_i64..).zip(rows) {
            let names: Vec<_> = items.iter().map(|(name, _)| *name).collect();
            let columns: String = names.iter().map(|name| format!(", {name}")).collect();
            let marks: String = (7..7 + names.len()).map(|n| format!(", ${n}")).collect();
            let statement = format!(
                "INSERT INTO if_setaiin_meisai (unit_key, gyo, shori, kojin_no, rireki,
                 koshin_komoku{columns}) VALUES ($1, $2, $3, $4, $5, $6{marks})"
            );
            let mut query = sqlx::query(AssertSqlSafe(statement))
                .bind(key.to_owned())
                .bind(gyo)
                .bind((*shori).to_owned())
                .bind((*no).to_owned())
                .bind(*version)
                .bind(names.join(","));
            for (_, value) in *items {
                query = query.bind(value.map(str::to_owned));
            }
            query.execute(&mut *tx).await.unwrap();
        }
        sqlx::query("INSERT INTO if_shori_marker VALUES ($1, $2)")
            .bind(key.to_owned())
            .bind(1_i64)
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn process(&mut self) {
        while units::process_waiting(&mut self.product).await.unwrap() > 0 {}
    }

    /// Results of a unit, the unit's own first: code, column, held version.
    async fn results(&mut self, key: &str) -> Vec<String> {
        let rows = sqlx::query(
            "SELECT kekka, komoku, hoji_rireki FROM if_kekka WHERE unit_key = $1 ORDER BY gyo",
        )
        .bind(key.to_owned())
        .fetch_all(&mut self.sender)
        .await
        .unwrap();
        let show = |row: &sqlx::any::AnyRow| {
            let komoku: Option<String> = row.get(1);
            let held: Option<i64> = row.get(2);
            let held = held.map(|held| held.to_string()).unwrap_or_default();
            format!(
                "{} {}{held}",
                row.get::<String, _>(0),
                komoku.unwrap_or_default()
            )
        };
        rows.iter()
            .map(show)
            .map(|line| line.trim().to_owned())
            .collect()
    }

    async fn value(&mut self, statement: &'static str) -> Option<String> {
        sqlx::query_scalar::<_, Option<String>>(statement)
            .fetch_optional(&mut self.sender)
            .await
            .unwrap()
            .flatten()
    }
}

const NEW: [Item<'static>; 6] = [
    ("shimei", Some("𠮷田　愛")),
    ("umare_ymd", Some("19950406")),
    ("seibetsu", Some("2")),
    ("jumin_kbn", Some("01")),
    ("setai_no", Some("0050001466")),
    ("nushi_no", Some("1")),
];

#[tokio::test]
async fn a_unit_is_applied_whole_and_an_older_version_skips_its_member() {
    let mut db = Database::new().await;
    let rows: [(&str, &str, i64, &[Item<'_>]); 2] =
        [("TOROKU", "1", 1, &NEW), ("TOROKU", "2", 4, &NEW)];
    db.hand_in("u1", 2, &rows).await;
    db.process().await;
    assert_eq!(db.results("u1").await, ["00", "00 1", "00 4"]);
    let move_out: [Item<'_>; 2] = [("jotai_kbn", Some("20")), ("shimei", None)];
    let rows: [(&str, &str, i64, &[Item<'_>]); 3] = [
        ("HENKO", "1", 3, &move_out),
        ("HENKO", "2", 4, &move_out),
        ("HENKO", "9", 1, &move_out),
    ];
    db.hand_in("u2", 3, &rows).await;
    db.process().await;
    assert_eq!(db.results("u2").await, ["00", "00 3", "02 4", "03"]);
    let name = "SELECT shimei FROM hihokensha WHERE kojin_no = '1'";
    assert_eq!(db.value(name).await, None);
    let untouched = "SELECT umare_ymd FROM hihokensha WHERE kojin_no = '1'";
    assert_eq!(db.value(untouched).await.as_deref(), Some("19950406"));
    let members = "SELECT CAST(ninzu AS TEXT) FROM setai WHERE setai_no = '0050001466'";
    assert_eq!(db.value(members).await.as_deref(), Some("1"));
    let left = "SELECT CAST(COUNT(*) AS TEXT) FROM if_setaiin_meisai";
    assert_eq!(db.value(left).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn one_refused_member_refuses_the_unit() {
    let mut db = Database::new().await;
    let long = "愛".repeat(101);
    let bad: [Item<'_>; 1] = [("tsusho", Some(&long))];
    let rows: [(&str, &str, i64, &[Item<'_>]); 2] =
        [("TOROKU", "1", 1, &NEW), ("HENKO", "2", 1, &bad)];
    db.hand_in("u1", 2, &rows).await;
    let incomplete: [Item<'_>; 1] = [("shimei", Some("愛"))];
    let rows: [(&str, &str, i64, &[Item<'_>]); 2] =
        [("TOROKU", "1", 1, &NEW), ("TOROKU", "3", 1, &incomplete)];
    db.hand_in("u2", 2, &rows).await;
    db.hand_in("u3", 3, &rows).await;
    db.process().await;
    assert_eq!(db.results("u1").await, ["10", "20", "11 tsusho"]);
    assert_eq!(db.results("u2").await, ["10", "20", "16 umare_ymd"]);
    assert_eq!(
        db.results("u3").await,
        ["10 meisai_kensu", "20", "16 umare_ymd"]
    );
    assert_eq!(db.value("SELECT kojin_no FROM hihokensha").await, None);
    let last = "SELECT CAST(MAX(renban) AS TEXT) FROM if_kekka";
    assert_eq!(db.value(last).await.as_deref(), Some("3"));
}

#[tokio::test]
async fn items_are_judged_one_by_one() {
    let mut db = Database::new().await;
    let cases: [(Item<'_>, &str); 9] = [
        (("katagaki", Some("a\u{1b}")), "12 katagaki"),
        (("umare_ymd", Some("19460229")), "13 umare_ymd"),
        (("zairyu_manryo", Some("20260230")), "13 zairyu_manryo"),
        (("jotai_kbn", Some("40")), "14 jotai_kbn"),
        (("jotai_kbn", None), "16 jotai_kbn"),
        (("yubin_no", Some("248-000")), "15 yubin_no"),
        (("seibetsu", None), "16 seibetsu"),
        (("zairyu_manryo", Some("99999999")), "03"),
        (("katagaki", Some("山田様方\n離れ")), "03"),
    ];
    for (number, (item, expected)) in cases.iter().enumerate() {
        let key = format!("u{number}");
        db.hand_in(&key, 1, &[("HENKO", "1", 1, &[*item])]).await;
        db.process().await;
        assert_eq!(db.results(&key).await[1], *expected);
    }
}

#[tokio::test]
async fn a_unit_handed_in_again_keeps_its_first_result() {
    let mut db = Database::new().await;
    db.hand_in("u1", 1, &[("TOROKU", "1", 1, &NEW)]).await;
    db.process().await;
    db.hand_in("u1", 1, &[("HENKO", "1", 2, &[("shimei", None)])])
        .await;
    db.process().await;
    assert_eq!(db.results("u1").await, ["00", "00 1"]);
    let version = "SELECT CAST(rireki AS TEXT) FROM hihokensha";
    assert_eq!(db.value(version).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn protection_counts_as_soon_as_the_person_is_registered() {
    let mut db = Database::new().await;
    protect(&mut db, "m1", 1, 0).await;
    assert_eq!(db.results("m1").await, ["00", "00 1"]);
    db.hand_in("u1", 1, &[("TOROKU", "1", 1, &NEW)]).await;
    db.process().await;
    let flag = "SELECT CAST(hogo_flg AS TEXT) FROM hihokensha";
    assert_eq!(db.value(flag).await.as_deref(), Some("1"));
    protect(&mut db, "m2", 3, 1).await;
    assert_eq!(db.value(flag).await.as_deref(), Some("0"));
    protect(&mut db, "m3", 2, 0).await;
    assert_eq!(db.results("m3").await, ["00", "02 3"]);
}

async fn protect(db: &mut Database, key: &str, version: i64, ended: i64) {
    let mut tx = db.sender.begin().await.unwrap();
    for statement in [
        format!("INSERT INTO if_setai_header VALUES ('{key}', 1, NULL)"),
        format!(
            "INSERT INTO if_setaiin_meisai (unit_key, gyo, shori, kojin_no, sochi_no, sochi_han,
             sochi_shuryo) VALUES ('{key}', 1, 'HOGO', '1', 'S1', {version}, {ended})"
        ),
        format!("INSERT INTO if_shori_marker VALUES ('{key}', 1)"),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    db.process().await;
}

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::fields::Fault;

async fn ledger() -> (TempDir, SqliteConnection) {
    let folder = tempfile::tempdir().unwrap();
    let conn = open(&folder.path().join("ledger.db")).await.unwrap();
    (folder, conn)
}

fn record(key: &str, version: i64, create: bool, name: &str) -> Change {
    let name = Value::from(name);
    let edit = Box::new(move |held: Option<Doc>| {
        let mut doc = held.unwrap_or_default();
        doc.insert("name".into(), name);
        Ok(doc)
    });
    let (key, no) = (key.to_owned(), "1".to_owned());
    Change::Record {
        key,
        no,
        version,
        create,
        edit,
        seen: Vec::new(),
    }
}

fn measure(key: &str, version: i64, ended: bool) -> Change {
    let (key, no, measure) = (key.to_owned(), "1".to_owned(), "S1".to_owned());
    Change::Measure {
        key,
        no,
        measure,
        version,
        ended,
    }
}

#[tokio::test]
async fn a_key_is_applied_once_and_an_older_version_never() {
    let (_folder, mut conn) = ledger().await;
    assert_eq!(
        apply(&mut conn, record("a", 1, false, "x")).await.unwrap(),
        Outcome::Unknown
    );
    let created = apply(&mut conn, record("a", 2, true, "x")).await.unwrap();
    assert_eq!(created, Outcome::Created { version: 2 });
    let again = apply(&mut conn, record("a", 9, true, "y")).await.unwrap();
    assert_eq!(again, Outcome::Already { version: 2 });
    let equal = apply(&mut conn, record("b", 2, true, "y")).await.unwrap();
    assert_eq!(equal, Outcome::NotNewer { held: 2 });
    let newer = apply(&mut conn, record("c", 7, false, "z")).await.unwrap();
    assert_eq!(newer, Outcome::Applied { version: 7 });
    let person = find_person(&mut conn, "1").await.unwrap().unwrap();
    assert_eq!(
        (person.version, Value::Object(person.doc)),
        (7, json!({"name": "z"}))
    );
    let keys = journal(&mut conn, 0, 10).await.unwrap();
    assert_eq!(
        keys.iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        ["a", "c"]
    );
}

#[tokio::test]
async fn a_refused_change_leaves_no_trace() {
    let (_folder, mut conn) = ledger().await;
    let refusal = Refusal::new(Fault::Missing, "birth", "needed");
    let given = refusal.clone();
    let change = Change::Record {
        key: "a".into(),
        no: "1".into(),
        version: 1,
        create: true,
        edit: Box::new(move |_| Err(given)),
        seen: vec!["S1".into()],
    };
    assert_eq!(
        apply(&mut conn, change).await.unwrap(),
        Outcome::Refused(refusal)
    );
    assert!(find_key(&mut conn, "a").await.unwrap().is_none());
    assert!(find_person(&mut conn, "1").await.unwrap().is_none());
}

#[tokio::test]
async fn protection_is_kept_for_a_person_to_come_and_never_reopened_by_a_record() {
    let (_folder, mut conn) = ledger().await;
    let ahead = apply(&mut conn, measure("m1", 1, false)).await.unwrap();
    assert_eq!(ahead, Outcome::Ahead { version: 1 });
    apply(&mut conn, record("a", 1, true, "x")).await.unwrap();
    let person = find_person(&mut conn, "1").await.unwrap().unwrap();
    assert!(!person.measures[0].ended);

    let ended = apply(&mut conn, measure("m3", 3, true)).await.unwrap();
    assert_eq!(ended, Outcome::Applied { version: 3 });
    let late = apply(&mut conn, measure("m2", 2, false)).await.unwrap();
    assert_eq!(late, Outcome::NotNewer { held: 3 });
    let Change::Record { key, no, edit, .. } = record("b", 2, false, "y") else {
        unreachable!()
    };
    let seen = vec!["S1".to_owned(), "S2".to_owned()];
    let change = Change::Record {
        key,
        no,
        version: 2,
        create: false,
        edit,
        seen,
    };
    apply(&mut conn, change).await.unwrap();
    let persons = persons(&mut conn, "", 10).await.unwrap();
    let held: Vec<_> = persons[0]
        .measures
        .iter()
        .map(|held| (held.measure.as_str(), held.version, held.ended))
        .collect();
    assert_eq!(held, [("S1", 3, true), ("S2", 0, false)]);
}

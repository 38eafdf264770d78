//! A record that the disk changed, and one that it lost, are found by their place.
//! Beside the contract: what only a file can suffer.
//! Must never change a row with its digest.
//! Read next: `log/sqlite/row.rs`.

use super::*;
use crate::event::seal::Sealed;
use crate::log::{Attributes, RecordKind};

const ALL: ReadLimit = ReadLimit {
    records: 100,
    bytes: 1 << 20,
};

async fn spoiled(change: &'static str) -> LogError {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&folder.path().join("log.sqlite"))
        .await
        .unwrap();
    let m = Municipality::parse("142042").unwrap();
    let record = |key: &str| NewRecord {
        kind: RecordKind::Event,
        key: key.to_owned(),
        sealed: Sealed::seal(vec![7; 40]),
        attributes: Attributes::default(),
    };
    let batch = ["a", "b", "c"].map(record).to_vec();
    log.append(&m, Stream::Live, batch).await.unwrap();
    let mut writer = log.writer.lock().await;
    sqlx::raw_sql(change).execute(&mut *writer).await.unwrap();
    drop(writer);
    let mut from = Position(1);
    loop {
        match log.read(&m, Stream::Live, from, ALL).await {
            Err(error) => return error,
            Ok(records) => from = records.last().expect("no error").position.after(),
        }
    }
}

#[tokio::test]
async fn a_record_that_is_not_what_was_written_is_named_by_its_place() {
    for change in [
        "UPDATE record SET bytes = x'00' WHERE position = 2",
        "UPDATE record SET key = 'x' WHERE position = 2",
        "UPDATE record SET key_id = 'x' WHERE position = 2",
        "UPDATE record SET kind = 1 WHERE position = 2",
        "UPDATE record SET kind = 9 WHERE position = 2",
        "UPDATE record SET digest = x'00' WHERE position = 2",
        "UPDATE record SET key = x'ff' WHERE position = 2",
        "DELETE FROM record WHERE position = 2",
        "UPDATE record SET position = 9 WHERE position = 2",
    ] {
        let error = spoiled(change).await;
        assert!(
            matches!(
                error,
                LogError::Damaged {
                    stream: Stream::Live,
                    position: Position(2),
                    ..
                }
            ),
            "{change}: {error}"
        );
        assert!(error.to_string().contains("live position 2"), "{error}");
    }
}

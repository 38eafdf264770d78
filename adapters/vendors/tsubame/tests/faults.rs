//! Files that are not as they should be.

use musubi_adapter_sdk::{Capture, CaptureError};
use tokio::time::{Duration, timeout};

use super::{Registry, done, done_text, drain, records, town, units};

/// Long enough for many looks into the folder.
const MANY_LOOKS: Duration = Duration::from_millis(100);

async fn full_file_done() -> (Registry, Box<dyn Capture>, Vec<Vec<u8>>) {
    let mut registry = Registry::new();
    registry.write("zenken", &records(&town().join("residents_before.csv")));
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    drain(capture.as_mut(), registry.items).await;
    (registry, capture, records(&town().join("changes.csv")))
}

fn alarm_reason(error: &CaptureError) -> &str {
    match error {
        CaptureError::Alarm { reason, .. } => reason,
        other => panic!("no alarm: {other}"),
    }
}

#[tokio::test]
async fn a_file_without_its_done_file_is_not_read() {
    let (mut registry, mut capture, changes) = full_file_done().await;
    std::fs::write(registry.path(2, "sabun"), changes[..3].concat()).unwrap();
    std::fs::write(
        registry.folder().join(".juki_000003_sabun.csv.done"),
        "kensu=1",
    )
    .unwrap();
    assert!(timeout(MANY_LOOKS, capture.next()).await.is_err());
    registry.write("sabun", &changes[..2]);
    assert_eq!(drain(capture.as_mut(), 1).await.len(), 1);
}

#[tokio::test]
async fn a_missing_number_stops_the_source_until_it_appears() {
    let (mut registry, mut capture, changes) = full_file_done().await;
    registry.files += 1;
    let header = changes[0].clone();
    registry.write("sabun", &[header.clone(), changes[2].clone()]);
    assert!(timeout(MANY_LOOKS, capture.next()).await.is_err());
    registry.files = 1;
    registry.write("sabun", &[header, changes[1].clone()]);
    let found = units(&drain(capture.as_mut(), 2).await);
    let files: Vec<String> = found
        .iter()
        .map(|unit| unit.origin.clone().unwrap_or_default().file)
        .collect();
    assert_eq!(files, ["juki_000002_sabun.csv", "juki_000003_sabun.csv"]);
}

#[tokio::test]
async fn a_file_that_does_not_fit_its_done_file_is_an_alarm() {
    let (registry, mut capture, changes) = full_file_done().await;
    let path = registry.path(2, "sabun");
    let content = changes[..3].concat();
    std::fs::write(&path, &content).unwrap();
    for (text, reason) in [
        (done_text(2, b"other content"), "FILE_DIGEST"),
        (done_text(3, &content), "FILE_COUNT"),
        ("kensu=2\n".to_owned(), "DONE_FILE"),
    ] {
        std::fs::write(done(&path), text).unwrap();
        let error = capture.next().await.unwrap_err();
        assert_eq!(alarm_reason(&error), reason);
    }
    std::fs::write(done(&path), done_text(2, &content)).unwrap();
    drain(capture.as_mut(), 2).await;
}

#[tokio::test]
async fn another_header_and_an_open_quote_are_alarms() {
    let (registry, mut capture, changes) = full_file_done().await;
    let path = registry.path(2, "sabun");
    let header = String::from_utf8(changes[0].clone()).unwrap();
    let renamed = header.replace("shimei,", "namae,").into_bytes();
    let mut open = header.clone().into_bytes();
    open.extend(b"\"");
    open.extend(std::iter::repeat_n(b'x', 512 * 1024));
    for (content, reason) in [(renamed, "FILE_HEADER"), (open, "RECORD_TOO_LONG")] {
        std::fs::write(&path, &content).unwrap();
        std::fs::write(done(&path), done_text(0, &content)).unwrap();
        let error = capture.next().await.unwrap_err();
        assert_eq!(alarm_reason(&error), reason);
    }
}

#[tokio::test]
async fn rows_that_were_handed_out_before_are_left_out() {
    let (mut registry, mut capture, changes) = full_file_done().await;
    registry.write("sabun", &changes[..4]);
    registry.write("sabun", &changes[..4]);
    registry.write("sabun", &[changes[0].clone(), changes[4].clone()]);
    let first_group = registry.items;
    let found = units(&drain(capture.as_mut(), 4).await);
    assert!(first_group > 4);
    assert_eq!(
        super::refused(&found)
            .iter()
            .filter(|row| row.rule == "NUMBER_REUSED")
            .count(),
        0
    );
}

#[tokio::test]
async fn a_cursor_of_something_else_is_refused() {
    let (_registry, mut capture, _) = full_file_done().await;
    for cursor in ["", "nonsense", "000002", "000099/5", "1/x"] {
        let error = capture.resume(Some(cursor.to_owned())).await.unwrap_err();
        assert!(
            matches!(error, CaptureError::Cursor { .. }),
            "{cursor}: {error}"
        );
    }
}

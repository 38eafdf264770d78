use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

use sha2::{Digest, Sha256};

use super::*;
use crate::files::hex;

fn town() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../town")
}

fn args(folder: &Path, invalid: bool) -> Args {
    let (out, data) = (folder.join("out"), folder.join("data"));
    Args {
        town: town(),
        out,
        data,
        pace_ms: 0,
        invalid,
    }
}

/// Runs until the end or until the future was polled so many times; then it is dropped, which
/// stands for a kill at that point.
async fn run_for(args: &Args, polls: usize) -> bool {
    let mut left = polls;
    let mut running = pin!(write_all(args));
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        running.as_mut().poll(context).map(|done| {
            done.unwrap();
            true
        })
    })
    .await
}

/// The complete files with their done-files.
fn complete(out: &Path) -> BTreeMap<String, (Vec<u8>, String)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(out).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(data) = name.strip_suffix(".done") {
            let bytes = fs::read(out.join(data)).unwrap();
            let done = fs::read_to_string(out.join(&name)).unwrap();
            found.insert(data.to_owned(), (bytes, done));
        }
    }
    found
}

fn check_done(bytes: &[u8], done: &str) {
    let count = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(bytes)
        .into_byte_records()
        .count();
    assert_eq!(
        done,
        format!("kensu={count}\nsha256={}\n", hex(&Sha256::digest(bytes)))
    );
}

#[tokio::test]
async fn all_changes_come_in_whole_groups_of_one_day() {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), false);
    assert!(run_for(&args, usize::MAX).await);
    let files = complete(&args.out);
    let names: Vec<_> = files.keys().cloned().collect();
    assert_eq!(names[0], "juki_000001_zenken.csv");
    let mut changes = Vec::new();
    let mut groups = std::collections::HashSet::new();
    for (number, (name, (bytes, done))) in (1..).zip(&files) {
        check_done(bytes, done);
        if number == 1 {
            continue;
        }
        assert_eq!(*name, format!("juki_{number:06}_sabun.csv"));
        let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        if changes.is_empty() {
            changes.extend_from_slice(&bytes[..header]);
        }
        changes.extend_from_slice(&bytes[header..]);
        let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(bytes.as_slice())
            .records()
            .map(Result::unwrap)
            .collect();
        let days: std::collections::HashSet<_> = rows
            .iter()
            .map(|row| row[12].split('T').next().unwrap().to_owned())
            .collect();
        assert_eq!(days.len(), 1);
        let here: std::collections::HashSet<_> = rows.iter().map(|row| row[1].to_owned()).collect();
        assert!(here.len() <= 40);
        for group in here {
            assert!(groups.insert(group), "a group lies in two files");
        }
    }
    assert_eq!(changes, fs::read(town().join("changes.csv")).unwrap());
    let status = fs::read_to_string(args.data.join("status.json")).unwrap();
    let count = files.len();
    assert_eq!(
        status,
        format!("{{\"files_total\":{count},\"files_written\":{count}}}")
    );
}

#[tokio::test]
async fn a_kill_at_any_point_changes_no_complete_file() {
    let whole = tempfile::tempdir().unwrap();
    let reference = args(whole.path(), true);
    assert!(run_for(&reference, usize::MAX).await);
    let expected = complete(&reference.out);

    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), true);
    let mut kills = 0;
    let mut half_written = 0;
    while !run_for(&args, 3 + kills % 17).await {
        kills += 1;
        let now = complete(&args.out);
        assert!(now.iter().all(|(name, content)| expected[name] == *content));
        let all = fs::read_dir(&args.out).unwrap().count();
        half_written += usize::from(all > 2 * now.len());
    }
    assert!(
        kills > 20 && half_written > 5,
        "{kills} kills, {half_written} half-written files"
    );
    assert!(run_for(&args, usize::MAX).await);
    assert_eq!(complete(&args.out), expected);
}

#[tokio::test]
async fn progress_that_lags_behind_writes_no_file_twice() {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), true);
    fs::create_dir_all(&args.data).unwrap();
    let progress = args.data.join("progress.json");
    let mut earlier = None;
    while !run_for(&args, 40).await {
        if let Some(earlier) = earlier.take() {
            fs::write(&progress, earlier).unwrap();
        } else {
            earlier = fs::read(&progress).ok();
        }
    }
    let files = complete(&args.out);
    fs::remove_file(&progress).unwrap();
    assert!(run_for(&args, usize::MAX).await);
    assert_eq!(complete(&args.out), files);
}

#[tokio::test]
async fn invalid_rows_leave_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), true);
    assert!(run_for(&args, usize::MAX).await);
    let (_, (bytes, done)) = complete(&args.out).pop_last().unwrap();
    check_done(&bytes, &done);
    assert!(std::str::from_utf8(&bytes).is_err());
    let source = fs::read(town().join("invalid.csv")).unwrap();
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').skip(1).collect();
    for (line, original) in lines
        .iter()
        .zip(source.split(|byte| *byte == b'\n').skip(1))
    {
        assert!(original.ends_with(line));
    }
    assert!(lines.len() > 30);
}

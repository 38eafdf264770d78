//! Acknowledged means durable: the order of write, sync and answer, seen from outside the hub.
//! A kill cannot show it, since the kernel keeps what a killed process wrote.
//! Must never pass on a trace that does not show a sync.
//! Read next: `src/trace.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::process::Command;

use musubi_e2e::event::moved;
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::process::musubi_path;
use musubi_e2e::trace::{Broken, Step, check_publish, steps};
use musubi_e2e::{Hub, wait_until_blocking};
use musubi_proto::hub::v1::unit_answer::Answer;

const PUBLISHES: usize = 5;
const CALLS: &str = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,\
pwrite64,pwritev,fsync,fdatasync";

#[tokio::test]
async fn an_answer_leaves_only_after_the_log_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command
        // Detached, so that the process started is the hub itself.
        .args(["-D", "-f", "-yy", "-s", "64", "-e", CALLS, "-o"])
        .arg(&trace)
        .arg(musubi_path().unwrap())
        .arg("serve");
    let mut hub = Hub::start_as(folder.path(), command).await.unwrap();
    let client = hub.client().unwrap();
    let mut marks = Vec::new();
    // The first ones open the connection and the municipality; the last one stands before the end,
    // which syncs both files.
    for version in 1..=PUBLISHES as u32 + 3 {
        let before = fs::read_to_string(&trace).unwrap().len();
        let units = vec![vec![moved("0000012345", version).unwrap()]];
        let answers = client.publish(units).await.unwrap();
        assert!(matches!(answers[0].answer, Some(Answer::Accepted(_))));
        if version > 2 {
            marks.push(before);
        }
    }
    // The hub ends in order; with it the trace is complete.
    hub.process().stop().unwrap();
    wait_until_blocking(PATIENCE, "the end of the trace", || {
        Ok(fs::read_to_string(&trace)?.contains("+++ exited with"))
    })
    .unwrap();
    let trace = fs::read_to_string(&trace).unwrap();
    let port = hub.address().rsplit(':').next().unwrap().parse().unwrap();
    let log = "/hub/log.sqlite-wal";
    for pair in marks.windows(2) {
        let part = trace.get(pair[0]..pair[1]).unwrap();
        let seen = steps(part, log, port);
        assert_eq!(check_publish(&seen), Ok(()), "{seen:?}\n{part}");
        // The log's sync is the only one: what the store notes is in the log as well.
        assert_eq!(part.matches("sync(").count(), 1, "{part}");
        // The same trace with the sync taken out must not pass.
        let without_sync: Vec<Step> = seen
            .iter()
            .copied()
            .filter(|step| *step != Step::Synced)
            .collect();
        assert_eq!(
            check_publish(&without_sync),
            Err(Broken::AnsweredBeforeSync),
            "{part}"
        );
    }
}

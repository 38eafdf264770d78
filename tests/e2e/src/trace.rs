//! Reads a trace of system calls and says in which order the hub wrote, synced and answered.
//! For the promise that a kill cannot show: acknowledged means durable.
//! Must never take an order for right that the trace does not show.
//! Read next: `tests/durability.rs`.

use std::fmt;

/// One step on the way of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Bytes of the client arrived.
    Request,
    /// Bytes went into the log's write-ahead file.
    Written,
    /// The log's write-ahead file was made durable.
    Synced,
    /// Bytes went to the client.
    Answer,
}

/// Why a trace does not show the promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The log was not written at all.
    NotWritten,
    /// The client was answered while bytes of the log were not durable.
    AnsweredBeforeSync,
    /// Nobody was answered after the log was durable.
    NotAnswered,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWritten => "the log was not written",
            Self::AnsweredBeforeSync => "an answer left before the log was durable",
            Self::NotAnswered => "no answer left after the log was durable",
        })
    }
}

impl std::error::Error for Broken {}

/// The steps of a trace made by `strace -f -yy`, of the log file and the port given.
pub fn steps(trace: &str, log: &str, port: u16) -> Vec<Step> {
    let client = format!("<TCP:[127.0.0.1:{port}->");
    let mut unfinished: Vec<(&str, Step)> = Vec::new();
    let mut steps = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if let Some(rest) = call.strip_prefix("<... ") {
            // The end of a call that another thread interrupted in the trace: it counts from here.
            if let Some(at) = unfinished.iter().position(|(waits, _)| *waits == thread) {
                let (_, step) = unfinished.remove(at);
                if succeeded(rest) {
                    steps.push(step);
                }
            }
            continue;
        }
        let Some(step) = step_of(call, log, &client) else {
            continue;
        };
        match step {
            // An answer counts from the moment when it begins to leave, everything else when it is
            // done.
            Step::Answer => steps.push(step),
            _ if call.ends_with("<unfinished ...>") => unfinished.push((thread, step)),
            _ if succeeded(call) => steps.push(step),
            _ => {}
        }
    }
    steps
}

fn step_of(call: &str, log: &str, client: &str) -> Option<Step> {
    let (name, arguments) = call.split_once('(')?;
    let file = arguments.split(',').next().unwrap_or_default();
    let in_log = file.contains(log);
    let to_client = file.contains(client);
    match name {
        "write" | "writev" | "pwrite64" | "pwritev" if in_log => Some(Step::Written),
        "fsync" | "fdatasync" if in_log => Some(Step::Synced),
        "write" | "writev" | "sendto" | "sendmsg" if to_client => Some(Step::Answer),
        "read" | "readv" | "recvfrom" | "recvmsg" if to_client => Some(Step::Request),
        _ => None,
    }
}

fn succeeded(call: &str) -> bool {
    call.rsplit_once(" = ")
        .is_some_and(|(_, result)| !result.trim_start().starts_with('-'))
}

/// Checks one publish, from the request that is followed by a write of the log to its answer.
///
/// # Errors
/// When the answer left before the last write of the log was durable.
pub fn check_publish(steps: &[Step]) -> Result<(), Broken> {
    let first = steps
        .iter()
        .position(|step| *step == Step::Written)
        .ok_or(Broken::NotWritten)?;
    let mut durable = false;
    for step in steps.iter().skip(first) {
        match step {
            Step::Written => durable = false,
            Step::Synced => durable = true,
            Step::Answer if durable => return Ok(()),
            Step::Answer => return Err(Broken::AnsweredBeforeSync),
            Step::Request => {}
        }
    }
    Err(Broken::NotAnswered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "/d/hub/log.sqlite-wal";

    fn judge(trace: &str) -> Result<(), Broken> {
        check_publish(&steps(trace, LOG, 7411))
    }

    #[test]
    fn a_synced_publish_is_good() {
        let trace = "\
1 read(9<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, \"..\"..., 4096) = 300
2 pwrite64(5</d/hub/log.sqlite-wal>, \"..\"..., 4096, 32) = 4096
2 fdatasync(5</d/hub/log.sqlite-wal> <unfinished ...>
1 epoll_wait(3<anon_inode:[eventpoll]>, [], 1024, 0) = 0
2 <... fdatasync resumed>) = 0
1 writev(9<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, [{..}], 2) = 90";
        assert_eq!(judge(trace), Ok(()));
    }

    #[test]
    fn a_publish_without_sync_is_found() {
        let trace = "\
1 read(9<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, \"..\"..., 4096) = 300
2 pwrite64(5</d/hub/log.sqlite-wal>, \"..\"..., 4096, 32) = 4096
1 writev(9<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, [{..}], 2) = 90";
        assert_eq!(judge(trace), Err(Broken::AnsweredBeforeSync));
    }

    #[test]
    fn an_answer_before_the_end_of_the_sync_is_found() {
        let trace = "\
2 pwrite64(5</d/hub/log.sqlite-wal>, \"..\"..., 4096, 32) = 4096
2 fdatasync(5</d/hub/log.sqlite-wal> <unfinished ...>
1 writev(9<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, [{..}], 2) = 90
2 <... fdatasync resumed>) = 0";
        assert_eq!(judge(trace), Err(Broken::AnsweredBeforeSync));
    }

    #[test]
    fn a_sync_that_failed_or_of_another_file_does_not_count() {
        for sync in [
            "2 fdatasync(5</d/hub/log.sqlite-wal>) = -1 EIO (Input/output error)",
            "2 fdatasync(6</d/hub/store.sqlite-wal>) = 0",
        ] {
            let trace = format!(
                "2 pwrite64(5</d/hub/log.sqlite-wal>, \"..\", 4096, 32) = 4096\n{sync}\n\
                 1 writev(9<TCP:[127.0.0.1:7411->127.0.0.1:5000]>, [{{..}}], 2) = 90"
            );
            assert_eq!(judge(&trace), Err(Broken::AnsweredBeforeSync));
        }
    }

    #[test]
    fn a_trace_without_a_write_shows_nothing() {
        assert_eq!(
            judge("1 read(0</dev/null>, \"\", 4) = 0"),
            Err(Broken::NotWritten)
        );
    }
}

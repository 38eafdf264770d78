//! Every write and flush of a hub in order, and what a disk would hold after a cut at any of them.
//! The second instrument of B1, for machines without loop devices: `strace` records, and a folder is
//! built from what was flushed and a drawn part of what was only written.
//! Must never leave out what was flushed before the cut.
//! Read next: `rows/storage/power.rs`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use musubi_e2e::process::musubi_path;

use crate::dice::Dice;

const CALLS: &str = "trace=pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat";
/// A write may end at a multiple of this.
const SECTOR_BYTES: u64 = 512;

/// The hub under `strace`, which writes everything it does to its files into `record`.
pub fn recorded(record: &Path) -> Result<Command> {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "--seccomp-bpf", "-ttt", "-y", "-xx"])
        .args(["-s", "65536", "-e", CALLS, "-e", "signal=none", "-o"])
        .arg(record)
        .arg(musubi_path()?);
    Ok(command)
}

#[derive(Debug, PartialEq, Eq)]
enum Call {
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        bytes: u64,
    },
    Remove,
    /// Everything of the file before this step is on the disk.
    Flush {
        before: usize,
    },
}

/// One call on one file, and when it was made, in microseconds since 1970.
#[derive(Debug)]
struct Step {
    at_us: u64,
    file: String,
    call: Call,
}

/// All calls of a hub on the files of its folder.
#[derive(Debug)]
pub struct Writes(Vec<Step>);

impl Writes {
    /// Reads a record of the calls on files of a folder.
    pub fn read(record: &Path, data: &Path) -> Result<Self> {
        let text = fs::read_to_string(record).context("read the record of the writes")?;
        Ok(Self(parse(&text, data)))
    }

    /// Steps before and at which the power may be cut.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When a step was made, in microseconds since 1970.
    pub fn at_us(&self, step: usize) -> u64 {
        self.0.get(step).map_or(0, |step| step.at_us)
    }

    /// Makes a folder, which holds what there was at first, what a disk would hold after a cut just
    /// before a step; how many writes were lost or torn.
    pub fn rebuild(&self, folder: &Path, cut: usize, dice: &mut Dice) -> Result<u64> {
        let steps = self.0.get(..cut).unwrap_or_default();
        let mut flushed: HashMap<&str, usize> = HashMap::new();
        for step in steps {
            if let Call::Flush { before } = step.call {
                let known = flushed.entry(&step.file).or_default();
                *known = before.max(*known);
            }
        }
        // Nothing, everything, or any part of what was not flushed.
        let kept_of_four = [0, 4, 2][dice.below(3) as usize];
        let mut lost = 0;
        for (number, step) in steps.iter().enumerate() {
            let safe = flushed
                .get(step.file.as_str())
                .is_some_and(|before| number < *before);
            let path = folder.join(&step.file);
            let keep = safe || dice.below(4) < kept_of_four;
            lost += apply(step, &path, keep, safe, dice)
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(lost)
    }
}

fn apply(step: &Step, path: &Path, keep: bool, safe: bool, dice: &mut Dice) -> Result<u64> {
    match &step.call {
        Call::Flush { .. } => {}
        Call::Remove => {
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        Call::Truncate { .. } | Call::Write { .. } if !keep => return Ok(1),
        Call::Truncate { bytes } => writable(path)?.set_len(*bytes)?,
        Call::Write { at, bytes } => {
            let length = bytes.len() as u64;
            let torn = !safe && dice.below(4) == 0;
            let sectors = dice.below(length / SECTOR_BYTES + 1);
            let end = if torn { sectors * SECTOR_BYTES } else { length };
            let part = bytes.get(..usize::try_from(end)?).unwrap_or(bytes);
            writable(path)?.write_all_at(part, *at)?;
            return Ok(u64::from(torn));
        }
    }
    Ok(0)
}

fn writable(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    Ok(options
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?)
}

fn parse(text: &str, data: &Path) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // Flushes under way: by thread, the file and how many steps were before.
    let mut under_way: HashMap<&str, (String, usize)> = HashMap::new();
    for line in text.lines() {
        // The thread's number is filled up to a width.
        let Some((thread, after)) = line.split_once(' ') else {
            continue;
        };
        let Some((time, rest)) = after.trim_start().split_once(' ') else {
            continue;
        };
        let before = steps.len();
        let done = rest.ends_with("= 0");
        let flushed = if rest.starts_with("<... f") && rest.contains("sync resumed>") {
            under_way.remove(thread).filter(|_| done)
        } else if rest.starts_with("fsync(") || rest.starts_with("fdatasync(") {
            let flush = named(rest, data).map(|file| (file, before));
            match (flush, done) {
                (Some(flush), false) => {
                    under_way.insert(thread, flush);
                    None
                }
                (flush, _) => flush,
            }
        } else {
            let step = change(rest, data).map(|(file, call)| Step {
                at_us: microseconds(time),
                file,
                call,
            });
            steps.extend(step);
            None
        };
        steps.extend(flushed.map(|(file, before)| Step {
            at_us: microseconds(time),
            file,
            call: Call::Flush { before },
        }));
    }
    steps
}

/// A call that changes a file; the arguments stand in the line also when it is not finished in it.
fn change(rest: &str, data: &Path) -> Option<(String, Call)> {
    let call = rest.split('(').next()?;
    let file = named(rest, data)?;
    let last = |text: &str| -> Option<u64> {
        let (_, number) = text.rsplit_once(", ")?;
        let digits = number.find(|c: char| !c.is_ascii_digit());
        number.get(..digits.unwrap_or(number.len()))?.parse().ok()
    };
    let call = match call {
        "pwrite64" => {
            let (_, after) = rest.split_once(">, \"")?;
            let (bytes, after) = after.split_once('"')?;
            let bytes = unescape(bytes)?;
            Call::Write {
                at: last(after)?,
                bytes,
            }
        }
        "ftruncate" => Call::Truncate { bytes: last(rest)? },
        "unlink" | "unlinkat" if rest.ends_with("= 0") => Call::Remove,
        _ => return None,
    };
    Some((file, call))
}

/// Name of the file of the folder that a call is about.
fn named(rest: &str, data: &Path) -> Option<String> {
    let text = if rest.starts_with("unlink") {
        rest.split('"').nth(1)?
    } else {
        rest.split_once('<')?.1.split_once('>')?.0
    };
    let path = PathBuf::from(String::from_utf8(unescape(text)?).ok()?);
    let name = path.strip_prefix(data).ok()?.to_str()?.to_owned();
    // The index of a write-ahead log lies in memory and is made again.
    (!name.is_empty() && !name.ends_with("-shm")).then_some(name)
}

/// Bytes that `strace` wrote as `\x61\x62`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let bytes = text.split("\\x").skip(1);
    bytes
        .map(|digits| u8::from_str_radix(digits, 16).ok())
        .collect()
}

fn microseconds(time: &str) -> u64 {
    time.replace('.', "").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `strace -xx` writes text.
    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn record(data: &Path) -> String {
        let wal = hex(&data.join("wal").display().to_string());
        let sealed = hex(&data.join("sealed").display().to_string());
        let (a, b) = (hex(&"a".repeat(600)), hex("b"));
        [
            format!("7   100.000001 pwrite64(3<{wal}>, \"{a}\", 600, 0) = 600"),
            format!("7 100.000002 fdatasync(3<{wal}> <unfinished ...>"),
            format!("8 100.000003 pwrite64(4<{wal}>, \"{b}\", 1, 600 <unfinished ...>"),
            "7 100.000004 <... fdatasync resumed>) = 0".to_owned(),
            "8 100.000005 <... pwrite64 resumed>) = 1".to_owned(),
            format!("8 100.000006 unlink(\"{sealed}\") = 0"),
            format!(
                "8 100.000007 pwrite64(5<{}>, \"{b}\", 1, 0) = 1",
                hex("/elsewhere")
            ),
        ]
        .join("\n")
    }

    #[test]
    fn what_was_flushed_is_kept_and_what_was_only_written_may_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        fs::write(data.join("record"), record(data)).unwrap();
        let writes = Writes::read(&data.join("record"), data).unwrap();
        assert_eq!(writes.len(), 4);
        assert_eq!(writes.at_us(2), 100_000_004);
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let disk = data.join(format!("disk-{seed}"));
            fs::create_dir(&disk).unwrap();
            fs::write(disk.join("sealed"), "").unwrap();
            writes.rebuild(&disk, 4, &mut Dice::new(seed)).unwrap();
            let kept = fs::read(disk.join("wal")).unwrap();
            assert!(kept.starts_with("a".repeat(600).as_bytes()));
            assert!(!disk.join("sealed").exists());
            lengths.insert(kept.len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [600, 601]);
        // Before the flush has ended, nothing is sure.
        let disk = data.join("disk");
        let empty = (0..40).any(|seed| {
            fs::create_dir_all(&disk).unwrap();
            writes.rebuild(&disk, 2, &mut Dice::new(seed)).unwrap();
            let none = !disk.join("wal").exists();
            fs::remove_dir_all(&disk).unwrap();
            none
        });
        assert!(empty);
    }
}

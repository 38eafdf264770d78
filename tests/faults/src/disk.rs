//! Disks that fail on purpose: a small one in memory, and one whose system calls are answered wrong.
//! For the rows about storage; needs the right to mount, and `strace`.
//! Must never leave anything mounted, nor touch a disk of the machine.
//! Read next: `rows/storage.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use musubi_e2e::process::musubi_path;

/// What stays free when a disk is filled.
const LEFT_BYTES: usize = 256 * 1024;
const BLOCK_BYTES: usize = 4_096;

/// A small file system in memory; dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many bytes.
    ///
    /// # Errors
    /// When this machine does not allow it.
    pub fn mount(at: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(at)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .status();
        let mounted = mounted.is_ok_and(|status| status.success());
        ensure!(mounted, "the right to mount a small file system");
        Ok(Self(at.to_owned()))
    }

    /// Takes all room but a little; the file to remove for the room to come back.
    pub fn fill(&self) -> Result<PathBuf> {
        let filler = self.0.join("filler");
        let mut bytes = 4 << 20;
        let mut content: Vec<u8> = Vec::new();
        while bytes >= BLOCK_BYTES {
            let mut more = content.clone();
            more.resize(content.len() + bytes, 1);
            match fs::write(&filler, &more) {
                Ok(()) => content = more,
                Err(_) => bytes /= 2,
            }
        }
        content.truncate(content.len().saturating_sub(LEFT_BYTES));
        fs::write(&filler, &content).context("fill a small file system")?;
        Ok(filler)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn unmount(at: &Path) {
    let unmounted = Command::new("umount").arg("-l").arg(at).status();
    if !unmounted.is_ok_and(|status| status.success()) {
        eprintln!("{} is still mounted", at.display());
    }
}

/// The hub under `strace`, which answers a system call on one of its files as told, such as
/// `error=EIO:when=20`.
pub fn injected(file: &Path, call: &str, answer: &str) -> Result<Command> {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-o", "/dev/null", "-P"])
        .arg(file)
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:{answer}")])
        .arg(musubi_path()?);
    Ok(command)
}

/// Whether this machine lets one process answer another one's system calls.
pub fn can_inject() -> bool {
    let tried = Command::new("strace")
        .args([
            "-o",
            "/dev/null",
            "-e",
            "inject=fsync:error=EIO:when=1",
            "true",
        ])
        .status();
    tried.is_ok_and(|status| status.success())
}

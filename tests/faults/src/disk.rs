//! Disks that fail on purpose: one without power, a small one, one with wrong answers to system calls.
//! For the rows about storage; needs the right to mount, and `strace`.
//! Must never leave anything mounted, nor touch a disk of the machine.
//! Read next: `rows/storage.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use musubi_e2e::process::musubi_path;

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
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        quiet(mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at))
            .context("a small file system (mount -t tmpfs)")?;
        Ok(Self(at.to_owned()))
    }

    /// Takes all room but so many bytes; the file to remove for the room to come back.
    pub fn fill(&self, left_bytes: usize) -> Result<PathBuf> {
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
        content.truncate(content.len().saturating_sub(left_bytes));
        fs::write(&filler, &content).context("fill a small file system")?;
        Ok(filler)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Cuts a file system off its disk, as a power cut does: what it had not written is gone, and its
/// journal is not written either (`EXT4_IOC_SHUTDOWN`, `EXT4_GOING_FLAGS_NOLOGFLUSH`).
const CUT: &str = r#"
open(my $folder, "<", $ARGV[0]) or die "open: $!";
my $flags = pack("L", 2);
ioctl($folder, 0x8004587d, $flags) or die "cut: $!";
"#;

/// A disk in a file, with a file system of its own; dropping it unmounts it.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    at: PathBuf,
}

impl Image {
    /// Makes one of so many bytes and mounts it.
    ///
    /// # Errors
    /// When this machine does not allow it.
    pub fn mount(file: &Path, at: &Path, bytes: u64) -> Result<Self> {
        fs::create_dir_all(at)?;
        fs::File::create(file)?.set_len(bytes)?;
        quiet(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(file))
            .context("making a file system in a file (mkfs.ext4)")?;
        let image = Self {
            file: file.to_owned(),
            at: at.to_owned(),
        };
        image.attach().context("loop devices (mount -o loop)")?;
        Ok(image)
    }

    fn attach(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        quiet(mount.args(["-o", "loop"]).arg(&self.file).arg(&self.at))
    }

    /// The power is cut at this moment; every later write and flush fails.
    pub fn cut(&self) -> Result<()> {
        quiet(Command::new("perl").args(["-e", CUT]).arg(&self.at)).context("cut the power")
    }

    /// The power is back, and the file system is what was on the disk. Nobody may use it before.
    pub fn back(&self) -> Result<()> {
        quiet(Command::new("umount").arg(&self.at)).context("take the dead file system away")?;
        self.attach().context("mount what the power cut left")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// Runs a command; its words only when it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", words.trim());
    Ok(())
}

fn unmount(at: &Path) {
    if let Err(error) = quiet(Command::new("umount").arg("-l").arg(at)) {
        eprintln!("{} is still mounted: {error:#}", at.display());
    }
}

/// The hub under `strace`, which answers a system call on these of its files, or on all, as told,
/// such as `error=EIO:when=20`.
pub fn injected(files: &[PathBuf], call: &str, answer: &str) -> Result<Command> {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null"]);
    for file in files {
        command.arg("-P").arg(file);
    }
    command
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:{answer}")])
        .arg(musubi_path()?);
    Ok(command)
}

/// Whether this machine lets one process answer another one's system calls.
pub fn can_inject() -> bool {
    let inject = "inject=fsync:error=EIO:when=1";
    quiet(Command::new("strace").args(["-o", "/dev/null", "-e", inject, "true"])).is_ok()
}

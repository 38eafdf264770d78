//! The disk alone: how often it syncs, and how fast batches get onto it.
//! What the floor is held against, and what every other number of a run stands on.
//! Must never write to another file system than the measurements do.
//! Read next: `floor.rs`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Syncs that the rate is taken from.
const SYNCS: u32 = 200;

/// Syncs of one small write a second.
pub(crate) fn syncs_per_second(folder: &Path) -> Result<f64> {
    let took = write_batches(&folder.join("disk.syncs"), &[0; 512], SYNCS)?;
    Ok(f64::from(SYNCS) / took.as_secs_f64())
}

/// Appends batches, each with a sync of its own.
pub(crate) fn write_batches(file: &Path, batch: &[u8], batches: u32) -> Result<Duration> {
    let mut file = File::options().create(true).append(true).open(file)?;
    let started = Instant::now();
    for _ in 0..batches {
        file.write_all(batch)?;
        file.sync_data()?;
    }
    Ok(started.elapsed())
}

//! B3: the disk of one adapter becomes full, and has room again.
//! First the exchange folder of a product of files, then the folder in which the registry's adapter
//! keeps its progress; another receiver of the same hub goes on meanwhile.
//! Must never count a full disk that no adapter met.
//! Read next: `../exchange.rs`.

use std::fs;

use anyhow::{Result, ensure};
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::wait_until;

use super::super::exchange::{Journal, Town};
use crate::disk::SmallDisk;
use crate::load::Taker;
use crate::row::{Ctx, RowReport};

/// The receiver that has room, and its product.
const OTHER: &str = "010";
const OTHER_PRODUCT: &str = "test-tax";
/// The receiver whose folder becomes full.
const FILES: (&str, &str) = ("026", "hinoki");
const DISK_BYTES: u64 = 8 << 20;

pub(super) async fn full_folders(ctx: Ctx) -> Result<RowReport> {
    let exchange = ctx.folder.join("hinoki/exchange/in");
    let progress = ctx.folder.join("tsubame/adapter");
    let disks = SmallDisk::mount(&exchange, DISK_BYTES)
        .and_then(|first| Ok((first, SmallDisk::mount(&progress, DISK_BYTES)?)));
    let (exchange, progress) = match disks {
        Ok(disks) => disks,
        Err(error) => return Ok(RowReport::cannot(format!("{error:#}"))),
    };
    let mut town = Town::start(&ctx.folder, FILES, None).await?;
    town.client.bind(OTHER, OTHER_PRODUCT).await?;
    let other = Taker::start(town.client.clone(), OTHER, OTHER_PRODUCT);
    let mut notes = Vec::new();
    for _ in 0..ctx.count {
        full_exchange(&mut town, &exchange).await?;
        notes.push(full_progress(&mut town, &progress, &ctx).await?);
    }
    town.client.wait_until_delivered(&[OTHER]).await?;
    let effects = other.journal().effects.len();
    let ledger = town.stage.folder("hinoki/data")?.join("hinoki.db");
    let mut report = town
        .finish(u64::from(2 * ctx.count), Journal::Ledger(ledger))
        .await?;
    report.notes.extend(notes);
    report
        .notes
        .push(format!("{effects} effects at the other receiver"));
    Ok(report)
}

/// The product's folder is full: its adapter waits with what it has, everybody else goes on.
async fn full_exchange(town: &mut Town, disk: &SmallDisk) -> Result<()> {
    let filler = disk.fill(0)?;
    let refused = |text: String| text.matches("request file not written").count();
    let before = refused(town.adapter.log_text()?);
    town.next_file()?;
    wait_until(PATIENCE, "the full folder to be met", async || {
        Ok(refused(town.adapter.log_text()?) > before)
    })
    .await?;
    town.client.wait_until_logged(town.rows).await?;
    town.client.wait_until_delivered(&[OTHER]).await?;
    let own = town.client.subscription(FILES.0).await?;
    ensure!(own.lag > 0, "it did not wait: {own:?}");
    fs::remove_file(filler)?;
    town.client.wait_until_delivered(&[FILES.0]).await
}

/// The registry's adapter cannot keep its progress; what it says of it.
async fn full_progress(town: &mut Town, disk: &SmallDisk, ctx: &Ctx) -> Result<String> {
    let filler = disk.fill(0)?;
    town.next_file()?;
    let before = town.capture.log_text()?.len();
    wait_until(PATIENCE, "the full disk to be met", async || {
        let ended = town.capture.ended()?.is_some();
        Ok(ended || town.capture.log_text()?.len() > before)
    })
    .await?;
    let said = town.capture.tail(1);
    let ended = town.capture.ended()?;
    // Nobody else is held up.
    town.client.wait_until_delivered(&[OTHER, FILES.0]).await?;
    fs::remove_file(filler)?;
    if ended.is_some() {
        let out = ctx.folder.join("out");
        let hub = town.hub_url();
        town.capture = town.stage.registry_adapter(&hub, &out)?;
    }
    town.client.wait_until_logged(town.rows).await?;
    Ok(format!("{ended:?}: {said}"))
}

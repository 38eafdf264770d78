//! B7: a disk whose every flush takes its time.
//! `strace` holds each flush of the hub back; publishes are late, and nothing else.
//! Must never pass when the publishes were not late: then nothing was slow.
//! Read next: `../../disk.rs`.

use std::time::Duration;

use musubi_e2e::Hub;

use super::{PRODUCT, SYSTEM};
use crate::disk::{can_inject, injected};
use crate::load::{self, Taker};
use crate::row::{Ctx, RowReport};

const DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
const SUBJECTS: u32 = 40;
/// How much more the hub may hold than before.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

pub(super) async fn slow_disk(ctx: Ctx) -> RowReport {
    if !can_inject() {
        return RowReport::cannot("answering system calls late (strace -e inject)");
    }
    let mut report = RowReport::default();
    for delay in DELAYS {
        let within = ctx.within(&format!("{}-ms", delay.as_millis()));
        report.add(flushes_take(&within, delay).await);
    }
    report
}

async fn flushes_take(ctx: &Ctx, delay: Duration) -> RowReport {
    let answer = format!("delay_exit={}", delay.as_micros());
    let mut command = injected(&[], "fsync,fdatasync", &answer).unwrap();
    command.arg("serve");
    let mut hub = Hub::start_as(&ctx.folder, command).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let taker = Taker::start(client.clone(), SYSTEM, PRODUCT);
    let before = hub.process().resident_bytes().unwrap();
    let clients = [client.clone()];
    let published = load::publish(&clients, 0..SUBJECTS, 1..=ctx.count).await;
    let published = published.unwrap();
    let grown = hub.process().resident_bytes().unwrap();
    let grown = grown.saturating_sub(before);
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    let (middle, late) = (published.percentile(50), published.percentile(99));
    let told = format!(
        "flushes of {delay:?}: p50 {middle:?}, p99 {late:?}, {} refused, {} failed, {grown} bytes more",
        published.overloaded, published.failed
    );
    assert!(middle >= delay, "that was no slow disk: {told}");
    assert_eq!(published.failed, 0, "{told}");
    assert_eq!(published.without_hint, 0, "{told}");
    assert!(grown <= GROWTH_BYTES_MAX, "{told}");
    let said = hub.process().log_text().unwrap();
    let errors = said.lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 0, "{said}");
    let mut violations = load::violations(&published, &journal);
    violations.extend(load::log_violations(&client, &published).await.unwrap());
    RowReport {
        injected: 1,
        published: published.acknowledged.len() as u64,
        delivered: journal.effects.len() as u64,
        violations,
        notes: vec![told],
        ..RowReport::default()
    }
}

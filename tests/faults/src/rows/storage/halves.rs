//! B5: writes that are interrupted, find no room half-way, or end short.
//! Interrupted ones are tried again, the others refuse one publish or end the hub; it is started
//! again, as its service manager does.
//! Must never pass a round in which no write was harmed.
//! Read next: `failing.rs`, `../../disk.rs`.

use std::process::Command;

use musubi_e2e::process::musubi_path;
use musubi_e2e::{Hub, wait_until};

use super::{PRODUCT, SYSTEM};
use crate::dice::Dice;
use crate::disk::{can_inject, injected};
use crate::load::{self, Taker};
use crate::row::{Ctx, RowReport};
use crate::scene::PATIENCE;

const SUBJECTS: u32 = 8;
const VERSIONS: u32 = 40;

/// What happens to writes of a file of the hub.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Now and then one is interrupted by a signal (EINTR).
    Interrupted(&'static str),
    /// One finds no room (ENOSPC), after others of its transaction were written: the first write
    /// after so many of a thread, or one of the next.
    NoRoom(&'static str, u64),
    /// One ends in the middle of its bytes, and the file cannot grow (RLIMIT_FSIZE, EFBIG).
    Short,
}

const HARMS: [Harm; 5] = [
    Harm::Interrupted("log.sqlite-wal"),
    Harm::NoRoom("log.sqlite-wal", 60),
    Harm::Short,
    Harm::Interrupted("store.sqlite-wal"),
    Harm::NoRoom("store.sqlite-wal", 301),
];

pub(super) async fn half_writes(ctx: Ctx) -> RowReport {
    if !can_inject() {
        return RowReport::cannot("answering system calls (strace -e inject)");
    }
    let mut dice = Dice::new(ctx.seed);
    let mut report = RowReport::default();
    for (number, harm) in (0..ctx.count).zip(HARMS.iter().cycle()) {
        let within = ctx.within(&format!("{number}"));
        report.add(harmed(&within, *harm, &mut dice).await);
    }
    report
}

async fn harmed(ctx: &Ctx, harm: Harm, dice: &mut Dice) -> RowReport {
    let mut command = command(ctx, harm, dice);
    command.arg("serve");
    let mut hub = Hub::start_as(&ctx.folder, command).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let taker = Taker::start(client.clone(), SYSTEM, PRODUCT);
    let clients = [client.clone()];
    let load = async move { load::publish(&clients, 0..SUBJECTS, 1..=VERSIONS).await };
    let load = tokio::spawn(load);
    let mut ends = 0;
    wait_until(PATIENCE, "everything to be acknowledged", async || {
        if hub.process().ended()?.is_some() {
            ends += 1;
            hub.restart().await?;
        }
        Ok(load.is_finished())
    })
    .await
    .unwrap();
    let published = load.await.unwrap().unwrap();
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    let refused = published.overloaded;
    let told = format!("{harm:?}: {refused} refused, the hub ended {ends} times");
    match harm {
        Harm::Interrupted(_) => assert_eq!((refused, ends), (0, 0), "{told}"),
        Harm::NoRoom(..) | Harm::Short => assert!(refused + ends > 0, "no harm: {told}"),
    }
    assert_eq!(published.without_hint, 0, "{told}");
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

/// The hub whose writes are harmed.
fn command(ctx: &Ctx, harm: Harm, dice: &mut Dice) -> Command {
    let file = |name: &str| [ctx.folder.join("hub").join(name)];
    let answer = match harm {
        Harm::Interrupted(_) => format!("error=EINTR:when={}+7", 2 + dice.below(7)),
        Harm::NoRoom(_, after) => format!("error=ENOSPC:when={}", after + dice.below(60)),
        Harm::Short => String::new(),
    };
    match harm {
        Harm::Interrupted(name) | Harm::NoRoom(name, _) => {
            injected(&file(name), "pwrite64", &answer).unwrap()
        }
        Harm::Short => {
            let bytes = 400_000 + dice.below(400_000);
            let mut command = Command::new("prlimit");
            command.arg(format!("--fsize={bytes}"));
            // The signal that comes with it would end the hub before it sees the error.
            command.args(["env", "--ignore-signal=XFSZ"]);
            command.arg(musubi_path().unwrap());
            command
        }
    }
}

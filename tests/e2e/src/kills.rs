//! Kills the demo's processes at random moments, and judges what is left of the town in the end.
//! Behind the test `kills.rs` and the program `faults`; the seed decides victims and moments.
//! Must never kill a process that is not a child of the demo it started.
//! Read next: `journals.rs`, which judges the end.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::demo::Demo;
use crate::journals::{check_journals, check_log};
use crate::process::kill_child_of;
use crate::town::town;

/// 届出 that one file of the registry holds at most.
const GROUPS_PER_FILE: u32 = 40;
/// Younger than this, the demo counts a process as not really started.
const YOUNG: Duration = Duration::from_millis(1_500);
/// Times in a row that a process may be killed young: the demo gives up at five.
const YOUNG_KILLS_MAX: u32 = 2;
/// Beyond the kills, time that the demo has for all the rest.
const REST: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);

/// Victims, with the kind they count as. The hub is three times as often a victim as another.
const VICTIMS: &[(&str, &str)] = &[
    ("hub", "hub"),
    ("hub", "hub"),
    ("hub", "hub"),
    ("tsubame-adapter", "adapter"),
    ("kaede-adapter", "adapter"),
    ("hinoki-adapter", "adapter"),
    ("ayame-adapter", "adapter"),
    ("momiji-adapter", "adapter"),
    ("tsubame", "product"),
    ("kaede", "product"),
    ("hinoki", "product"),
    ("ayame", "product"),
    ("momiji", "product"),
];

/// What to do.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Kills to deliver.
    pub count: u32,
    /// Decides victims and moments.
    pub seed: u64,
    /// The town; the built-in one when absent.
    pub town: Option<PathBuf>,
    /// Folder of everything; it is left to the caller.
    pub folder: PathBuf,
    /// Mean time between two kills.
    pub interval: Duration,
}

/// What was done, and what came of it.
#[derive(Debug)]
pub struct Report {
    /// Kills delivered by process.
    pub kills: BTreeMap<String, u32>,
    /// Kills delivered by kind: hub, adapter, product.
    pub kinds: BTreeMap<String, u32>,
    /// The demo's result.
    pub result: Value,
    /// Changes in the log, each once.
    pub changes: usize,
    /// Lengths of the products' journals, nothing twice in any.
    pub journals: BTreeMap<String, usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u32 = self.kinds.values().sum();
        writeln!(f, "{total} kills delivered: {:?}", self.kinds)?;
        writeln!(f, "  {:?}", self.kills)?;
        writeln!(f, "{} changes in the log, each once", self.changes)?;
        writeln!(f, "nothing twice at the products: {:?}", self.journals)?;
        for system in self.result["systems"].as_array().into_iter().flatten() {
            writeln!(
                f,
                "{} {}: {} of {}, {} waiting",
                system["system"],
                system["product"],
                system["state_equal"],
                system["state_total"],
                system["waiting"]
            )?;
        }
        write!(f, "swap: {}", self.result["swap"])
    }
}

/// Numbers from a seed (SplitMix64): the same on every machine.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Plays a town while its processes are killed; fails unless everything holds in the end.
pub fn run(faults: &Faults) -> Result<Report> {
    let played = play(faults);
    played.with_context(|| {
        format!(
            "{} kills with seed {}; everything is in {}",
            faults.count,
            faults.seed,
            faults.folder.display()
        )
    })
}

fn play(faults: &Faults) -> Result<Report> {
    let files = town_files(faults)?;
    let span = faults.interval * faults.count;
    let pace_ms = span.as_millis() / u128::from(files);
    let limit = span * 3 + REST;
    let mut arguments = vec![
        "--pace".to_owned(),
        pace_ms.to_string(),
        "--timeout".to_owned(),
        limit.as_secs().to_string(),
    ];
    if let Some(town) = &faults.town {
        arguments.extend(["--town".to_owned(), town.display().to_string()]);
    }
    let mut demo = Demo::start(&faults.folder, &arguments)?;
    let kills = kill_all(faults, &mut demo)?;
    let data = demo.data().to_owned();
    let result = demo.finish(limit)?;
    let mut kinds = BTreeMap::new();
    for (name, count) in &kills {
        let kind = VICTIMS.iter().find(|victim| victim.0 == name);
        *kinds
            .entry(kind.map_or("", |kind| kind.1).to_owned())
            .or_default() += count;
    }
    let town = faults.town.clone().unwrap_or_else(town);
    let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
    let (journals, changes) = runtime.block_on(async {
        let journals = check_journals(&data).await?;
        Ok::<_, anyhow::Error>((journals, check_log(&data, &town).await?))
    })?;
    let restarts = result["restarts"].as_u64().unwrap_or_default();
    let total: u32 = kills.values().sum();
    ensure!(
        restarts >= u64::from(total),
        "{total} kills, but only {restarts} restarts"
    );
    Ok(Report {
        kills,
        kinds,
        result,
        changes,
        journals,
    })
}

/// Number of files that the registry will write: each holds 届出 of one day, up to its limit.
fn town_files(faults: &Faults) -> Result<u64> {
    let folder = faults.town.clone().unwrap_or_else(town);
    let path = folder.join("changes.csv");
    let mut reader =
        csv::Reader::from_path(&path).with_context(|| format!("read {}", path.display()))?;
    let header = reader.headers()?.clone();
    let place = |name: &str| {
        let place = header.iter().position(|column| column == name);
        place.with_context(|| format!("{} has no `{name}`", path.display()))
    };
    let (time, group) = (place("shorinichiji")?, place("todokedegurupuid")?);
    // The full file and the one of the invalid rows.
    let mut files = 2;
    let (mut last_day, mut last_group, mut groups) = (String::new(), String::new(), 0);
    for record in reader.records() {
        let record = record?;
        let value = |place: usize| record.get(place).unwrap_or_default();
        let day = value(time).split('T').next().unwrap_or_default();
        if day != last_day || (value(group) != last_group && groups == GROUPS_PER_FILE) {
            files += 1;
            groups = 0;
        }
        if value(group) != last_group {
            groups += 1;
        }
        day.clone_into(&mut last_day);
        value(group).clone_into(&mut last_group);
    }
    Ok(files)
}

fn kill_all(faults: &Faults, demo: &mut Demo) -> Result<BTreeMap<String, u32>> {
    let mut dice = Dice(faults.seed);
    let mut kills = BTreeMap::new();
    let mut young: BTreeMap<&str, u32> = BTreeMap::new();
    let interval_ms = u64::try_from(faults.interval.as_millis())?;
    for number in 1..=faults.count {
        // The moment is drawn, it waits for nothing: from half to one and a half intervals.
        let pause = Duration::from_millis(interval_ms / 2 + dice.below(interval_ms));
        let moment = Instant::now() + pause;
        while Instant::now() < moment {
            std::thread::sleep(POLL.min(moment.saturating_duration_since(Instant::now())));
        }
        let victim = loop {
            if demo.process().ended()?.is_some() {
                bail!(
                    "the demo ended before kill {number}: {}",
                    demo.process().tail(5)
                );
            }
            let index = usize::try_from(dice.below(VICTIMS.len() as u64))?;
            let Some((name, _)) = VICTIMS.get(index) else {
                continue;
            };
            if kill(demo, name, &mut young)? {
                break *name;
            }
            // It is being started again; another one is drawn.
            std::thread::sleep(POLL);
        };
        *kills.entry(victim.to_owned()).or_default() += 1;
    }
    Ok(kills)
}

/// Kills a process of the demo; false when it does not run now, or would be killed young too often.
fn kill<'a>(demo: &mut Demo, name: &'a str, young: &mut BTreeMap<&'a str, u32>) -> Result<bool> {
    let file = demo.data().join("run").join(format!("{name}.pid"));
    let Some((pid, age)) = read_pid(&file) else {
        return Ok(false);
    };
    let times = young.entry(name).or_default();
    if age >= YOUNG {
        *times = 0;
    } else if *times >= YOUNG_KILLS_MAX {
        return Ok(false);
    } else {
        *times += 1;
    }
    kill_child_of(pid, demo.process().pid())
}

fn read_pid(file: &Path) -> Option<(u32, Duration)> {
    let age = fs::metadata(file).ok()?.modified().ok()?.elapsed().ok()?;
    let pid = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some((pid, age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_town_are_counted_as_the_registry_writes_them() {
        let faults = |town| Faults {
            count: 1,
            seed: 1,
            town,
            folder: PathBuf::new(),
            interval: Duration::from_millis(1),
        };
        assert_eq!(town_files(&faults(None)).unwrap(), 45);
        let other = Some(crate::town::town_7());
        assert_eq!(town_files(&faults(other)).unwrap(), 45);
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = |seed| {
            let mut dice = Dice(seed);
            [dice.next(), dice.next(), dice.next()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(Dice(0).next(), 0xe220_a839_7b1d_cdaf);
    }
}

//! `cargo xtask bench`: how fast events go from publish to receipt, as a share of what the disk allows.
//! A hub with an adapter that does nothing, against SQLite inserts of the same bytes with the same
//! promise to the disk, round by round in one run: the ratio holds where absolute numbers do not.
//! Must never measure without the floor beside it.
//! Read next: `docs/specs/log.md` for what the hub does beyond the insert.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use musubi_e2e::event::moved;
use musubi_e2e::receiver::Receiver;
use musubi_e2e::{Client, Hub};
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Capabilities, Event, Outcome, Stream};
use prost::Message;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};

const SYSTEM: &str = "010";
const PRODUCT: &str = "null";
const CREDITS: u32 = 2_000;
/// Fewer rounds say nothing about the spread.
const ROUNDS_MIN: u32 = 7;

/// Measures publish → receipt with an adapter that does nothing.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Cli {
    /// Rounds of each measurement, hub and floor in turn
    #[arg(long, default_value_t = ROUNDS_MIN, value_name = "N", value_parser = clap::value_parser!(u32).range(7..=1_000))]
    rounds: u32,
    /// Events of one round in large requests
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    events: u32,
}

/// How events are published.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    /// Events of a round.
    events: u32,
    /// Units of one request, and rows of one transaction of the floor.
    batch: usize,
}

/// What one round took.
#[derive(Debug, Clone, Copy)]
struct Round {
    hub: Duration,
    floor: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let folder = tempfile::Builder::new().prefix("musubi-bench-").tempdir()?;
    let hub = Hub::start(folder.path()).await?;
    let client = hub.client()?;
    client.bind(SYSTEM, PRODUCT).await?;
    let capabilities = Capabilities {
        protection_flag: true,
        idempotent: true,
        ..Capabilities::default()
    };
    let mut adapter = Receiver::attach_when_bound(&client, SYSTEM, PRODUCT, capabilities).await?;
    adapter.allow(CREDITS).await?;
    let mut floor = open_floor(&folder.path().join("floor.sqlite")).await?;
    println!(
        "publish → receipt through the hub against SQLite inserts of the same bytes, \
         synchronous=FULL; {} rounds in turn",
        cli.rounds
    );
    let shapes = [
        Shape {
            name: "one event a request, one after the other",
            events: 200,
            batch: 1,
        },
        Shape {
            name: "100 events a request",
            events: cli.events.max(100),
            batch: 100,
        },
    ];
    let mut sequence = 0;
    for (place, shape) in shapes.into_iter().enumerate() {
        let mut rounds = Vec::new();
        // The first round opens files and connections and is not counted.
        for number in 0..=cli.rounds {
            let events = events_of(place, number, shape.events)?;
            sequence += u64::from(shape.events);
            let hub = through_hub(&client, &mut adapter, &events, shape.batch, sequence).await?;
            let floor = insert(&mut floor, &events, shape.batch).await?;
            if number > 0 {
                rounds.push(Round { hub, floor });
            }
        }
        print_shape(shape, &rounds);
    }
    Ok(())
}

/// Events of a round: one for each of as many persons, each round the next version of them.
fn events_of(place: usize, round: u32, count: u32) -> Result<Vec<Event>> {
    (0..count)
        .map(|person| moved(&format!("{}{person:09}", place + 1), round + 1))
        .collect()
}

/// Publishes all, and waits until the hub has an outcome for each.
async fn through_hub(
    client: &Client,
    adapter: &mut Receiver,
    events: &[Event],
    batch: usize,
    sequence: u64,
) -> Result<Duration> {
    let requests: Vec<Vec<Vec<Event>>> = events
        .chunks(batch)
        .map(|chunk| chunk.iter().map(|event| vec![event.clone()]).collect())
        .collect();
    let started = Instant::now();
    let publishing = async {
        for units in requests {
            for answer in client.publish(units).await? {
                let accepted = matches!(answer.answer, Some(Answer::Accepted(_)));
                ensure!(accepted, "not accepted: {answer:?}");
            }
        }
        Ok(())
    };
    tokio::try_join!(publishing, take_all(adapter, sequence))?;
    Ok(started.elapsed())
}

/// The adapter that does nothing: everything is applied at once.
async fn take_all(adapter: &mut Receiver, sequence: u64) -> Result<()> {
    loop {
        match adapter.next().await? {
            Some(Response::Delivery(delivery)) => {
                adapter.answer(&delivery, Outcome::Applied).await?;
                adapter.allow(1).await?;
            }
            Some(Response::CompleteUpTo(mark)) if mark.stream() == Stream::Live => {
                if mark.sequence >= sequence {
                    return Ok(());
                }
            }
            Some(Response::CompleteUpTo(_)) => {}
            other => bail!("the hub said {other:?}"),
        }
    }
}

async fn open_floor(file: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut floor = SqliteConnection::connect_with(&options)
        .await
        .context("open the floor's database")?;
    sqlx::query("CREATE TABLE event (position INTEGER PRIMARY KEY, bytes BLOB NOT NULL)")
        .execute(&mut floor)
        .await?;
    Ok(floor)
}

async fn insert(floor: &mut SqliteConnection, events: &[Event], batch: usize) -> Result<Duration> {
    let rows: Vec<Vec<u8>> = events.iter().map(Message::encode_to_vec).collect();
    let started = Instant::now();
    for chunk in rows.chunks(batch) {
        let mut transaction = floor.begin().await?;
        for bytes in chunk {
            sqlx::query("INSERT INTO event (bytes) VALUES (?)")
                .bind(bytes)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
    }
    Ok(started.elapsed())
}

fn print_shape(shape: Shape, rounds: &[Round]) {
    let events = f64::from(shape.events);
    let rate = |took: Duration| events / took.as_secs_f64();
    let hub = Spread::of(rounds.iter().map(|round| rate(round.hub)).collect());
    let floor = Spread::of(rounds.iter().map(|round| rate(round.floor)).collect());
    let ratios = rounds
        .iter()
        .map(|round| rate(round.hub) / rate(round.floor));
    let ratio = Spread::of(ratios.collect());
    println!("\n{} ({} events a round)", shape.name, shape.events);
    println!("  hub    {hub:.0} events/s");
    println!("  floor  {floor:.0} events/s");
    println!("  ratio  {ratio:.3} (median, lowest to highest)");
}

/// Median, lowest and highest of some measurements.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(values.len() / 2),
            lowest: at(0),
            highest: at(values.len().saturating_sub(1)),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.lowest, self.highest
        )
    }
}

//! What the demo sees while it plays: the hub's answers, the registry's progress, the log.
//! Every look survives a hub that is being started again, up to the time limit of the demo.
//! Must never wait without a condition and a limit.
//! Read next: `story.rs`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use musubi_proto::hub::v1::{
    Event, GetCaptureCursorRequest, HeldState, HeldUnit, ParkedUnit, StoredEvent, Stream,
    Subscription,
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::children::Children;
use super::hubs::Hubs;
use super::plan::Plan;
use super::progress::{Progress, Step};
use super::town::Scene;
use crate::client::Hub;
use crate::commands::events::source_name;
use crate::commands::{events, held, parked, subscriptions};
use crate::failure::Failure;

const POLL: Duration = Duration::from_millis(50);
const PAGE: u32 = 1_000;
/// Most units that a list of the demo holds.
const UNITS_MAX: usize = 100_000;
/// The registry's source.
const SOURCE: &str = "001";

/// One event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Event id.
    pub(crate) id: String,
    /// 宛名番号.
    pub(crate) subject: String,
    /// 履歴番号.
    pub(crate) version: u32,
    /// Stream.
    pub(crate) stream: Stream,
    /// Position.
    pub(crate) position: u64,
}

/// How far the registry's program is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct RegistryStatus {
    /// Files that it wrote.
    pub(crate) files_written: u64,
    /// Files that there will be; unknown at first.
    pub(crate) files_total: Option<u64>,
}

/// Everything that the demo plays with.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// Folders and command lines.
    pub(crate) plan: Plan,
    /// The town.
    pub(crate) scene: Scene,
    /// The running processes.
    pub(crate) children: &'a mut Children,
    /// What the user sees.
    pub(crate) progress: Progress,
    /// The hub.
    pub(crate) hubs: Hubs,
    /// What was killed for good.
    pub(crate) killed: Vec<String>,
    /// When the demo gives up.
    pub(crate) deadline: Instant,
    /// Addresses of the products by name.
    pub(crate) addresses: HashMap<String, String>,
    /// The log, as read so far.
    pub(crate) log: Vec<Entry>,
    next: HashMap<i32, u64>,
}

impl<'a> Stage<'a> {
    /// A stage whose hub runs.
    pub(crate) fn new(
        plan: Plan,
        scene: Scene,
        children: &'a mut Children,
        progress: Progress,
        hubs: Hubs,
        deadline: Instant,
    ) -> Self {
        Self {
            plan,
            scene,
            children,
            progress,
            hubs,
            killed: Vec::new(),
            deadline,
            addresses: HashMap::new(),
            log: Vec::new(),
            next: HashMap::new(),
        }
    }

    /// Waits a moment; fails when the time is over or a process does not run.
    pub(crate) async fn pause(&self, waits_for: &str) -> Result<()> {
        self.children.check()?;
        if Instant::now() >= self.deadline {
            let line = format!(
                "the demo took longer than --timeout allows; it was waiting for {waits_for}"
            );
            return Err(Failure::Timeout(line).into());
        }
        sleep(POLL).await;
        Ok(())
    }

    /// Asks the hub again while it does not answer, or asks for it.
    pub(crate) async fn ask<T>(&self, call: impl AsyncFn(&Hub) -> Result<T>) -> Result<T> {
        loop {
            match call(&self.hubs.open()).await {
                Err(error) if is_for_later(&error) => self.pause("the hub").await?,
                answer => return answer,
            }
            self.hubs.try_another().await;
        }
    }

    /// The subscriptions.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<Subscription>> {
        let municipality = &self.scene.municipality;
        let listed = self
            .ask(async |hub| subscriptions::list(hub, municipality).await)
            .await?;
        Ok(listed.subscriptions)
    }

    /// Parked units of a system.
    pub(crate) async fn parked(&self, system: &str) -> Result<Vec<ParkedUnit>> {
        let municipality = &self.scene.municipality;
        self.ask(async |hub| parked::all(hub, municipality, system, UNITS_MAX).await)
            .await
    }

    /// Held units that broke a rule, or wait for a missing version.
    pub(crate) async fn held(&self) -> Result<Vec<HeldUnit>> {
        let municipality = &self.scene.municipality;
        let state = HeldState::Unspecified;
        let held = self.ask(async |hub| held::all(hub, municipality, state, UNITS_MAX).await);
        Ok(held.await?.0)
    }

    /// Number of the file up to which the registry's adapter has published, and its cursor.
    pub(crate) async fn captured(&self) -> Result<(u64, String)> {
        let municipality = self.scene.municipality.clone();
        let source = source_name(SOURCE, &municipality);
        let request = GetCaptureCursorRequest {
            municipality,
            source,
            product: String::new(),
        };
        let asked = self.ask(async |hub| {
            let answer = hub.events().get_capture_cursor(request.clone()).await;
            Ok(answer
                .map_err(hub.refused("ask for the capture cursor"))?
                .into_inner())
        });
        let cursor = asked
            .await?
            .cursor
            .map(|cursor| cursor.value)
            .unwrap_or_default();
        let digits: String = cursor.chars().take_while(char::is_ascii_digit).collect();
        Ok((digits.parse().unwrap_or(0), cursor))
    }

    /// How far the registry's program is.
    pub(crate) fn registry(&self) -> RegistryStatus {
        fs::read_to_string(self.plan.registry_status())
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// True while the old pension product has a file without results.
    pub(crate) fn open_file(&self) -> bool {
        let Ok(entries) = fs::read_dir(self.plan.exchange().join("in")) else {
            return false;
        };
        entries.flatten().any(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "mf")
        })
    }

    /// Closes the old pension product's office: it processes no file until it opens again.
    pub(crate) fn close_office(&self) -> Result<()> {
        Ok(fs::write(self.plan.closed(), "")?)
    }

    /// Opens it again.
    pub(crate) fn open_office(&self) -> Result<()> {
        Ok(fs::remove_file(self.plan.closed())?)
    }

    /// Reads what is new in the log.
    pub(crate) async fn read_log(&mut self) -> Result<()> {
        for stream in [Stream::Live, Stream::Bulk] {
            loop {
                let from = self.next.get(&stream.into()).copied().unwrap_or(0);
                let municipality = &self.scene.municipality;
                let page =
                    self.ask(async |hub| events::page(hub, municipality, stream, from, PAGE).await);
                let (stored, _) = page.await?;
                let Some(last) = stored.last() else {
                    break;
                };
                self.next.insert(stream.into(), last.position + 1);
                self.log.extend(stored.iter().filter_map(entry));
            }
        }
        Ok(())
    }

    /// 宛名番号 of an event of the log.
    pub(crate) fn subject_of(&self, event_id: &str) -> Option<&str> {
        let entry = self.log.iter().find(|entry| entry.id == event_id)?;
        Some(entry.subject.as_str())
    }

    /// Shows how far everything is.
    pub(crate) fn show(&self, subscriptions: &[Subscription]) {
        let registry = self.registry();
        let mut steps = vec![Step {
            name: "001 tsubame, files".to_owned(),
            done: registry.files_written,
            total: registry.files_total.unwrap_or(0),
        }];
        let serves = |system: &str, product: &str| {
            let own = subscriptions
                .iter()
                .find(|own| own.system == system && !own.id.contains('~'));
            own.and_then(|own| own.bindings.first())
                .is_some_and(|first| first.product == product)
        };
        let shown = subscriptions.iter().filter(|subscription| {
            let product = subscription
                .bindings
                .first()
                .map_or("", |first| &first.product);
            !subscription.id.contains('~') || !serves(&subscription.system, product)
        });
        steps.extend(shown.map(step));
        self.progress.show(&steps);
    }
}

fn step(subscription: &Subscription) -> Step {
    let counts = subscription.counts.unwrap_or_default();
    let product = subscription
        .bindings
        .first()
        .map_or("", |binding| binding.product.as_str());
    let filling = if subscription.id.contains("~fill") {
        ", filling"
    } else {
        ""
    };
    Step {
        name: format!("{} {product}{filling}", subscription.system),
        done: counts.received,
        total: counts.received + subscription.lag,
    }
}

/// An event of the log; `None` for the header and the trailer of a snapshot, which are about nobody.
fn entry(stored: &StoredEvent) -> Option<Entry> {
    let event: &Event = stored.event.as_ref()?;
    (!event.subject.is_empty()).then(|| Entry {
        id: event.id.clone(),
        subject: event.subject.clone(),
        version: event.subject_version,
        stream: stored.stream(),
        position: stored.position,
    })
}

fn is_for_later(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Unreachable(_)) => true,
        Some(Failure::Answered(_, details)) => details.again,
        _ => false,
    }
}

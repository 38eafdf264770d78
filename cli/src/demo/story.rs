//! The story of the demo: bind, let 60 days flow, swap the pension product half-way, wait.
//! Each step waits for a condition that it can see from outside.
//! Must never help: it does only what an operator could do.
//! Read next: `verdict.rs`, which judges how it ended.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use musubi_proto::hub::v1::{BindProductRequest, BindingState, CutOverRequest, Subscription};
use tokio::time::Instant;

use super::stage::Stage;
use crate::commands::Act;
use crate::commands::source::{self, BindArgs};
use crate::failure::Failure;

/// Positions of the log that may be left when the product is swapped.
const LAG_MAX: u64 = 60;
/// Time without any change after which the registry is taken to be through.
const QUIET: Duration = Duration::from_secs(3);
/// Share of the registry's files, in percent, after which the swap waits no longer for a parked
/// subject.
const SWAP_LATEST_PERCENT: u64 = 85;

/// 業務ID of the system whose product is swapped.
pub(crate) const PENSION: &str = "026";
/// The old pension product.
pub(crate) const OLD: &str = "hinoki";
/// The new pension product.
pub(crate) const NEW: &str = "ayame";
/// The receivers in the beginning.
pub(crate) const RECEIVERS: &[(&str, &str)] =
    &[("010", "kaede"), ("024", "momiji"), (PENSION, OLD)];

/// What happened at the cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Position of the control record.
    pub(crate) position: u64,
    /// How long publishing waited, in microseconds.
    pub(crate) publish_pause_us: u64,
    /// True when the old product had a file without results.
    pub(crate) open_file: bool,
    /// Persons parked at the old product.
    pub(crate) parked: BTreeSet<String>,
}

fn act(reason: &str) -> Act {
    Act {
        operator: "demo".to_owned(),
        reason: reason.to_owned(),
    }
}

/// Binds the source and the receivers of the beginning.
pub(crate) async fn bind_all(stage: &Stage<'_>) -> Result<()> {
    let municipality = &stage.scene.municipality;
    let args = BindArgs {
        source: "001".to_owned(),
        product: "tsubame".to_owned(),
        act: act("the registry begins to publish"),
    };
    stage
        .ask(async |hub| source::bind(&args, hub, municipality).await)
        .await?;
    for (system, product) in RECEIVERS {
        bind_product(stage, system, product, "the first product of the system").await?;
    }
    Ok(())
}

async fn bind_product(stage: &Stage<'_>, system: &str, product: &str, reason: &str) -> Result<()> {
    let request = BindProductRequest {
        municipality: stage.scene.municipality.clone(),
        system: system.to_owned(),
        product: product.to_owned(),
        operator: act(reason).operator,
        reason: reason.to_owned(),
    };
    let what = format!("bind {product} to {system}");
    stage
        .ask(async |hub| {
            let bound = hub.admin().bind_product(request.clone()).await;
            bound.map(|_| ()).map_err(hub.refused(what.clone()))
        })
        .await
}

/// Waits until about half of the registry's files are written, and the old pension product has a
/// parked subject.
pub(crate) async fn wait_for_half(stage: &mut Stage<'_>) -> Result<()> {
    loop {
        let subscriptions = stage.subscriptions().await?;
        stage.show(&subscriptions);
        if share(stage) >= 50 {
            let ready = !stage.parked(PENSION).await?.is_empty();
            if ready || share(stage) >= SWAP_LATEST_PERCENT {
                return Ok(());
            }
        }
        stage.pause("half of the registry's files").await?;
    }
}

/// Share of the registry's files that are written, in percent.
fn share(stage: &Stage<'_>) -> u64 {
    let registry = stage.registry();
    match registry.files_total {
        Some(total) if total > 0 => registry.files_written * 100 / total,
        _ => 0,
    }
}

/// Swaps the pension product while changes keep flowing. The old product's office closes before
/// the cut, so that it owes a file however fast the machine is.
pub(crate) async fn swap(stage: &mut Stage<'_>) -> Result<Cut> {
    stage.close_office()?;
    bind_product(stage, PENSION, NEW, "the contract goes to another vendor").await?;
    stage.progress.note(&format!(
        "{NEW} is bound to {PENSION} and is filled; {OLD} goes on"
    ));
    kill_owner_and_broker(stage).await?;
    let cut = loop {
        wait_until_filled(stage).await?;
        let before = before_the_cut(stage).await?;
        match cut_over(stage).await {
            Ok((position, publish_pause_us)) => {
                break Cut {
                    position,
                    publish_pause_us,
                    ..before
                };
            }
            // Its adapter went away after the look: it is waited for, as an operator would.
            Err(error) if is_not_attached(&error) => {
                stage
                    .pause("the adapter of the new pension product")
                    .await?;
            }
            Err(error) => return Err(error),
        }
    };
    stage.open_office()?;
    let position = cut.position;
    stage.progress.note(&format!(
        "{NEW} serves {PENSION} from position {position}; {} persons were parked at {OLD}",
        cut.parked.len()
    ));
    Ok(cut)
}

/// On a cluster: kills the instance that owns the town, and a broker. Neither is started again.
pub(crate) async fn kill_owner_and_broker(stage: &mut Stage<'_>) -> Result<()> {
    let municipality = stage.scene.municipality.clone();
    let owner = loop {
        let Some(cluster) = &stage.children.cluster else {
            return Ok(());
        };
        let owner = cluster.owner(&municipality).await?;
        if let Some(name) = owner.and_then(|url| stage.hubs.name_at(&url).map(str::to_owned)) {
            break name;
        }
        stage.pause("an owner of the town").await?;
    };
    stage.children.kill(&owner);
    if let Some(cluster) = &mut stage.children.cluster {
        stage.killed = vec![owner.clone(), cluster.kill_broker()?];
    }
    stage.progress.note(&format!(
        "killed for good: {}; {owner} owned {municipality}",
        stage.killed.join(" and ")
    ));
    let since = Instant::now();
    let others: Vec<&str> = stage.hubs.names().filter(|name| *name != owner).collect();
    let others = others.join(", ");
    stage.subscriptions().await?;
    stage.progress.note(&format!(
        "{others} answers for {municipality} after {:.1} s",
        since.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// What is open at the old product right before the cut.
async fn before_the_cut(stage: &mut Stage<'_>) -> Result<Cut> {
    stage.read_log().await?;
    let mut cut = Cut {
        open_file: stage.open_file(),
        ..Cut::default()
    };
    let parked = stage.parked(PENSION).await?;
    for unit in parked
        .iter()
        .filter(|unit| !unit.subscription.contains("~fill"))
    {
        let subjects = unit.event_ids.iter().filter_map(|id| stage.subject_of(id));
        cut.parked.extend(subjects.map(str::to_owned));
    }
    Ok(cut)
}

fn is_not_attached(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<Failure>(),
        Some(Failure::Answered(_, details)) if details.reason == "NOT_ATTACHED"
    )
}

async fn wait_until_filled(stage: &mut Stage<'_>) -> Result<()> {
    loop {
        let subscriptions = stage.subscriptions().await?;
        stage.show(&subscriptions);
        let filling = subscriptions.iter().find(|subscription| {
            binding_state(subscription, NEW) == Some(BindingState::Filling)
                && subscription.id.contains("~fill")
        });
        if let Some(filling) = filling {
            let attached = filling.bindings.iter().any(|binding| binding.attached);
            let little_left = filling.filled && filling.lag <= LAG_MAX;
            if attached
                && little_left
                && (stage.open_file() || is_idle(stage, &subscriptions).await?)
            {
                return Ok(());
            }
        }
        stage.pause("the new pension product to be filled").await?;
    }
}

/// True when nothing will reach the old product any more: the registry is through, and all that
/// it wrote is published and done.
async fn is_idle(stage: &Stage<'_>, subscriptions: &[Subscription]) -> Result<bool> {
    let registry = stage.registry();
    let through = registry.files_total == Some(registry.files_written);
    let done = subscriptions.iter().all(|subscription| {
        subscription.system != PENSION || subscription.id.contains('~') || subscription.lag == 0
    });
    Ok(through && done && stage.captured().await?.0 >= registry.files_written)
}

fn binding_state(subscription: &Subscription, product: &str) -> Option<BindingState> {
    let mut bindings = subscription.bindings.iter();
    bindings
        .find(|binding| binding.product == product)
        .map(|binding| binding.state())
}

/// Cuts over; when the hub died before it could answer, what it did is read from the binding.
async fn cut_over(stage: &Stage<'_>) -> Result<(u64, u64)> {
    let request = CutOverRequest {
        municipality: stage.scene.municipality.clone(),
        system: PENSION.to_owned(),
        product: NEW.to_owned(),
        operator: act("").operator,
        reason: "the new product is filled".to_owned(),
    };
    let what = format!("cut {PENSION} over to {NEW}");
    let answer = stage
        .ask(async |hub| {
            let cut = hub.admin().cut_over(request.clone()).await;
            Ok(cut.map_err(hub.refused(what.clone()))?.into_inner())
        })
        .await;
    match answer {
        Ok(cut) => Ok((cut.position, cut.publish_pause_us)),
        Err(error) => match position_of_cut(stage).await? {
            Some(position) => Ok((position, 0)),
            None => Err(error),
        },
    }
}

async fn position_of_cut(stage: &Stage<'_>) -> Result<Option<u64>> {
    let subscriptions = stage.subscriptions().await?;
    let binding = subscriptions
        .iter()
        .filter(|subscription| subscription.system == PENSION)
        .flat_map(|subscription| &subscription.bindings)
        .find(|binding| binding.product == NEW && binding.cut_position > 0);
    Ok(binding.map(|binding| binding.cut_position))
}

/// Waits until every row of the registry is published or held, and every subscription is done.
pub(crate) async fn wait_for_end(stage: &mut Stage<'_>) -> Result<()> {
    wait_until_captured(stage).await?;
    stage.read_log().await?;
    loop {
        let subscriptions = stage.subscriptions().await?;
        stage.show(&subscriptions);
        let done = |subscription: &Subscription| {
            // One that filled a product hands over to the system's own and is not counted again.
            let hands_over = subscription.id.contains("~fill");
            let attached = subscription
                .bindings
                .first()
                .is_some_and(|serving| serving.attached);
            hands_over || (attached && subscription.lag == 0 && subscription.in_flight == 0)
        };
        if !subscriptions.is_empty() && subscriptions.iter().all(done) {
            break;
        }
        let paused = subscriptions
            .iter()
            .flat_map(|subscription| &subscription.bindings)
            .find(|binding| binding.paused && binding.state() == BindingState::Serving);
        if let Some(paused) = paused {
            return Err(anyhow!(
                "the adapter of {} asked to stop: {}",
                paused.product,
                paused.pause_reason
            ));
        }
        stage.pause("every subscription to be complete").await?;
    }
    Ok(())
}

async fn wait_until_captured(stage: &mut Stage<'_>) -> Result<()> {
    let mut last = String::new();
    let mut since = Instant::now();
    loop {
        let subscriptions = stage.subscriptions().await?;
        stage.show(&subscriptions);
        let registry = stage.registry();
        let (file, cursor) = stage.captured().await?;
        if cursor != last {
            last = cursor;
            since = Instant::now();
        }
        let written = registry.files_total == Some(registry.files_written);
        let past_the_last = registry.files_total.is_some_and(|total| file > total);
        let at_the_last = registry.files_total.is_some_and(|total| file == total);
        if written && (past_the_last || (at_the_last && since.elapsed() >= QUIET)) {
            return Ok(());
        }
        stage.pause("the registry's files to be captured").await?;
    }
}

/// Persons who wait at a system: 宛名番号 of what is parked there.
pub(crate) async fn waiting(stage: &Stage<'_>, system: &str) -> Result<BTreeSet<String>> {
    let mut persons = BTreeSet::new();
    for unit in stage.parked(system).await? {
        for id in &unit.event_ids {
            let subject = stage.subject_of(id).with_context(|| {
                format!("the parked event `{id}` of {system} is not in the log")
            })?;
            persons.insert(subject.to_owned());
        }
    }
    Ok(persons)
}

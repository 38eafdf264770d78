//! `musubi bind`: gives a system its first product, or swaps the product that serves it.
//! The swap: bind, fill from snapshot and log, wait until little is left, cut over, settle.
//! Must never cut before the new product has its snapshot, unless told so.
//! Read next: `subscriptions.rs`, which shows the same numbers.

use std::time::Duration;

use anyhow::{Context, Result};
use musubi_proto::hub::v1::{
    BindProductRequest, BindingState, CutOverRequest, CutOverResponse, Subscription,
};
use serde_json::json;
use tokio::time::Instant;

use super::{Act, subscriptions};
use crate::client::{Access, Hub};
use crate::failure::Failure;
use crate::output::{print, print_json};

const POLL: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_secs(1);

/// Arguments of `musubi bind`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "The first product of a system serves at once. A further one is filled from \
the snapshot and the log while the old one goes on; when little is left, `bind` cuts over at one \
position of the log. Publishing never stops, and what was open at the old product goes to the new \
one. The new product's adapter must run: `musubi adapter run`.

Examples:
  musubi bind --municipality 142042 --system 026 --product hinoki --reason 'first product'
  musubi bind --municipality 142042 --system 026 --product ayame --reason 'new contract'
  musubi bind --system 026 --product ayame --reason 'new contract' --no-wait    (fill only; run it again to cut over)"
)]
pub(crate) struct Args {
    /// System: 業務ID, three digits
    #[arg(long, value_name = "業務ID")]
    pub(crate) system: String,
    /// Product
    #[arg(long, value_name = "NAME")]
    pub(crate) product: String,
    /// Return once the product is bound; do not wait and do not cut over
    #[arg(long, conflicts_with = "cut_now")]
    pub(crate) no_wait: bool,
    /// Cut over at once, however much is left to fill
    #[arg(long)]
    pub(crate) cut_now: bool,
    /// Cut over when no more than this many positions of the log are left
    #[arg(long, default_value_t = 50, value_name = "POSITIONS")]
    pub(crate) lag_max: u64,
    /// Give up after this many seconds; the binding stays as it is then
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) act: Act,
}

/// What happened to the binding.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    /// The product serves: it is the first, or served already.
    Serving,
    /// The product is being filled.
    Filling,
    /// The product took over.
    Swapped {
        /// Product that served before.
        from: String,
        /// What the hub did at the cut.
        cut: CutOverResponse,
    },
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let municipality = access.municipality()?;
    let mut told = Instant::now();
    let mut progress = |text: String| {
        if told.elapsed() >= REPORT {
            told = Instant::now();
            eprintln!("{text}");
        }
    };
    let bound = bind(&args, &hub, &municipality, &mut progress).await?;
    let (system, product) = (&args.system, &args.product);
    let (document, text) = match &bound {
        Bound::Serving => (
            json!({"system": system, "product": product, "state": "serving"}),
            format!("{product} serves {system}\n"),
        ),
        Bound::Filling => (
            json!({"system": system, "product": product, "state": "filling"}),
            format!("{product} is being filled for {system}; run the same again to cut over\n"),
        ),
        Bound::Swapped { from, cut } => (
            json!({
                "system": system, "product": product, "state": "serving", "from": from,
                "position": cut.position, "epoch": cut.epoch, "closedOpen": cut.closed_open,
                "closedParked": cut.closed_parked, "publishPauseUs": cut.publish_pause_us,
            }),
            format!(
                "{product} serves {system} in place of {from} from position {}; {} open units were \
                 closed there, {} of them parked; publishing paused for {} µs\n",
                cut.position, cut.closed_open, cut.closed_parked, cut.publish_pause_us
            ),
        ),
    };
    if access.json {
        print_json(&document)
    } else {
        print(&text)
    }
}

/// Binds a product, and swaps when another one serves.
pub(crate) async fn bind(
    args: &Args,
    hub: &Hub,
    municipality: &str,
    progress: &mut dyn FnMut(String),
) -> Result<Bound> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let request = BindProductRequest {
        municipality: municipality.to_owned(),
        system: args.system.clone(),
        product: args.product.clone(),
        operator: args.act.operator.clone(),
        reason: args.act.reason.clone(),
    };
    let what = format!("bind {} to {}", args.product, args.system);
    let bound = hub
        .admin()
        .bind_product(request)
        .await
        .map_err(hub.refused(what))?
        .into_inner();
    let bound = bound
        .subscription
        .context("the hub answered without the subscription")?;
    if state_of(&bound, &args.product) == Some(BindingState::Serving) {
        return Ok(Bound::Serving);
    }
    if args.no_wait {
        return Ok(Bound::Filling);
    }
    if !args.cut_now {
        wait_until_filled(args, hub, municipality, deadline, progress).await?;
    }
    let from = serving_product(hub, municipality, &args.system).await?;
    let cut = cut_over(args, hub, municipality).await?;
    wait_until_settled(args, hub, municipality, deadline, progress).await?;
    Ok(Bound::Swapped { from, cut })
}

fn state_of(subscription: &Subscription, product: &str) -> Option<BindingState> {
    let mut bindings = subscription.bindings.iter();
    bindings
        .find(|binding| binding.product == product)
        .map(|binding| binding.state())
}

/// The subscriptions of the system: its own, and those of products being filled.
async fn of_system(hub: &Hub, municipality: &str, system: &str) -> Result<Vec<Subscription>> {
    let all = subscriptions::list(hub, municipality).await?.subscriptions;
    Ok(all
        .into_iter()
        .filter(|subscription| subscription.system == system)
        .collect())
}

async fn serving_product(hub: &Hub, municipality: &str, system: &str) -> Result<String> {
    let subscriptions = of_system(hub, municipality, system).await?;
    let serving = subscriptions
        .iter()
        .flat_map(|subscription| &subscription.bindings)
        .find(|binding| binding.state() == BindingState::Serving);
    Ok(serving
        .map(|binding| binding.product.clone())
        .unwrap_or_default())
}

async fn wait_until_filled(
    args: &Args,
    hub: &Hub,
    municipality: &str,
    deadline: Instant,
    progress: &mut dyn FnMut(String),
) -> Result<()> {
    loop {
        let filling = of_system(hub, municipality, &args.system)
            .await?
            .into_iter()
            .find(|subscription| {
                state_of(subscription, &args.product) == Some(BindingState::Filling)
                    && subscription.id.contains("~fill")
            });
        let left = match &filling {
            Some(filling) => {
                let attached = filling
                    .bindings
                    .iter()
                    .any(|binding| binding.product == args.product && binding.attached);
                if filling.filled && filling.lag <= args.lag_max && attached {
                    return Ok(());
                }
                let applied = filling.counts.unwrap_or_default().applied;
                let adapter = if attached {
                    ""
                } else {
                    ", its adapter is not attached"
                };
                format!(
                    "filling {}: {applied} applied, {} to go{adapter}",
                    args.product, filling.lag
                )
            }
            None => format!("filling {}: waiting for the hub", args.product),
        };
        progress(left.clone());
        wait(deadline, &left).await?;
    }
}

async fn cut_over(args: &Args, hub: &Hub, municipality: &str) -> Result<CutOverResponse> {
    let request = CutOverRequest {
        municipality: municipality.to_owned(),
        system: args.system.clone(),
        product: args.product.clone(),
        operator: args.act.operator.clone(),
        reason: args.act.reason.clone(),
    };
    let what = format!("cut {} over to {}", args.system, args.product);
    Ok(hub
        .admin()
        .cut_over(request)
        .await
        .map_err(hub.refused(what))?
        .into_inner())
}

/// Waits until what was before the cut is done at the new product too.
async fn wait_until_settled(
    args: &Args,
    hub: &Hub,
    municipality: &str,
    deadline: Instant,
    progress: &mut dyn FnMut(String),
) -> Result<()> {
    loop {
        let subscriptions = of_system(hub, municipality, &args.system).await?;
        let own = subscriptions
            .iter()
            .find(|subscription| !subscription.id.contains('~'));
        // Its adapter is let in once everything before the cut is closed or filled.
        let serves = own.iter().flat_map(|own| &own.bindings).any(|binding| {
            binding.product == args.product
                && binding.state() == BindingState::Serving
                && binding.attached
        });
        if serves {
            return Ok(());
        }
        let left = format!("settling what was open before the cut at {}", args.product);
        progress(left.clone());
        wait(deadline, &left).await?;
    }
}

async fn wait(deadline: Instant, what: &str) -> Result<()> {
    if Instant::now() >= deadline {
        let line =
            format!("bind took longer than --timeout allows ({what}); run it again to go on");
        return Err(Failure::Timeout(line).into());
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}

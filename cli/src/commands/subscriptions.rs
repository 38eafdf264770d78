//! `musubi subscriptions`: who receives what, through which product, and how far it is.
//! Reads the hub's own counts.
//! Must never change anything.
//! Read next: `bind.rs`, which changes who serves.

use anyhow::Result;
use musubi_proto::hub::v1::{
    BindingState, ListSubscriptionsRequest, ListSubscriptionsResponse, Subscription,
};

use super::{short_name, time_text};
use crate::client::{Access, Hub};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of};

/// Arguments of `musubi subscriptions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "LAG counts positions of the log that are not done; PARKED and WAITING are \
units set aside now.\n\nExample:\n  musubi subscriptions --municipality 142042"
)]
pub(crate) struct Args {
    /// Only this system
    #[arg(long, value_name = "業務ID")]
    system: Option<String>,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let mut response = list(&hub, &access.municipality()?).await?;
    if let Some(system) = &args.system {
        response
            .subscriptions
            .retain(|subscription| subscription.system == *system);
    }
    if access.json {
        let name = "musubi.hub.v1.ListSubscriptionsResponse";
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    print(&table(&response.subscriptions).render())
}

/// Asks the hub for the subscriptions of a municipality.
pub(crate) async fn list(hub: &Hub, municipality: &str) -> Result<ListSubscriptionsResponse> {
    let request = ListSubscriptionsRequest {
        municipality: municipality.to_owned(),
    };
    let response = hub.admin().list_subscriptions(request).await;
    Ok(response
        .map_err(hub.refused("list the subscriptions"))?
        .into_inner())
}

fn table(subscriptions: &[Subscription]) -> Table {
    let mut table = Table::new(&[
        "SUBSCRIPTION",
        "PRODUCT",
        "STATE",
        "RECEIVED",
        "APPLIED",
        "DUPLICATE",
        "SUPERSEDED",
        "NOT RELEVANT",
        "SKIPPED",
        "PARKED",
        "WAITING",
        "LAG",
        "COMPLETE UP TO",
    ]);
    for subscription in subscriptions {
        let counts = subscription.counts.unwrap_or_default();
        let number = |number: u64| number.to_string();
        table.row(vec![
            subscription.id.clone(),
            serving(subscription),
            state(subscription),
            number(counts.received),
            number(counts.applied),
            number(counts.duplicate),
            number(counts.superseded),
            number(counts.not_relevant),
            number(counts.skipped),
            number(counts.rejected),
            number(counts.waiting),
            number(subscription.lag),
            number(subscription.complete_up_to),
        ]);
    }
    table
}

fn serving(subscription: &Subscription) -> String {
    subscription
        .bindings
        .first()
        .map(|binding| binding.product.clone())
        .unwrap_or_default()
}

fn state(subscription: &Subscription) -> String {
    let Some(binding) = subscription.bindings.first() else {
        return "not bound".to_owned();
    };
    let mut state = short_name(binding.state().as_str_name(), "BINDING_STATE_");
    if binding.paused {
        state.push_str(&format!(", paused: {}", binding.pause_reason));
    } else if binding.closed {
        state.push_str(", closed");
        if binding.hours_change_at.is_some() {
            let until = time_text(binding.hours_change_at.as_ref());
            state.push_str(&format!(" until {until}"));
        }
    } else if !binding.attached && binding.state() != BindingState::Replaced {
        state.push_str(", not attached");
    }
    state
}

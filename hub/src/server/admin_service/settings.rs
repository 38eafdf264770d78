//! Settings of a binding, as operators say and see them.
//! Behind `AdminService.SetDeliverySettings` and in the lists of subscriptions.
//! Must never pass on a value that was not checked.
//! Read next: `settings.rs`, `server/runner/settings.rs`.

use musubi_proto::hub::v1::{
    Binding, DeliverySettings, SetDeliverySettingsRequest, SetDeliverySettingsResponse,
};

use super::words;
use crate::clock::{now_ms, timestamp};
use crate::server::status::{Failure, invalid};
use crate::server::town::Town;
use crate::settings::BindingSettings;
use crate::store::BindingRow;

/// Sets them, or shows what would change.
pub(super) async fn set(
    town: &Town,
    ask: SetDeliverySettingsRequest,
) -> Result<SetDeliverySettingsResponse, Failure> {
    // No product: the one that serves.
    let named = if ask.product.is_empty() {
        ("system", ask.system.as_str())
    } else {
        ("product", ask.product.as_str())
    };
    words(&ask.operator, &ask.reason, [("system", &ask.system), named])?;
    let Some(settings) = ask.settings else {
        return Err(invalid(
            "settings",
            "say all settings; an empty one limits nothing",
        ));
    };
    let settings = stored(settings);
    settings
        .check()
        .map_err(|error| invalid(error.field, &error.message))?;
    let (product, before) = town
        .set(
            (&ask.system, &ask.product),
            settings.clone(),
            (&ask.operator, &ask.reason),
            ask.dry_run,
        )
        .await?;
    Ok(SetDeliverySettingsResponse {
        product,
        before: Some(wire(&before)),
        after: Some(wire(&settings)),
    })
}

/// Shows them with a binding, and whether the receiver is closed by them now.
pub(super) fn show(binding: &BindingRow, shown: &mut Binding) {
    let now = now_ms();
    let hours = binding.settings.check().unwrap_or_default();
    shown.settings = Some(wire(&binding.settings));
    shown.closed = !hours.open_at(now);
    shown.hours_change_at = hours.next_change(now).map(timestamp);
}

fn wire(settings: &BindingSettings) -> DeliverySettings {
    let settings = settings.clone();
    DeliverySettings {
        concurrency: settings.concurrency,
        per_second: settings.per_second,
        batch_units: settings.batch_units,
        hours: settings.hours,
        holidays: settings.holidays,
        closed: settings.closed,
    }
}

fn stored(settings: DeliverySettings) -> BindingSettings {
    BindingSettings {
        concurrency: settings.concurrency,
        per_second: settings.per_second,
        batch_units: settings.batch_units,
        hours: settings.hours,
        holidays: settings.holidays,
        closed: settings.closed,
    }
}

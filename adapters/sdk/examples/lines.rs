//! The smallest adapter: each change of a person becomes one line of a file.
//! The file stands for a product; a line's first column is the idempotency key.
//! It must never write a key twice, nor a path that was not granted.
//! Read next: `docs/guides/vendor.en.md`, then a real one: `adapters/vendors/kaede/`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Receipt, UnitScope};
use musubi_adapter_sdk::{
    Answer, CancellationToken, Deliver, HubAccess, Refusal, Spec, Translate, async_trait,
    person_change, receipt, run_deliver,
};

/// Standard event → the product's own shape. Pure.
struct Translator;

impl Translate for Translator {
    type Request = Option<String>;

    fn translate(&self, unit: &DeliveredUnit) -> Result<Option<String>, Refusal> {
        let [event] = unit.events.as_slice() else {
            return Err(Refusal::reject("UNIT_SHAPE", "events", "one event, please"));
        };
        // Header and trailer of a snapshot are about nobody.
        let Some(change) = person_change(event)? else {
            return Ok(None);
        };
        // Not granted: leave it alone. Granted and absent: it is empty now. Otherwise: the value.
        let since = match change.address_since.into_option() {
            None => "untouched".to_owned(),
            Some(None) => String::new(),
            Some(Some(date)) => date.value,
        };
        Ok(Some(format!(
            "{},{},{},{since}",
            change.atenabango, change.version, change.event
        )))
    }
}

struct Lines {
    spec: Spec,
    product: Mutex<(File, HashSet<String>)>,
}

impl Lines {
    fn open(system: &str, path: &Path) -> io::Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(path)?;
        let text = io::read_to_string(&file)?;
        let key = |line: &str| line.split(',').next().map(str::to_owned);
        let keys = text.lines().filter_map(key).collect();
        let capabilities = Capabilities {
            unit_scope: UnitScope::Event.into(),
            runs: false,
            version_check: false,
            lookup: true,
            protection_flag: false,
            idempotent: true,
            ..Capabilities::default()
        };
        let spec = Spec {
            product: "lines".to_owned(),
            system: system.to_owned(),
            adapter_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities,
            in_flight_max: 8,
        };
        Ok(Self {
            spec,
            product: Mutex::new((file, keys)),
        })
    }

    fn apply(&self, delivery: &Delivery) -> Result<Answer, Refusal> {
        let [unit] = delivery.units.as_slice() else {
            return Err(Refusal::reject("UNIT_SHAPE", "units", "one unit, please"));
        };
        let Some(line) = Translator.translate(unit)? else {
            return Ok(Answer::not_relevant("NO_PERSON"));
        };
        let mut product = self.product.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, keys) = &mut *product;
        if keys.contains(&unit.idempotency_key) {
            return Ok(Answer::duplicate());
        }
        writeln!(file, "{},{line}", unit.idempotency_key)
            .and_then(|()| file.sync_data())
            .map_err(|_| Refusal::retry(Duration::from_secs(5), "DISK", "cannot write"))?;
        keys.insert(unit.idempotency_key.clone());
        Ok(Answer::applied())
    }
}

#[async_trait]
impl Deliver for Lines {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        receipt(&delivery, self.apply(&delivery))
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [hub, municipality, system, file] = arguments.as_slice() else {
        return Err(io::Error::other(
            "usage: lines HUB MUNICIPALITY SYSTEM FILE",
        ));
    };
    let access = HubAccess {
        endpoint: hub.clone(),
        token: None,
        municipality: municipality.clone(),
    };
    let adapter = Arc::new(Lines::open(system, Path::new(file))?);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    run_deliver(access, adapter, shutdown).await;
    Ok(())
}

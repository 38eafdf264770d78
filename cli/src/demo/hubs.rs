//! The way to the demo's hub: to any of its instances that answers.
//! Used by every look of the demo at the hub.
//! Must never hold on to an instance that is gone.
//! Read next: `stage.rs`.

use std::cell::RefCell;

use anyhow::Result;

use crate::client::{Access, Hub};

/// All instances, and a connection to one of them.
#[derive(Debug)]
pub(crate) struct Hubs {
    /// Names with URLs.
    instances: Vec<(String, String)>,
    access: Access,
    open: RefCell<Hub>,
}

impl Hubs {
    /// Connects to one of the instances, which are given by name and address.
    pub(crate) async fn connect(named: Vec<(String, String)>, municipality: &str) -> Result<Self> {
        let instances: Vec<(String, String)> = named
            .into_iter()
            .map(|(name, address)| (name, format!("http://{address}")))
            .collect();
        let urls: Vec<&str> = instances.iter().map(|(_, url)| url.as_str()).collect();
        let access = Access::local(urls.join(","), municipality);
        let open = RefCell::new(access.connect().await?);
        Ok(Self {
            instances,
            access,
            open,
        })
    }

    /// The addresses, as `--hub` takes them.
    pub(crate) fn addresses(&self) -> &str {
        &self.access.hub
    }

    /// The names of the instances.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.instances.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the instance at an address.
    pub(crate) fn name_at(&self, url: &str) -> Option<&str> {
        let mut instances = self.instances.iter();
        let found = instances.find(|(_, own)| own == url)?;
        Some(&found.0)
    }

    /// The connection.
    pub(crate) fn open(&self) -> Hub {
        self.open.borrow().clone()
    }

    /// Takes a new connection to the first instance that answers, if one does.
    pub(crate) async fn try_another(&self) {
        if let Ok(hub) = self.access.connect().await {
            self.open.replace(hub);
        }
    }
}

//! Ids of events: name-based, from what the registry itself numbers.
//! Capturing a row twice gives the same id; another installation's row gives another.
//! They must never depend on when or how a row was read.
//! Read next: `translate.rs`.

use uuid::Uuid;

use super::{PRODUCT, SYSTEM};

/// Makes the ids of one installation of the registry.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    prefix: String,
}

impl Ids {
    /// Ids of an installation.
    pub(super) fn new(municipality: &str, instance: &str) -> Self {
        let prefix =
            format!("urn:jp:lg:{municipality}:system:{SYSTEM}:product:{PRODUCT}:{instance}");
        Self { prefix }
    }

    /// Id of the event of a 異動連番.
    pub(super) fn change(&self, number: u64) -> Uuid {
        self.name(&format!("change:{number}"))
    }

    /// Id of an event of a full file: 0 is its header, then its rows, then its trailer.
    pub(super) fn snapshot(&self, file: u32, item: u64) -> Uuid {
        self.name(&format!("snapshot:{file}:{item}"))
    }

    fn name(&self, rest: &str) -> Uuid {
        let name = format!("{}:{rest}", self.prefix);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
    }
}

/// W3C trace context of an event's creation, made from its id.
pub(super) fn traceparent(id: Uuid) -> String {
    let (trace, span) = (id.as_u128(), id.as_u64_pair().1);
    format!("00-{trace:032x}-{span:016x}-01")
}

//! Control records: changes of grants, subscriptions and bindings as they stand in the log.
//! Written by the sequencer into the live stream; they take effect at their position.
//! Must never be interpreted from anywhere but their place in the log.
//! Read next: `publish/sequencer.rs`.
//!
//! A control record stands in the live stream and names the next position of the bulk stream at
//! that moment, so that it cuts both streams at one point.

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::log::{Record, RecordKind};

use crate::settings::BindingSettings;

/// A control record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Control {
    /// Next position of the bulk stream when it was appended.
    pub bulk_position: u64,
    /// Who did it.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// What changes.
    pub change: Change,
}

/// The event of a record; of a control record, the correction that it orders.
pub fn event_of(record: Record) -> Option<Event> {
    let bytes = record.sealed.open().ok()?;
    let bytes = match record.kind {
        RecordKind::Event => bytes,
        RecordKind::Control => match serde_json::from_slice::<Control>(&bytes).ok()?.change {
            Change::Edit { event, .. } => event,
            _ => return None,
        },
    };
    Event::decode(&bytes[..]).ok()
}

/// What a control record changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// Grants that hold from here on.
    Grants {
        /// Canonical text of the grant table.
        text: String,
    },
    /// A system's first product: its subscription begins.
    Subscribe {
        /// 業務ID.
        system: String,
        /// Product.
        product: String,
        /// Where delivery begins in live.
        live_start: u64,
        /// Where delivery begins in bulk.
        bulk_start: u64,
    },
    /// A second product of a system: it is filled beside the first.
    Fill {
        /// 業務ID.
        system: String,
        /// Product.
        product: String,
        /// Epoch that it will serve under.
        epoch: u64,
        /// Where filling begins in live.
        live_start: u64,
        /// Where filling begins in bulk.
        bulk_start: u64,
    },
    /// A product that is being filled is given up before it served.
    Abandon {
        /// 業務ID.
        system: String,
        /// Epoch that it would have served under.
        epoch: u64,
    },
    /// A binding is served by other settings from here on.
    Settings {
        /// 業務ID.
        system: String,
        /// Product of the binding.
        product: String,
        /// All its settings.
        settings: BindingSettings,
    },
    /// The filled product serves from here on.
    Cut {
        /// 業務ID.
        system: String,
        /// Product.
        product: String,
        /// Epoch.
        epoch: u64,
    },
    /// A parked event gives way to its correction, in the same place of its subject's lane.
    Edit {
        /// Subscription.
        subscription: String,
        /// Number of the stream.
        stream: i64,
        /// Sequence of the parked unit.
        sequence: u64,
        /// Member of it.
        member: u32,
        /// Revision of it that the operator saw.
        revision: u64,
        /// Event that gives way.
        event_id: String,
        /// Its correction, an encoded `Event`.
        event: Vec<u8>,
    },
}

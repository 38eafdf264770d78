//! The adapter SDK: what a vendor writes against to join a product to the hub.
//! It stands between the hub's gRPC front door and the code that knows one product.
//! It must never know a vendor, keep state of its own, or decide what a product does.
//! Read next: `deliver.rs` and `capture.rs` (the two roles), then `host.rs` (what runs them).

pub mod spec;

pub mod deliver;

pub mod receipt;

pub mod capture;

pub mod granted;

pub mod payload;

pub mod person;

pub mod host;

mod telemetry;

pub mod limits;

pub use capture::{Capture, CaptureError, Page, SourceSpec};
pub use deliver::{Deliver, Translate};
pub use granted::Granted;
pub use host::{HubAccess, run_capture, run_deliver};
pub use payload::{Payload, decode_payload};
pub use person::{Field, PersonChange, Protection, person_change};
pub use receipt::{Answer, Disposition, Refusal, receipt, run_receipt};
pub use spec::Spec;

/// The hub's API types, as they travel.
pub use musubi_proto::hub::v1 as hub;

pub use async_trait::async_trait;
pub use tokio_util::sync::CancellationToken;

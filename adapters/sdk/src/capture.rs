//! The giving role: changes come out of a product, page by page, with a cursor.
//! The host publishes each page and the hub keeps the cursor with it; the adapter keeps nothing.
//! It must never skip a change: what cannot become an event goes out as a refused unit.
//! Read next: `host/capture.rs`, which drives it.

use async_trait::async_trait;

use crate::hub::{PublishUnit, Stream};

/// Names a source and the product that it is captured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// 全国地方公共団体コード, six digits.
    pub municipality: String,
    /// `urn:jp:lg:<municipality>:system:<業務ID>`.
    pub source: String,
    /// Name of the product.
    pub product: String,
}

/// Units that are published together, and the cursor that stands after them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Log stream of all units.
    pub stream: Stream,
    /// Units in order; may be empty when only the cursor moves.
    pub units: Vec<PublishUnit>,
    /// Where the capture goes on after these units.
    pub cursor: String,
}

/// Why a capture cannot go on now. The host logs it, waits and resumes at the hub's cursor.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The product handed out something that must not be passed over: a human is needed.
    #[error("capture of `{source_name}` stopped: {reason}: {message}")]
    Alarm {
        /// What was being captured, such as a file name.
        source_name: String,
        /// Stable reason in capitals.
        reason: String,
        /// What happened and what to do, without personal data.
        message: String,
    },
    /// Reading failed; it may work later.
    #[error("reading `{what}` failed")]
    Read {
        /// What was read.
        what: String,
        /// Cause.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cursor is not one of this adapter.
    #[error("the cursor `{cursor}` is not readable")]
    Cursor {
        /// The text that the hub kept.
        cursor: String,
    },
}

/// Takes changes out of a product.
///
/// - `resume` is called before the first `next`, and again after any failure, with the cursor of
///   the last page that the hub made durable; `None` starts at the beginning.
/// - `next` waits until there is something. It may be dropped at any `await` (shutdown).
/// - When `next` is called again, the former page is durable; after a failure `resume` comes first.
/// - The same cursor gives the same units with the same ids: capturing twice is publishing once.
#[async_trait]
pub trait Capture: Send {
    /// What is captured.
    fn source(&self) -> SourceSpec;

    /// Goes to the cursor.
    async fn resume(&mut self, cursor: Option<String>) -> Result<(), CaptureError>;

    /// Returns the next page.
    async fn next(&mut self) -> Result<Page, CaptureError>;
}

//! Every limit of the SDK, by name.
//! Hosts and adapters take their bounds from here.
//! A limit must never stand as a bare number anywhere else in this crate.
//! Read next: `host.rs`.

use std::time::Duration;

/// Longest message of a receipt, in characters.
pub const RECEIPT_MESSAGE_CHARS_MAX: usize = 500;

/// Largest gRPC message that the client takes or sends.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest time to open a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time of one unary call, such as a publish.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time until the hub answers the first word on a new connection.
pub const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an idle connection is probed.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a probe may stay unanswered before the connection is given up.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// First delay before connecting again.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);

/// Longest delay before connecting again.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);

/// Delay while no operator has bound the product yet.
pub const NOT_BOUND_DELAY: Duration = Duration::from_secs(1);

/// Delay after another binding took over, or when the hub refuses the caller.
pub const FENCED_DELAY: Duration = Duration::from_secs(15);

/// Lease to assume when the hub names none.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// A lease is kept by this many heartbeats.
pub const HEARTBEATS_PER_LEASE: u32 = 3;

/// How long deliveries that are under way may take after a shutdown was asked for.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// How long a delivery may take when the adapter names no `answer_within`: the hub's default.
pub const ANSWER_WITHIN_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// Tenths of `answer_within` after which the host answers by itself, so that its word reaches the
/// hub before the hub stops waiting.
pub const ANSWER_TENTHS: u32 = 9;

/// Sequences above the last mark that a stream's check keeps; the hub sends no more ahead of it.
pub const SEEN_UNITS_MAX: usize = 100_000;

/// Earliest next attempt after an adapter panicked.
pub const PANIC_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Units in one published page.
pub const PAGE_UNITS_MAX: usize = 200;

/// Bytes of payload in one published page, unless one unit alone is larger.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Longest cursor, in bytes.
pub const CURSOR_BYTES_MAX: usize = 1024;

/// Delay before the next attempt when another instance of the hub owns the municipality, or none
/// for a moment.
pub const NOT_OWNER_DELAY: Duration = Duration::from_millis(250);

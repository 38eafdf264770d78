//! Every limit of the adapter, by name.
//! The files come from outside: nothing of them is held without a bound.
//! A limit must never be reached silently.
//! Read next: `records.rs`.

/// Longest record of a file, in bytes. A longer one means a quote that was never closed.
pub(super) const RECORD_BYTES_MAX: usize = 128 * 1024;

/// Rows of one 届出. A street renaming has a few hundred.
pub(super) const GROUP_ROWS_MAX: usize = 1_000;

/// Bytes of rows of one 届出: as events they must still fit into one request.
pub(super) const GROUP_BYTES_MAX: usize = 1024 * 1024;

/// Longest done-file, in bytes.
pub(super) const DONE_BYTES_MAX: u64 = 4096;

/// Most members of a household that one event names.
pub(super) const MEMBERS_MAX: usize = 100;

/// Pages of SQLite's cache: about 2 MiB.
pub(super) const INDEX_CACHE_KIB: u32 = 2048;

/// Rows loaded into the index in one transaction while a full file is read for the first time.
pub(super) const LOAD_ROWS_MAX: usize = 2_000;

//! The rows, by what they harm.
//! Each file holds the rows of one kind; this list is all that the programs know.
//! Must never list a row that nothing runs.
//! Read next: `rows/hub.rs`, `rows/network.rs`.

pub mod adapter;
pub mod cluster;
pub mod data;
pub mod drift;
pub mod exchange;
pub mod hub;
pub mod network;
pub mod overload;
pub mod random;
pub mod storage;
pub mod vendor;

use crate::row::Row;

/// All rows.
pub const ALL: &[&[Row]] = &[
    hub::ROWS,
    adapter::ROWS,
    exchange::ROWS,
    random::ROWS,
    storage::ROWS,
    vendor::ROWS,
    drift::ROWS,
    network::ROWS,
    data::ROWS,
    overload::ROWS,
];

/// Rows of one hub that are played with an instance of a cluster as well.
pub const ON_CLUSTER_TOO: &[&str] = &[
    "A1", "A2", "A3", "A4", "A5", "A11", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9",
    "C10", "C12", "D5", "F1", "F2", "F3", "F5", "F6", "F7", "F10", "F11", "F12", "H6",
];

//! The rows, by what they harm.
//! Each file holds the rows of one kind; this list is all that the programs know.
//! Must never list a row that nothing runs.
//! Read next: `rows/network.rs`.

pub mod data;
pub mod network;
pub mod overload;

use crate::row::Row;

/// All rows.
pub const ALL: &[&[Row]] = &[network::ROWS, data::ROWS, overload::ROWS];

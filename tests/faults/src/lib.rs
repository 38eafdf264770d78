//! Faults as tests: each row harms a running hub and judges what is left.
//! Beside the product; it sees processes, files and the network, as the end-to-end tests do.
//! Must never pass a row that did not harm anything.
//! Read next: `row.rs`, `history.rs`, `network.rs`, `data.rs`, `load.rs`.

pub mod clock;
pub mod data;
pub mod dice;
pub mod disk;
pub mod history;
pub mod judged;
pub mod lines;
pub mod load;
pub mod network;
pub mod others;
pub mod proxy;
pub mod retrying;
pub mod rig;
pub mod row;
pub mod rows;
pub mod scene;
pub mod stand;
pub mod stub;
pub mod wire;
pub mod writes;

//! Generated types, laid out as their packages so that generated paths between them hold.
//! They come from the build script; the contracts are the `.proto` files.
//! Nothing here is written by hand, so the lints for handwritten code are off.
//! Read `build.rs` next.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    rustdoc::all,
    clippy::all,
    clippy::too_many_lines,
    clippy::let_underscore_must_use,
    clippy::large_futures,
    clippy::redundant_clone,
    clippy::string_slice,
    clippy::unwrap_used
)]

/// Public error details of gRPC.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// Musubi's own packages.
pub mod musubi {
    /// The hub's API.
    pub mod hub {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("musubi.hub.v1");
        }
    }

    /// The standard events.
    pub mod standard {
        /// What all standard events share.
        pub mod common {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("musubi.standard.common.v1");
            }
        }

        /// Events of the resident register (住民基本台帳).
        pub mod resident {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("musubi.standard.resident.v1");
            }
        }
    }
}

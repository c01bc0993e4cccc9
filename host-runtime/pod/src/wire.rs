//! `proto/pod.proto` as Rust.

#[allow(
    missing_docs,
    missing_debug_implementations,
    elided_lifetimes_in_paths,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated.rs"));
}

pub use generated::pod::*;
pub use generated::pod_ttrpc::{Pod as PodService, PodClient as Rpc, create_pod};

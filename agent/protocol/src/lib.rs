//! The protocol between the host runtime and the agent: what `proto/agent.proto` says, as Rust.
//!
//! [`AgentClient`] is the host's side and [`AgentService`] the agent's; both are generated and
//! asynchronous: ttrpc's blocking ones look for the other side's hanging up a hundred times a second. This file adds what the two sides must agree on besides the messages: the version,
//! the vsock ports, the token that opens a stdio stream, and [`Failure`], which travels in the
//! details of a ttrpc status so that a refusal keeps its kind and its errno, how the words of
//! [`MountOptions`] are read, the loop that moves the bytes of a stream ([`pump`]), and what both look up in a
//! container's files: [`users`], and whether a program is there ([`root`]).

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
mod failure;
mod mount_options;
pub mod pump;
pub mod root;
pub mod users;

pub use failure::{failure_of, refuse};
pub use generated::agent::*;
pub use generated::agent_ttrpc::{Agent as AgentService, AgentClient, create_agent};
pub use mount_options::MountOptions;

/// The version of the protocol. Raised whenever an older peer would misunderstand; the two
/// sides come out of one build, so there is no range to negotiate.
pub const PROTOCOL_VERSION: u32 = 3;

/// The vsock port on which the agent answers requests.
pub const RPC_PORT: u32 = 1024;

/// The vsock port on which the agent takes stdio streams.
pub const STDIO_PORT: u32 = 1025;

/// Length in bytes of the little-endian token that opens a stdio stream.
pub const TOKEN_LEN: usize = 8;

/// The virtio-fs tag of the directory that host and guest share.
pub const SHARED_TAG: &str = "root";

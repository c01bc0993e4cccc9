//! A pod: one machine, the agent in it, its containers and their processes.
//!
//! [`Pod`] is what every owner of a machine goes through: `nacre run` for one program, the containerd shim for
//! what the Task API asks. A [`Container`] has processes by exec id, the empty one being its first; their
//! standard streams are whatever descriptors the owner gives ([`Ends`]). What happens is told to one
//! [`Observer`]. Who looks for pods from outside finds them by their directories ([`state`]) and asks ([`client`]) their processes,
//! which answer ([`PodServer`]) as `proto/pod.proto` says. Nothing here knows containerd's types or how a machine works.

#![forbid(unsafe_code)]

pub mod agent;
pub mod cgroup;
pub mod client;
mod container;
mod error;
mod event;
mod log;
mod network;
mod pod;
mod power_off;
mod process;
pub mod runtime;
mod server;
pub mod state;
mod stdio;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;

pub use agent::{Agent, AgentError, ProcessExit};
pub use container::Container;
pub use error::PodError;
pub use event::{Event, Observer};
pub use log::{PodLog, Source};
pub use pod::Pod;
pub use process::{Exit, Lost, Process, Stage};
pub use server::{Hub, PodServer, metrics};
pub use stdio::{Broken, Ends, Outputs, Patience};

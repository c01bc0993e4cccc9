//! From a pod's network to network devices of its microVM, and what the guest is to do with them.
//!
//! [`user`] is a network of the pod's own behind `passt`, which ordinary users may have, too. [`namespace`] takes the
//! interfaces of a network namespace over, as CNI plugins and Docker's bridge leave them. Either gives a [`Network`]:
//! devices for the machine, a [`Plan`] for the guest's agent, and what has to stay meanwhile. The host alone decides the
//! plan; the guest asks nobody.

#![deny(unsafe_code)]

mod dns;
mod error;
mod links;
pub mod namespace;
mod plan;
mod ports;
#[expect(unsafe_code, reason = "the one place for it; see the module")]
mod sys;
pub mod user;

use host_machine::Net;

pub use error::NetError;
pub use plan::{Address, Interface, Neighbour, Plan, Route};
pub use ports::{Forward, Protocol};

/// A pod's network.
#[derive(Debug)]
pub struct Network {
    /// The machine's devices.
    pub nets: Vec<Net>,
    /// What the guest does with them.
    pub plan: Plan,
    /// What takes the host's part back when it is dropped.
    pub guard: Guard,
}

/// What a network needs on the host while its pod lives; dropping it removes that.
#[derive(Debug, Default)]
pub struct Guard {
    _redirects: Option<namespace::Redirects>,
}

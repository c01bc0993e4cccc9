//! A microVM, seen from the process that owns it.
//!
//! [`Machine`] is the seam between a pod and whatever runs its guest; [`MachineSpec`] is what a machine is made
//! of. [`VmmProcess`] is the machine in a process of its own, `nacre-vmm` or `nacre-qemu`, which its owner speaks
//! [`control`] with. Nothing above this crate knows how a machine works, nothing in it knows what runs in the guest.

#![forbid(unsafe_code)]

pub mod bounds;
mod cgroup;
pub mod control;
mod error;
mod exit;
pub mod far_end;
mod kvm_hint;
pub mod logging;
pub mod printing;
mod process;
mod spec;
mod stats;
mod timings;

use std::fmt::Debug;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub use cgroup::CgroupLeaf;
pub use error::MachineError;
pub use exit::ExitReason;
pub use process::VmmProcess;
pub use spec::{
    Attachment, Backing, Boot, Disk, LinkKind, LogTarget, MAX_CPUS, MAX_DISKS, MAX_MEMORY,
    MAX_NETS, MIN_MEMORY, MachineKind, MachineSpec, Memory, Net, NetConfig, Share, SubTree,
};
pub use stats::{DeviceStats, Stats};
pub use timings::{Phase, Timings};

/// A running, or ended, microVM. All calls may be made from any thread; dropping the last owner ends it.
pub trait Machine: Debug + Send + Sync {
    /// Connects to a vsock port of the guest, trying again until the guest listens or the bound is over.
    ///
    /// # Errors
    /// [`MachineError::Ended`] when the microVM ends meanwhile, [`MachineError::Connect`] after the bound.
    fn connect(&self, port: u32, bound: Duration) -> Result<UnixStream, MachineError>;

    /// Waits for the microVM's end, at most for `bound` if there is one; `None` while it runs.
    fn wait(&self, bound: Option<Duration>) -> Option<ExitReason>;

    /// Ends the microVM at once, without the guest's consent, and waits until nothing of it runs.
    fn kill(&self) -> ExitReason;

    /// Stops the guest's CPUs, until [`Machine::resume`]. Its connections stay.
    ///
    /// # Errors
    /// When the machine has ended or a CPU does not stop.
    fn pause(&self) -> Result<(), MachineError>;

    /// Lets the guest's CPUs run on.
    ///
    /// # Errors
    /// When the machine has ended.
    fn resume(&self) -> Result<(), MachineError>;

    /// What has been counted since the start.
    ///
    /// # Errors
    /// When the machine has ended.
    fn stats(&self) -> Result<Stats, MachineError>;

    /// Gives the running guest something more.
    ///
    /// # Errors
    /// [`MachineError::Refused`] names what a machine cannot take while it runs.
    fn attach(&self, what: Attachment) -> Result<(), MachineError>;

    /// Takes it back.
    ///
    /// # Errors
    /// As [`Machine::attach`].
    fn detach(&self, what: Attachment) -> Result<(), MachineError>;

    /// The phases reached so far.
    fn timings(&self) -> Timings;

    /// The process that stands for the machine on the host, for messages and accounting.
    fn pid(&self) -> u32;
}

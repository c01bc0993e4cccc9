//! The kernel thread that a user thread runs on, and what stays of it: a first thread is asked about its
//! scheduling and its CPU time until its process is waited for.

use sched::stats::{CpuTime, Turns};
use sched::{Attributes, CpuMask, ThreadRef};

/// See the module.
#[derive(Debug)]
pub(super) struct Running {
    /// Set before it first runs, taken when it exits.
    pub(super) kernel: Option<ThreadRef>,
    /// What the kernel thread had at its end.
    pub(super) attributes: Attributes,
    pub(super) affinity: CpuMask,
    pub(super) time: CpuTime,
    pub(super) turns: Turns,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            kernel: None,
            attributes: Attributes::default(),
            affinity: CpuMask::ALL,
            time: CpuTime::default(),
            turns: Turns::default(),
        }
    }
}

//! A user thread's kernel thread, and how it is scheduled: what is asked of either goes to the kernel thread while there
//! is one, and to what stayed of it behind that.

use core::sync::atomic::Ordering;

use abi::Result;
use sched::stats::{CpuTime, Turns};
use sched::{Attributes, CpuMask, ThreadRef};

use super::Thread;
use crate::usage::Usage;

impl Thread {
    /// Its kernel thread; `None` before it starts and once it exits.
    #[must_use]
    pub fn kernel(&self) -> Option<ThreadRef> {
        self.running.lock().kernel.clone()
    }

    pub(crate) fn set_kernel(&self, kernel: Option<ThreadRef>) {
        let old = self.kernel();
        let last = old.as_ref().map(|old| {
            (
                old.attributes(),
                old.affinity(),
                old.cpu_time(),
                old.turns(),
            )
        });
        let mut running = self.running.lock();
        if let Some((attributes, affinity, time, turns)) = last {
            running.attributes = attributes;
            running.affinity = affinity;
            running.time = time;
            running.turns = turns;
        }
        let replaced = core::mem::replace(&mut running.kernel, kernel);
        drop(running);
        drop((old, replaced));
    }

    /// How it is scheduled, or was.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        match self.kernel() {
            Some(kernel) => kernel.attributes(),
            None => self.running.lock().attributes,
        }
    }

    /// Changes how it is scheduled.
    ///
    /// # Errors
    /// `EINVAL` for a priority that the policy does not have.
    pub fn set_attributes(&self, attributes: Attributes) -> Result<()> {
        match self.kernel() {
            Some(kernel) => kernel.set_attributes(attributes),
            None => {
                self.running.lock().attributes = attributes;
                Ok(())
            }
        }
    }

    /// The CPUs that it may run on.
    #[must_use]
    pub fn affinity(&self) -> CpuMask {
        match self.kernel() {
            Some(kernel) => kernel.affinity(),
            None => self.running.lock().affinity,
        }
    }

    /// Changes the CPUs that it may run on.
    ///
    /// # Errors
    /// `EINVAL` when none of them is there.
    pub fn set_affinity(&self, mask: CpuMask) -> Result<()> {
        match self.kernel() {
            Some(kernel) => kernel.set_affinity(mask),
            None => {
                self.running.lock().affinity = mask;
                Ok(())
            }
        }
    }

    /// The time that it has used, and how it has waited for CPUs.
    #[must_use]
    pub fn scheduling(&self) -> (CpuTime, Turns) {
        match self.kernel() {
            Some(kernel) => (kernel.cpu_time(), kernel.turns()),
            None => {
                let running = self.running.lock();
                (running.time, running.turns)
            }
        }
    }

    /// What it has used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let time = match self.kernel() {
            Some(kernel) => kernel.cpu_time(),
            None => self.running.lock().time,
        };
        Usage {
            minor_faults: self.minor_faults.load(Ordering::Relaxed),
            ..Usage::of_cpu(time)
        }
    }

    /// The letter of its state in /proc/PID/stat.
    #[must_use]
    pub fn state_letter(&self) -> char {
        if self.traced().is_some_and(|traced| traced.is_stopped()) {
            return 't';
        }
        if self.parked.load(Ordering::Relaxed) {
            return 'T';
        }
        if self.frozen.load(Ordering::Relaxed) {
            return 'S';
        }
        self.kernel().map_or('Z', |kernel| kernel.state().letter())
    }
}

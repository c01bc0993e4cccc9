//! Kernel threads and what they wait for: run queues, wait queues, timers, clocks, sleeping locks.
//!
//! A thread leaves its CPU only by blocking, at [`thread::reschedule_if_needed`] (on the way back
//! to user mode) or by exiting; the kernel is not preempted inside itself. Interrupt handlers
//! wake threads and set flags, nothing else.
//!
//! On the bare machine threads are [`machine::task::Task`]s on per-CPU run queues ([`run_queue`] is
//! the policy, pure data). In host unit tests they are std threads behind the same API.
//!
//! Lock order, outermost first: sleeping locks, wait-queue lists, timer heaps, run queues.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use core::sync::atomic;

pub mod attributes;
pub mod clock;
mod handshake;
mod later;
pub mod lock;
mod park;
pub mod rcu;
pub mod run_queue;
pub mod stats;
pub mod thread;
pub mod timer;
mod timer_heap;
pub mod wait_queue;

#[cfg(target_os = "none")]
#[path = "bare/mod.rs"]
mod backend;
#[cfg(not(target_os = "none"))]
#[path = "host.rs"]
mod backend;

pub use attributes::{Attributes, CpuMask, Policy};
pub use later::DropLater;
pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use park::{Sleep, park};
pub use thread::{Thread, ThreadBuilder, ThreadRef, cond_resched, is_to_stop, killed};
pub use wait_queue::{Registration, WaitQueue, Wake};

/// What the machine calls: pass it to [`machine::interrupt::set_upcalls`] before [`init`].
pub const UPCALLS: machine::interrupt::Upcalls = machine::interrupt::Upcalls {
    timer: backend::timer_interrupt,
    reschedule: backend::reschedule_interrupt,
};

/// Makes the boot flow of this CPU its idle thread, so that threads can be spawned. Once, on the
/// boot CPU, before anything else here is used.
pub fn init() {
    backend::init_cpu();
}

/// Reports CPUs that do not get on from now on: stuck in the kernel for two seconds, idle while threads wait, or
/// with a timer that is overdue.
pub fn start_watchdog() {
    backend::start_watchdog();
}

/// Runs whatever there is to run on this CPU, for ever. The boot CPU calls it when start-up is
/// done; every other CPU starts in it.
pub fn idle() -> ! {
    backend::idle()
}

//! Timers: a callback at a deadline of the monotonic clock. Nothing is armed again by its own expiry: a period that a user
//! sets, however short, and however many there are, must not keep CPUs in interrupt handlers.
//!
//! Each CPU has a heap of the timers armed on it and keeps the machine's one-shot timer set for the
//! earliest. Callbacks run in interrupt context: they wake threads and set flags.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use collections::try_arc;

use crate::backend;
use crate::later::DropLater;
use crate::park::{Sleep, park};
use crate::thread::{Thread, ThreadRef};
use crate::timer_heap::{NOWHERE, Slot, Timed};

/// A timer; dropping it cancels it.
pub struct Timer(Arc<Inner>);

struct Inner {
    slot: Slot,
    deadline_ns: AtomicU64,
    /// A handler that calls it may be the last to have it.
    callback: DropLater<Box<dyn Fn() + Send + Sync>>,
}

impl core::fmt::Debug for Timer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Timer({:?})", self.deadline_ns())
    }
}

impl Timer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(callback: Box<dyn Fn() + Send + Sync>) -> Result<Self> {
        Ok(Self(try_arc(Inner {
            slot: Slot::new(),
            deadline_ns: AtomicU64::new(0),
            callback: DropLater::new(callback)?,
        })?))
    }

    /// Arms it for `deadline_ns` of the monotonic clock, in place of what was set before.
    pub fn arm(&self, deadline_ns: u64) {
        backend::cancel(&self.0.slot);
        self.0.deadline_ns.store(deadline_ns, Ordering::Relaxed);
        backend::arm(deadline_ns, self.0.clone());
    }

    /// Cancels it. A callback that has begun on another CPU may still be running.
    pub fn cancel(&self) {
        backend::cancel(&self.0.slot);
    }

    /// The deadline, when armed.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        let is_armed = self.0.slot.home.load(Ordering::Acquire) != NOWHERE;
        is_armed.then(|| self.0.deadline_ns.load(Ordering::Relaxed))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Timed for Inner {
    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn expired(self: Arc<Self>) {
        (self.callback)();
    }
}

/// Sleeps until `deadline_ns` of the monotonic clock.
///
/// # Errors
/// `ERESTARTSYS` when `sleep` is interruptible and a signal is to be delivered.
pub fn sleep_until(deadline_ns: u64, sleep: Sleep) -> Result<()> {
    park(sleep, Some(deadline_ns), || {
        (crate::clock::monotonic_ns() >= deadline_ns).then_some(())
    })
}

pub(crate) fn arm_sleep(thread: &ThreadRef, deadline_ns: u64) {
    backend::arm(deadline_ns, thread.clone());
}

pub(crate) fn cancel_sleep(thread: &Thread) {
    backend::cancel(&thread.sleep_timer);
}

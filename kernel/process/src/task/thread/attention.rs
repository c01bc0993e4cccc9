//! What a thread is to look at before user code runs again: signals, stops, exits; how it is told, and how it waits for
//! something else meanwhile.

use core::sync::atomic::Ordering;

use sched::WaitQueue;

use super::{AlternateStack, Thread};
use crate::signal::number::{Signal, SignalSet};

impl Thread {
    /// Its alternate signal stack.
    #[must_use]
    pub fn alternate_stack(&self) -> AlternateStack {
        *self.alternate_stack.lock()
    }

    /// Sets its alternate signal stack.
    pub fn set_alternate_stack(&self, stack: AlternateStack) {
        *self.alternate_stack.lock() = stack;
    }

    /// Signals it blocks.
    #[must_use]
    pub fn blocked(&self) -> SignalSet {
        SignalSet(self.blocked.load(Ordering::Relaxed))
    }

    /// Only with the process's signal state locked.
    pub(crate) fn store_blocked(&self, mask: SignalSet) {
        let mask = mask.without(SignalSet::UNMASKABLE);
        self.blocked.store(mask.0, Ordering::Relaxed);
    }

    /// Whether sending it `signal` is to wake it.
    pub(crate) fn listens_to(&self, signal: Signal) -> bool {
        let awaited = SignalSet(self.awaited.load(Ordering::Relaxed));
        !self.blocked().contains(signal) || awaited.contains(signal)
    }

    /// Has it look for signals before user code runs again, and ends an interruptible sleep.
    pub fn notify(&self) {
        self.attention.store(true, Ordering::SeqCst);
        if let Some(kernel) = &self.running.lock().kernel {
            kernel.interrupt();
        }
    }

    /// As [`Self::notify`], when it is to end: long calls stop half-way.
    pub(crate) fn notify_of_end(&self) {
        if let Some(kernel) = &self.running.lock().kernel {
            kernel.kill();
        }
        self.notify();
    }

    /// Whether it has something to do before user code runs again.
    #[inline]
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    /// Whether the thread is to exit: long calls end early then. Cheap while nothing is pending.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        self.exiting.load(Ordering::Relaxed)
            || (self.attention.load(Ordering::Relaxed)
                && self.process().signals.lock().must_exit(self))
    }

    /// Waits on `queue`, as the calling thread, until `condition` returns something; `None` when it is to exit. Other
    /// signals do not end the wait.
    pub(crate) fn wait_killable<R>(
        &self,
        queue: &WaitQueue,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        loop {
            if let Ok(value) = queue.wait_interruptible(&mut condition) {
                return Some(value);
            }
            // First, so that what is sent after the look below interrupts the next wait. What is not fatal is
            // delivered once the wait is over: `attention` still says so.
            if let Some(kernel) = self.kernel() {
                kernel.clear_interrupt();
            }
            let dying = self.process().signals.lock().must_exit(self);
            if dying || self.exiting.load(Ordering::Relaxed) {
                return None;
            }
        }
    }
}

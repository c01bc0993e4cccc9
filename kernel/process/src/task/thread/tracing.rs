//! A thread as one that is traced: flags that its user loop looks at, and what it has while it is.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::Thread;
use crate::task::traced::{TraceFlags, Traced};

impl Thread {
    /// What is to be done for its tracer.
    #[inline]
    pub(crate) fn trace_flags(&self) -> TraceFlags {
        TraceFlags::from_bits_retain(self.trace_flags.load(Ordering::Relaxed))
    }

    /// Whether another thread traces it.
    #[inline]
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.trace_flags().contains(TraceFlags::TRACED)
    }

    /// Whether something is to be done around a system call.
    #[inline]
    pub(crate) fn is_call_traced(&self) -> bool {
        let around = TraceFlags::SYSCALL
            .union(TraceFlags::EMULATE)
            .union(TraceFlags::STEP);
        self.trace_flags().intersects(around)
    }

    pub(crate) fn add_trace_flags(&self, flags: TraceFlags) {
        self.trace_flags.fetch_or(flags.bits(), Ordering::SeqCst);
    }

    pub(crate) fn clear_trace_flags(&self, flags: TraceFlags) -> TraceFlags {
        let old = self.trace_flags.fetch_and(!flags.bits(), Ordering::SeqCst);
        TraceFlags::from_bits_retain(old)
    }

    /// What it has while it is traced.
    pub(crate) fn traced(&self) -> Option<Arc<Traced>> {
        if !self.is_traced() {
            return None;
        }
        self.traced.lock().clone()
    }

    /// Who traces it.
    #[must_use]
    pub fn tracer(&self) -> Option<Arc<Thread>> {
        Some(self.traced()?.tracer.clone())
    }
}

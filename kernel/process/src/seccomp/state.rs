//! [`State`]: what a thread knows of its filters.
//!
//! The thread itself works with what its [`Own`](crate::own::Own) holds. When another thread of its process gives it filters
//! (`SECCOMP_FILTER_FLAG_TSYNC`), a bit of the mode says that this is to be looked up again.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use machine::sync::SpinLock;

use super::filter::Filter;

const OFF: u8 = 0;
const STRICT: u8 = 1;
const FILTER: u8 = 2;
/// The thread's own copy of its newest filter is not the newest any more.
const STALE: u8 = 4;

/// `SECCOMP_MODE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Every call is made.
    Off = OFF,
    /// read, write, exit and rt_sigreturn alone.
    Strict = STRICT,
    /// As the filters say.
    Filter = FILTER,
}

/// See the module. It changes with the signals of the process locked.
#[derive(Debug, Default)]
pub struct State {
    mode: AtomicU8,
    newest: SpinLock<Option<Arc<Filter>>>,
}

impl State {
    /// Its mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) & !STALE {
            STRICT => Mode::Strict,
            FILTER => Mode::Filter,
            _ => Mode::Off,
        }
    }

    /// Whether any call may be made: the usual case, asked before each.
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.mode.load(Ordering::Relaxed) == OFF
    }

    /// Whether the newest filter of the thread is the one in its own hands.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.mode.load(Ordering::Relaxed) == FILTER
    }

    /// How many filters it has.
    #[must_use]
    pub fn filter_count(&self) -> u32 {
        self.newest
            .lock()
            .as_ref()
            .map_or(0, |filter| filter.depth())
    }

    /// Its newest filter.
    pub(super) fn newest(&self) -> Option<Arc<Filter>> {
        self.newest.lock().clone()
    }

    /// As [`Self::newest`], by the thread itself, which keeps it.
    pub(crate) fn settle(&self) -> Option<Arc<Filter>> {
        // First, so that what is put there from now on is seen next time.
        self.mode.fetch_and(!STALE, Ordering::SeqCst);
        self.newest()
    }

    pub(super) fn set_strict(&self) {
        self.mode.store(STRICT, Ordering::SeqCst);
    }

    /// Gives it `filter`, which leads to those that it has.
    pub(super) fn put(&self, filter: Arc<Filter>) {
        // It is not the last reference to the old one.
        let old = self.newest.lock().replace(filter);
        self.mode.store(FILTER | STALE, Ordering::SeqCst);
        drop(old);
    }

    /// What a child of a thread with `parent` has: the same.
    pub(crate) fn inherit(&self, parent: &Self) {
        if parent.is_off() {
            return;
        }
        match (parent.mode(), parent.newest()) {
            (Mode::Filter, Some(filter)) => self.put(filter),
            (Mode::Strict, _) => self.set_strict(),
            _ => {}
        }
    }

    /// Lets go of the filters, at the thread's end. The mode stays for those who ask.
    pub(crate) fn release(&self) {
        if !self.is_off() {
            let old = self.newest.lock().take();
            drop(old);
        }
    }
}

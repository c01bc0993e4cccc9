//! Readiness: the events a file reports, and how a waiter hears of changes.
//!
//! [`crate::FileOps::poll`] is called with a [`PollTable`] once: the file adds the wait queues that
//! will be woken when its answer may have changed, then answers. It is called again, without
//! a table, after each wake-up. As the queues are added before the answer is made, no wake-up is lost.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use sched::{Registration, WaitQueue, Wake};

bitflags::bitflags! {
    /// Events of poll(2) and epoll_ctl(2); the low 16 bits are the same in both.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Events: u32 {
        /// `POLLIN`.
        const IN = 0x001;
        /// `POLLPRI`.
        const PRI = 0x002;
        /// `POLLOUT`.
        const OUT = 0x004;
        /// `POLLERR`.
        const ERR = 0x008;
        /// `POLLHUP`.
        const HUP = 0x010;
        /// `POLLNVAL`.
        const NVAL = 0x020;
        /// `POLLRDNORM`.
        const RDNORM = 0x040;
        /// `POLLRDBAND`.
        const RDBAND = 0x080;
        /// `POLLWRNORM`.
        const WRNORM = 0x100;
        /// `POLLWRBAND`.
        const WRBAND = 0x200;
        /// `POLLMSG`.
        const MSG = 0x400;
        /// `POLLRDHUP`.
        const RDHUP = 0x2000;
    }
}

impl Events {
    /// Readable, in both of its names.
    pub const READABLE: Events = Events::IN.union(Events::RDNORM);
    /// Writable, in both of its names.
    pub const WRITABLE: Events = Events::OUT.union(Events::WRNORM);
    /// Reported whether asked for or not.
    pub const ALWAYS: Events = Events::ERR.union(Events::HUP);
}

/// Where a file under poll puts the wait queues to listen to. Dropping it stops listening.
pub struct PollTable {
    waker: Arc<dyn Wake>,
    registrations: Vec<Registration>,
    /// The waker takes wake-ups, so that others need not be told of them.
    takes: bool,
    /// Some queue could not be entered for want of memory.
    failed: bool,
}

impl PollTable {
    /// A table whose queues wake `waker`.
    #[must_use]
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        Self {
            waker,
            registrations: Vec::new(),
            takes: false,
            failed: false,
        }
    }

    /// A table whose queues ask `waker` to take wake-ups, as one of those that do.
    pub(crate) fn of_taker(waker: Arc<dyn Wake>) -> Self {
        let mut table = Self::new(waker);
        table.takes = true;
        table
    }

    /// Listens to `queue` from now on.
    pub fn add(&mut self, queue: &WaitQueue) {
        if self.failed || self.registrations.try_reserve(1).is_err() {
            self.failed = true;
            return;
        }
        let waker = self.waker.clone();
        let registered = if self.takes {
            queue.register_taker(waker)
        } else {
            queue.register(waker)
        };
        self.failed = match registered {
            Ok(registration) => self
                .registrations
                .push_within_capacity(registration)
                .is_err(),
            Err(_) => true,
        };
    }

    /// Whether it hears of all queues that it was given.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn check(&self) -> Result<()> {
        if self.failed {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }
}

impl Drop for PollTable {
    /// In steps: it may be a set of a million.
    fn drop(&mut self) {
        const FEW: usize = 64;
        while self.registrations.len() > FEW {
            drop(self.registrations.pop());
            sched::cond_resched();
        }
    }
}

impl core::fmt::Debug for PollTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PollTable({} queues)", self.registrations.len())
    }
}

/// Wakes the thread that polls: what poll(2) and select(2) wait with.
#[derive(Debug, Default)]
pub struct PollWaiter {
    queue: WaitQueue,
    woken: AtomicBool,
}

impl PollWaiter {
    /// A waiter and its table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<(Arc<Self>, PollTable)> {
        let this = try_arc(Self::default())?;
        let table = PollTable::new(this.clone());
        Ok((this, table))
    }

    /// Sleeps until a queue of the table was woken since the last time.
    ///
    /// # Errors
    /// `ETIMEDOUT` at `deadline_ns`, `ERESTARTSYS` when a signal comes.
    pub fn wait(&self, deadline_ns: Option<u64>) -> Result<()> {
        self.queue.wait_interruptible_deadline(deadline_ns, || {
            self.woken.swap(false, Ordering::AcqRel).then_some(())
        })
    }
}

impl Wake for PollWaiter {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.queue.wake_all();
    }
}

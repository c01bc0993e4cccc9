//! Wait queues: threads (and pollers) that wait for a condition on some object.
//!
//! Change the object first, then wake. Waking is allowed from interrupt handlers and with spin locks
//! held; waiting is not. An empty queue costs a waker one locked instruction.
//!
//! Waiting allocates nothing: the links are in the threads. Wakers take threads out under the queue's lock and
//! wake them after it, or the CPU that runs them would start with spinning on it. A condition that is not
//! met must not wake the queue that it is waited for on: its thread would never sleep (builds with checks panic).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicUsize;

use abi::Result;
use collections::try_box;
use machine::intrusive::List;
use machine::sync::{IrqGuard, IrqLock};

use crate::handshake::Occupied;
use crate::park::{Sleep, park_with};
use crate::thread::{Thread, ThreadRef};

mod entry;
mod pollers;

use entry::Entry;
use pollers::{Poller, Pollers};
pub use pollers::{Registration, Wake};

/// How many are taken out under the lock at a time.
const BATCH: usize = 8;

/// A queue of waiting threads and registered pollers.
pub struct WaitQueue {
    /// Entries in `waiters`, so that waking an empty queue takes no lock.
    occupied: Occupied,
    waiters: IrqLock<Waiters>,
}

#[derive(Default)]
struct Waiters {
    /// Those that are all woken, in order of arrival.
    together: List<Thread>,
    /// Those of which one is woken at a time, the next one first.
    alone: List<Thread>,
    pollers: Pollers,
    /// Those of which the first that takes a wake-up has it, beside who waits alone. Few queues ever have some, and
    /// each pipe and socket has several queues: so there is a list from the first on.
    takers: Option<Box<Pollers>>,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WaitQueue({} waiting)", self.occupied.get())
    }
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            occupied: Occupied::from_parts(AtomicUsize::new(0)),
            waiters: IrqLock::new(Waiters {
                together: List::new(),
                alone: List::new(),
                pollers: Pollers::new(),
                takers: None,
            }),
        }
    }

    /// Sleeps, deaf to signals, until `condition` returns something.
    pub fn wait_until<R>(&self, condition: impl FnMut() -> Option<R>) -> R {
        self.wait_for_good(false, condition)
    }

    /// As [`Self::wait_until`], for a condition that one waiter at a time can use: a wake-up
    /// ([`Self::wake_one`]) wakes one of those that wait so. Who was woken for nothing stays the next one.
    pub fn wait_until_alone<R>(&self, condition: impl FnMut() -> Option<R>) -> R {
        self.wait_for_good(true, condition)
    }

    fn wait_for_good<R>(&self, is_alone: bool, mut condition: impl FnMut() -> Option<R>) -> R {
        loop {
            let entry = Entry {
                queue: self,
                is_alone,
            };
            // Neither a signal nor a deadline can end this sleep, so the first round returns.
            if let Ok(value) = park_with(&entry, Sleep::Uninterruptible, None, &mut condition) {
                return value;
            }
        }
    }

    /// Sleeps until `condition` returns something.
    ///
    /// # Errors
    /// `ERESTARTSYS` when `sleep` is interruptible and a signal is to be delivered, `ETIMEDOUT` at
    /// `deadline_ns` of the monotonic clock.
    pub fn wait<R>(
        &self,
        sleep: Sleep,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let entry = Entry {
            queue: self,
            is_alone: false,
        };
        park_with(&entry, sleep, deadline_ns, condition)
    }

    /// As [`Self::wait`], interruptible, for a condition that one waiter at a time can use (accept(2)); see
    /// [`Self::wait_until_alone`]. A wake-up that a signal or the deadline makes useless is passed on.
    ///
    /// # Errors
    /// `ERESTARTSYS` when interrupted, `ETIMEDOUT` at the deadline.
    pub fn wait_interruptible_alone<R>(
        &self,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        let entry = Entry {
            queue: self,
            is_alone: true,
        };
        park_with(&entry, Sleep::Interruptible, deadline_ns, condition)
    }

    /// Sleeps until `condition` returns something or a signal is to be delivered.
    ///
    /// # Errors
    /// `ERESTARTSYS` when interrupted.
    pub fn wait_interruptible<R>(&self, condition: impl FnMut() -> Option<R>) -> Result<R> {
        self.wait(Sleep::Interruptible, None, condition)
    }

    /// As [`Self::wait_interruptible`], up to `deadline_ns` of the monotonic clock.
    ///
    /// # Errors
    /// `ERESTARTSYS` when interrupted, `ETIMEDOUT` at the deadline.
    pub fn wait_interruptible_deadline<R>(
        &self,
        deadline_ns: Option<u64>,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        self.wait(Sleep::Interruptible, deadline_ns, condition)
    }

    /// Sleeps, deaf to signals, up to `deadline_ns` of the monotonic clock.
    ///
    /// # Errors
    /// `ETIMEDOUT` at the deadline.
    pub fn wait_deadline<R>(
        &self,
        deadline_ns: u64,
        condition: impl FnMut() -> Option<R>,
    ) -> Result<R> {
        self.wait(Sleep::Uninterruptible, Some(deadline_ns), condition)
    }

    /// Wakes every thread that waits together with others and tells every poller; then one of those that take a wake-up
    /// for themselves: the first registered so that takes it, else a thread that waits alone.
    pub fn wake_one(&self) {
        self.wake(1);
    }

    /// Wakes every thread and tells every poller.
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }

    /// Wakes `alone` of those that wait alone, and all others.
    #[inline]
    fn wake(&self, alone: usize) {
        crate::park::note_wake(self.address());
        if !self.occupied.is_empty() {
            self.wake_waiters(alone);
        }
    }

    fn wake_waiters(&self, alone: usize) {
        let mut left = Left {
            pollers: usize::MAX,
            together: usize::MAX,
            takers: usize::MAX,
            alone,
        };
        while !left.is_over() {
            let mut waiters = self.waiters.lock();
            left.bound(&waiters);
            let Some(first) = waiters.next(&mut left) else {
                self.occupied.count_down(waiters.len());
                return;
            };
            if left.is_over() {
                // The usual case: there is one.
                self.occupied.count_down(waiters.len());
                drop(waiters);
                first.wake();
                return;
            }
            if let Woken::Taker(waker) = first {
                // Asked without the lock, and one after the other: the next one is asked if this one does not take it.
                drop(waiters);
                left.alone -= usize::from(waker.wake_to_take());
                continue;
            }
            self.wake_batch(waiters, first, &mut left);
        }
    }

    /// Wakes `first` and some more, which are taken out together.
    #[cold]
    fn wake_batch(&self, mut waiters: IrqGuard<'_, Waiters>, first: Woken, left: &mut Left) {
        let mut batch = [const { None }; BATCH];
        for slot in &mut batch {
            if left.is_at_takers() {
                break;
            }
            *slot = waiters.next(left);
            if slot.is_none() {
                break;
            }
        }
        self.occupied.count_down(waiters.len());
        drop(waiters);
        first.wake();
        for woken in batch.into_iter().flatten() {
            woken.wake();
        }
    }

    /// Tells `waker` of each wake-up until the registration is dropped.
    ///
    /// # Errors
    /// `ENOMEM`; `waker` is not told then.
    pub fn register(&self, waker: Arc<dyn Wake>) -> Result<Registration> {
        let poller = Poller::new(&waker)?;
        let mut waiters = self.waiters.lock();
        waiters.pollers.add(poller.clone());
        self.occupied.count_up(waiters.len());
        drop(waiters);
        Ok(Registration::new(poller, waker))
    }

    /// As [`Self::register`], for one that need not be told of each wake-up: those registered so are asked in turn until one
    /// has taken it ([`Wake::wake_to_take`]; `EPOLLEXCLUSIVE`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn register_taker(&self, waker: Arc<dyn Wake>) -> Result<Registration> {
        let poller = Poller::new(&waker)?;
        // Made, and dropped if there is one, without the lock.
        let mut list = Some(try_box(Pollers::new())?);
        let mut waiters = self.waiters.lock();
        if waiters.takers.is_none() {
            waiters.takers = list.take();
        }
        if let Some(takers) = &mut waiters.takers {
            takers.add(poller.clone());
        }
        self.occupied.count_up(waiters.len());
        drop(waiters);
        Ok(Registration::new(poller, waker))
    }

    /// Whether somebody waits, or has left a registration.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        !self.occupied.is_empty()
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

/// How many a wake-up still has to wake.
struct Left {
    pollers: usize,
    together: usize,
    takers: usize,
    alone: usize,
}

impl Left {
    fn is_over(&self) -> bool {
        self.pollers == 0 && self.together == 0 && self.alone == 0
    }

    fn is_at_takers(&self) -> bool {
        self.pollers == 0 && self.together == 0 && self.takers > 0
    }

    /// No more than there are now: those that come later wait for something later.
    fn bound(&mut self, waiters: &Waiters) {
        self.pollers = self.pollers.min(waiters.pollers.len());
        self.together = self.together.min(waiters.together.len());
        self.takers = self.takers.min(waiters.takers_len());
        self.alone = self.alone.min(waiters.alone.len() + self.takers);
    }
}

/// One that was taken out to be woken outside the lock.
enum Woken {
    Thread(ThreadRef),
    Poller(Arc<dyn Wake>),
    Taker(Arc<dyn Wake>),
}

impl Woken {
    fn wake(self) {
        match self {
            // One that something else has woken passes the wake-up on (see `Hook::dequeue`).
            Woken::Thread(thread) => {
                thread.wake();
            }
            Woken::Poller(waker) | Woken::Taker(waker) => waker.wake(),
        }
    }
}

impl Waiters {
    fn len(&self) -> usize {
        self.together.len() + self.alone.len() + self.pollers.len() + self.takers_len()
    }

    fn takers_len(&self) -> usize {
        self.takers.as_ref().map_or(0, |takers| takers.len())
    }

    /// The next one to wake. Takers come before threads that wait alone; whether one took it is for the caller to count.
    fn next(&mut self, left: &mut Left) -> Option<Woken> {
        if let Some(waker) = self.pollers.next(&mut left.pollers) {
            return Some(Woken::Poller(waker));
        }
        if left.together == 0
            && left.alone > 0
            && let Some(takers) = &mut self.takers
            && let Some(waker) = takers.next(&mut left.takers)
        {
            return Some(Woken::Taker(waker));
        }
        let list = if left.together > 0 {
            left.together -= 1;
            &mut self.together
        } else if left.alone > 0 {
            left.alone -= 1;
            &mut self.alone
        } else {
            return None;
        };
        list.pop_front().map(Woken::Thread)
    }
}

impl Drop for WaitQueue {
    /// In steps: one poll(2) may have left a poller for each entry of its set.
    fn drop(&mut self) {
        let waiters = self.waiters.get_mut();
        waiters.pollers.clear_in_steps();
        if let Some(takers) = &mut waiters.takers {
            takers.clear_in_steps();
        }
    }
}

#[cfg(test)]
mod tests;

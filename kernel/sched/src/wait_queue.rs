//! Wait queues: threads (and pollers) that wait for a condition on some object.
//!
//! Change the object first, then wake. Waking is allowed from interrupt handlers and with spin locks
//! held; waiting is not. An empty queue costs a waker one locked instruction.
//!
//! Waiting allocates nothing: the links are in the threads. Wakers take threads out under the queue's lock and
//! wake them after it, or the CPU that runs them would start with spinning on it. A condition that is not
//! met must not wake the queue that it is waited for on: its thread would never sleep (builds with checks panic).

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::Result;
use collections::try_arc;
use machine::intrusive::{Link, List};
use machine::sync::{IrqGuard, IrqLock};

use crate::handshake::Occupied;
use crate::park::{Hook, Sleep, park_with};
use crate::thread::{Thread, ThreadRef};

/// How many are taken out under the lock at a time.
const BATCH: usize = 8;
/// How many pollers are looked at for ones that are over when another one comes.
const SWEEP: usize = 16;

/// Something that is told about each wake-up of a queue, such as an epoll item.
pub trait Wake: Send + Sync {
    /// The queue was woken. Runs where the queue is woken, which may be in interrupt context or with a
    /// spin lock held: it may set flags, take [`IrqLock`]s of its own and wake other queues, nothing else.
    fn wake(&self);
}

/// Keeps a [`Wake`] registered; dropping it unregisters.
#[must_use = "dropping a registration unregisters it"]
pub struct Registration {
    poller: Arc<Poller>,
    /// Keeps alive what the queue knows weakly.
    _waker: Arc<dyn Wake>,
}

impl core::fmt::Debug for Registration {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Registration({:p})", Arc::as_ptr(&self.poller))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.poller.is_over.store(true, Ordering::Release);
    }
}

/// What a queue has of a registration. It may be there a while after the registration is dropped.
struct Poller {
    waker: Weak<dyn Wake>,
    is_over: AtomicBool,
    link: Link<Poller>,
}

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
    pollers: List<Poller>,
    /// How many pollers there may be before those that are over are thrown out, and how many are still to be
    /// looked at for that: a few at a time, with interrupts off.
    sweep_at: usize,
    to_sweep: usize,
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
                pollers: List::new(),
                sweep_at: 0,
                to_sweep: 0,
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

    /// Wakes every thread that waits together with others, one of those that wait alone, and tells every
    /// poller.
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
            self.wake_batch(waiters, first, &mut left);
        }
    }

    /// Wakes `first` and some more, which are taken out together.
    #[cold]
    fn wake_batch(&self, mut waiters: IrqGuard<'_, Waiters>, first: Woken, left: &mut Left) {
        let mut batch = [const { None }; BATCH];
        for slot in &mut batch {
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
        let poller = try_arc(Poller {
            waker: Arc::downgrade(&waker),
            is_over: AtomicBool::new(false),
            link: Link::new(),
        })?;
        let mut waiters = self.waiters.lock();
        waiters.sweep();
        // A new link is free.
        let _ = waiters
            .pollers
            .push_back(poller.clone(), |poller| &poller.link);
        self.occupied.count_up(waiters.len());
        drop(waiters);
        Ok(Registration {
            poller,
            _waker: waker,
        })
    }

    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

/// How many a wake-up still has to wake.
struct Left {
    pollers: usize,
    together: usize,
    alone: usize,
}

impl Left {
    fn is_over(&self) -> bool {
        self.pollers == 0 && self.together == 0 && self.alone == 0
    }

    /// No more than there are now: those that come later wait for something later.
    fn bound(&mut self, waiters: &Waiters) {
        self.pollers = self.pollers.min(waiters.pollers.len());
        self.together = self.together.min(waiters.together.len());
        self.alone = self.alone.min(waiters.alone.len());
    }
}

/// One that was taken out to be woken outside the lock.
enum Woken {
    Thread(ThreadRef),
    Poller(Arc<dyn Wake>),
}

impl Woken {
    fn wake(self) {
        match self {
            // One that something else has woken passes the wake-up on (see `Hook::dequeue`).
            Woken::Thread(thread) => {
                thread.wake();
            }
            Woken::Poller(waker) => waker.wake(),
        }
    }
}

impl Waiters {
    fn len(&self) -> usize {
        self.together.len() + self.alone.len() + self.pollers.len()
    }

    /// The next one to wake. Pollers stay and go round: when as many were told as there were when the wake-up
    /// began, each was told after that.
    fn next(&mut self, left: &mut Left) -> Option<Woken> {
        if self.pollers.len() == 1
            && left.pollers == 1
            && let Some(waker) = self.pollers.front().and_then(Poller::live)
        {
            left.pollers = 0;
            return Some(Woken::Poller(waker));
        }
        while left.pollers > 0 {
            left.pollers -= 1;
            let poller = self.pollers.pop_front()?;
            if let Some(waker) = poller.live() {
                // Its link was in this list just now, so it is free.
                let _ = self.pollers.push_back(poller, |poller| &poller.link);
                return Some(Woken::Poller(waker));
            }
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

    /// Throws out pollers that are over, when there are many by now.
    fn sweep(&mut self) {
        if self.to_sweep == 0 {
            if self.pollers.len() < self.sweep_at {
                return;
            }
            self.to_sweep = self.pollers.len();
        }
        for _ in 0..self.to_sweep.min(SWEEP) {
            self.to_sweep -= 1;
            let Some(poller) = self.pollers.pop_front() else {
                break;
            };
            if !poller.is_over.load(Ordering::Acquire) {
                // Its link was in this list just now, so it is free.
                let _ = self.pollers.push_back(poller, |poller| &poller.link);
            }
        }
        if self.to_sweep == 0 {
            self.sweep_at = 2 * self.pollers.len() + 4;
        }
    }
}

impl Drop for WaitQueue {
    /// In steps: one poll(2) may have left a poller for each entry of its set.
    fn drop(&mut self) {
        let pollers = &mut self.waiters.get_mut().pollers;
        while pollers.len() > SWEEP {
            drop(pollers.pop_front());
            crate::thread::cond_resched();
        }
    }
}

impl Poller {
    fn live(&self) -> Option<Arc<dyn Wake>> {
        if self.is_over.load(Ordering::Acquire) {
            None
        } else {
            self.waker.upgrade()
        }
    }
}

/// One wait on a queue.
struct Entry<'a> {
    queue: &'a WaitQueue,
    is_alone: bool,
}

impl Hook for Entry<'_> {
    fn enqueue(&self, thread: &ThreadRef, level: usize, was_woken: bool) {
        let mut waiters = self.queue.waiters.lock();
        let thread = thread.clone();
        // The link is free: this level of this thread waits here alone.
        let _ = if !self.is_alone {
            waiters
                .together
                .push_back(thread, |thread| thread.wait_link(level))
        } else if was_woken {
            waiters
                .alone
                .push_front(thread, |thread| thread.wait_link(level))
        } else {
            waiters
                .alone
                .push_back(thread, |thread| thread.wait_link(level))
        };
        self.queue.occupied.count_up(waiters.len());
    }

    fn dequeue(&self, thread: &Thread, level: usize) -> bool {
        let link = thread.wait_link(level);
        if !link.is_linked() {
            return false;
        }
        let mut waiters = self.queue.waiters.lock();
        let list = if self.is_alone {
            &mut waiters.alone
        } else {
            &mut waiters.together
        };
        let found = list.remove(link);
        self.queue.occupied.count_down(waiters.len());
        drop(waiters);
        found.is_some()
    }

    fn pass_on(&self) {
        if self.is_alone {
            self.queue.wake_one();
        }
    }

    #[cfg(any(feature = "checks", debug_assertions))]
    fn address(&self) -> usize {
        self.queue.address()
    }
}

#[cfg(test)]
mod tests;

//! Wait queues: threads (and pollers) that wait for a condition on some object.
//!
//! Change the object first, then wake. Waking is allowed from interrupt handlers and with spin locks
//! held; waiting is not. An empty queue costs a waker one locked instruction.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::Result;
use machine::sync::IrqLock;

use crate::park::{Hook, Sleep, park_with};
use crate::thread::{Thread, ThreadRef};

/// Something that is told about each wake-up of a queue, such as an epoll item.
pub trait Wake: Send + Sync {
    /// The queue was woken. Runs in interrupt context with the queue's lock held: it may set
    /// flags, take [`IrqLock`]s of its own and wake other queues, nothing else. A lock that it takes
    /// must not be held while calling [`WaitQueue::register`].
    fn wake(&self);
}

/// Keeps a [`Wake`] registered; dropping it unregisters.
#[must_use = "dropping a registration unregisters it"]
pub struct Registration(Arc<Registered>);

impl core::fmt::Debug for Registration {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Registration({:p})", Arc::as_ptr(&self.0))
    }
}

struct Registered(Arc<dyn Wake>);

/// A queue of waiting threads and registered pollers.
#[derive(Default)]
pub struct WaitQueue {
    /// Entries in `waiters`, so that waking an empty queue takes no lock.
    occupied: AtomicUsize,
    waiters: IrqLock<Waiters>,
}

#[derive(Default)]
struct Waiters {
    /// In order of arrival. Most queues never see more than one thread: it needs no allocation.
    first: Option<ThreadRef>,
    more: Vec<ThreadRef>,
    pollers: Vec<Weak<Registered>>,
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "WaitQueue({} waiting)",
            self.occupied.load(Ordering::Relaxed)
        )
    }
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            occupied: AtomicUsize::new(0),
            waiters: IrqLock::new(Waiters {
                first: None,
                more: Vec::new(),
                pollers: Vec::new(),
            }),
        }
    }

    /// Sleeps, deaf to signals, until `condition` returns something.
    pub fn wait_until<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        loop {
            // Neither a signal nor a deadline can end this sleep, so the first round returns.
            if let Ok(value) = park_with(self, Sleep::Uninterruptible, None, &mut condition) {
                return value;
            }
        }
    }

    /// Sleeps until `condition` returns something or a signal is to be delivered.
    ///
    /// # Errors
    /// `ERESTARTSYS` when interrupted.
    pub fn wait_interruptible<R>(&self, condition: impl FnMut() -> Option<R>) -> Result<R> {
        park_with(self, Sleep::Interruptible, None, condition)
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
        park_with(self, Sleep::Interruptible, deadline_ns, condition)
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
        park_with(self, Sleep::Uninterruptible, Some(deadline_ns), condition)
    }

    /// Wakes the thread that has waited longest, and tells every poller.
    pub fn wake_one(&self) {
        if self.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        waiters.tell_pollers();
        while let Some(thread) = waiters.pop() {
            if thread.wake() {
                break;
            }
        }
        self.recount(&waiters);
    }

    /// Wakes every thread and tells every poller.
    pub fn wake_all(&self) {
        if self.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        waiters.tell_pollers();
        if let Some(thread) = waiters.first.take() {
            thread.wake();
        }
        for thread in waiters.more.drain(..) {
            thread.wake();
        }
        self.recount(&waiters);
    }

    /// Tells `waker` of each wake-up until the registration is dropped.
    pub fn register(&self, waker: Arc<dyn Wake>) -> Registration {
        let registered = Arc::new(Registered(waker));
        let mut waiters = self.waiters.lock();
        if waiters.pollers.len() == waiters.pollers.capacity() {
            waiters.pollers.retain(|poller| poller.strong_count() > 0);
        }
        waiters.pollers.push(Arc::downgrade(&registered));
        self.recount(&waiters);
        Registration(registered)
    }

    /// Whether nobody waits. A locked read: ordered after the caller's change of the condition.
    /// (A plain read could be ahead of it, and a wake-up would be lost.)
    fn is_empty(&self) -> bool {
        self.occupied
            .compare_exchange(0, 0, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn recount(&self, waiters: &Waiters) {
        let count =
            usize::from(waiters.first.is_some()) + waiters.more.len() + waiters.pollers.len();
        self.occupied.swap(count, Ordering::SeqCst);
    }
}

impl Waiters {
    fn tell_pollers(&mut self) {
        self.pollers.retain(|poller| match poller.upgrade() {
            Some(poller) => {
                poller.0.wake();
                true
            }
            None => false,
        });
    }

    fn push(&mut self, thread: ThreadRef) {
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(thread);
        } else {
            self.more.push(thread);
        }
    }

    fn pop(&mut self) -> Option<ThreadRef> {
        self.first
            .take()
            .or_else(|| (!self.more.is_empty()).then(|| self.more.remove(0)))
    }

    fn remove(&mut self, thread: &Thread) -> bool {
        let is_it = |entry: &ThreadRef| core::ptr::eq(Arc::as_ptr(entry), thread);
        if self.first.as_ref().is_some_and(is_it) {
            self.first = None;
            return true;
        }
        let Some(at) = self.more.iter().position(is_it) else {
            return false;
        };
        self.more.remove(at);
        true
    }
}

impl Hook for WaitQueue {
    fn enqueue(&self, thread: &ThreadRef) {
        let mut waiters = self.waiters.lock();
        waiters.push(thread.clone());
        self.recount(&waiters);
    }

    fn dequeue(&self, thread: &Thread) -> bool {
        let mut waiters = self.waiters.lock();
        let found = waiters.remove(thread);
        self.recount(&waiters);
        found
    }

    fn pass_on(&self) {
        self.wake_one();
    }
}

#[cfg(test)]
mod tests;

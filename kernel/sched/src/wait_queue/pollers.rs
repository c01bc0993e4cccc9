//! Those that are told of a queue's wake-ups without waiting in it: [`Wake`], its [`Registration`], and the list that a
//! queue has of them.
//!
//! Locking: a list is under its queue's lock. A dropped registration only sets a flag, so that dropping one is allowed
//! anywhere; the list throws those that are over out as it goes round, and when it has grown.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Result;
use collections::try_arc;
use machine::intrusive::{Link, List};

/// How many are looked at for ones that are over when another one comes.
const SWEEP: usize = 16;

/// Something that is told about each wake-up of a queue, such as an epoll item.
pub trait Wake: Send + Sync {
    /// The queue was woken. Runs where the queue is woken, which may be in interrupt context or with a
    /// spin lock held: it may set flags, take [`IrqLock`](machine::sync::IrqLock)s of its own and wake other queues, nothing else.
    fn wake(&self);

    /// As `wake`, for one that was registered to take wake-ups ([`WaitQueue::register_taker`]): whether it has taken this
    /// one, so that no other need be told.
    ///
    /// [`WaitQueue::register_taker`]: super::WaitQueue::register_taker
    fn wake_to_take(&self) -> bool {
        self.wake();
        true
    }
}

/// Keeps a [`Wake`] registered; dropping it unregisters.
#[must_use = "dropping a registration unregisters it"]
pub struct Registration {
    poller: Arc<Poller>,
    /// Keeps alive what the queue knows weakly.
    _waker: Arc<dyn Wake>,
}

impl Registration {
    pub(super) fn new(poller: Arc<Poller>, waker: Arc<dyn Wake>) -> Self {
        Self {
            poller,
            _waker: waker,
        }
    }
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
pub(super) struct Poller {
    waker: Weak<dyn Wake>,
    is_over: AtomicBool,
    link: Link<Poller>,
}

impl Poller {
    pub(super) fn new(waker: &Arc<dyn Wake>) -> Result<Arc<Poller>> {
        let poller = try_arc(Poller {
            waker: Arc::downgrade(waker),
            is_over: AtomicBool::new(false),
            link: Link::new(),
        })?;
        Ok(poller)
    }

    fn live(&self) -> Option<Arc<dyn Wake>> {
        if self.is_over.load(Ordering::Acquire) {
            None
        } else {
            self.waker.upgrade()
        }
    }
}

/// A queue's list of them.
#[derive(Default)]
pub(super) struct Pollers {
    list: List<Poller>,
    /// How many there may be before those that are over are thrown out, and how many are still to be
    /// looked at for that: a few at a time, with interrupts off.
    sweep_at: usize,
    to_sweep: usize,
}

impl Pollers {
    pub(super) const fn new() -> Self {
        Self {
            list: List::new(),
            sweep_at: 0,
            to_sweep: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Adds a new one.
    pub(super) fn add(&mut self, poller: Arc<Poller>) {
        self.sweep();
        // A new link is free.
        let _ = self.list.push_back(poller, |poller| &poller.link);
    }

    /// The next of `left` to be told. They stay and go round: when as many were told as there were when the wake-up
    /// began, each was told after that.
    pub(super) fn next(&mut self, left: &mut usize) -> Option<Arc<dyn Wake>> {
        if self.list.len() == 1
            && *left == 1
            && let Some(waker) = self.list.front().and_then(Poller::live)
        {
            *left = 0;
            return Some(waker);
        }
        while *left > 0 {
            *left -= 1;
            let poller = self.list.pop_front()?;
            if let Some(waker) = poller.live() {
                self.put_back(poller);
                return Some(waker);
            }
        }
        None
    }

    /// Puts one back that was in this list just now, so that its link is free.
    fn put_back(&mut self, poller: Arc<Poller>) {
        let _ = self.list.push_back(poller, |poller| &poller.link);
    }

    /// Throws out those that are over, when there are many by now.
    fn sweep(&mut self) {
        if self.to_sweep == 0 {
            if self.list.len() < self.sweep_at {
                return;
            }
            self.to_sweep = self.list.len();
        }
        for _ in 0..self.to_sweep.min(SWEEP) {
            self.to_sweep -= 1;
            let Some(poller) = self.list.pop_front() else {
                break;
            };
            if !poller.is_over.load(Ordering::Acquire) {
                self.put_back(poller);
            }
        }
        if self.to_sweep == 0 {
            self.sweep_at = 2 * self.list.len() + 4;
        }
    }

    /// Drops all, some at a time: one poll(2) may have left one for each entry of its set.
    pub(super) fn clear_in_steps(&mut self) {
        while self.list.len() > SWEEP {
            drop(self.list.pop_front());
            crate::thread::cond_resched();
        }
    }
}

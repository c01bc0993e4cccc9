//! Who waits for a lock that is taken, and who gets it next.
//!
//! **Order.** Waiters are woken first come, first served, but a lock that is free goes to whoever asks: a thread
//! that runs need not wait for one that has to be woken. One that was woken and came too late keeps its place
//! at the head of the queue, and after [`PATIENCE`] such losses the lock is reserved for it. A writer
//! reserves at once when it has to wait, so readers do not hold it off; a reader that has waited for
//! [`READER_PATIENCE_NS`] passes by a writer that only waits, so that neither starves.

use core::sync::atomic::{AtomicUsize, Ordering};

use machine::sync::{LockCell, ReadHold, WriteHold};

use crate::park::Sleep;
use crate::wait_queue::WaitQueue;

/// How often a waiter that was woken may find the lock taken again.
pub(super) const PATIENCE: usize = 2;
/// How long a reader lets a writer that waits go first.
const READER_PATIENCE_NS: u64 = 10_000_000;

/// Who waits for a lock: readers together, those who want it alone one by one.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) count: AtomicUsize,
    pub(super) queue: WaitQueue,
}

impl Waiters {
    pub(super) const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            queue: WaitQueue::new(),
        }
    }

    #[cold]
    pub(super) fn wait_alone<'a, T: ?Sized>(
        &self,
        cell: &'a LockCell<T>,
        patience: usize,
    ) -> WriteHold<'a, T> {
        self.begin();
        // The first two looks are before and after it joins the queue.
        let mut losses = 0;
        let mut has_reserved = false;
        let hold = self.queue.wait_until_alone(|| {
            losses += 1;
            cell.set_waited_for();
            if losses > patience + 1 {
                cell.set_reserved();
                has_reserved = true;
            }
            cell.try_write(has_reserved)
        });
        if has_reserved {
            // Another one that has lost as often sets it again at its next look.
            cell.clear_reserved();
        }
        self.end(cell);
        hold
    }

    #[cold]
    pub(super) fn wait_shared<'a, T: ?Sized + Sync>(
        &self,
        cell: &'a LockCell<T>,
    ) -> ReadHold<'a, T> {
        self.begin();
        let mut deadline = crate::clock::monotonic_ns() + READER_PATIENCE_NS;
        let mut is_patient = true;
        let hold = loop {
            let look = || {
                cell.set_waited_for();
                cell.try_read(!is_patient)
            };
            match self
                .queue
                .wait(Sleep::Uninterruptible, is_patient.then_some(deadline), look)
            {
                Ok(hold) => break hold,
                Err(_) => is_patient = false,
            }
            deadline = u64::MAX;
        };
        self.end(cell);
        hold
    }

    fn begin(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The waiter holds the lock. Whoever waits from now on says so itself, before it looks.
    fn end<T: ?Sized>(&self, cell: &LockCell<T>) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            cell.clear_waited_for();
            if self.count.load(Ordering::SeqCst) > 0 {
                // It came in between, and may have said so too early.
                cell.set_waited_for();
            }
        }
    }
}

//! What an epoll instance watches, and the list of what may be ready.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::{Map, Vec, VecDeque};
use machine::sync::{IrqLock, SpinLock};
use sched::{WaitQueue, Wake};

use super::{Epoll, Interest};
use crate::file::File;
use crate::poll::{Events, PollTable};

#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) by_number: Map<u64, Item>,
    /// Descriptor and description, as the man page keys them.
    pub(super) by_file: Map<(i32, u64), u64>,
    pub(super) next: u64,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: (i32, u64),
    pub(super) file: Weak<File>,
    pub(super) interest: Interest,
    /// A `ONESHOT` that has fired.
    pub(super) is_spent: bool,
    pub(super) waker: Arc<ItemWaker>,
    /// Keeps the registrations.
    pub(super) _table: PollTable,
}

/// Numbers of the items that may be ready, each at most once.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) list: IrqLock<VecDeque<u64>>,
    /// Threads in epoll_wait(2).
    pub(super) queue: WaitQueue,
    /// Who polls the instance itself: told what comes new, not what epoll_wait(2) leaves on the list.
    pub(super) pollers: WaitQueue,
    /// The instances that watch this one; a change is made with [`super::NESTING`] held, or removes.
    pub(super) outer: SpinLock<Vec<Weak<Ready>>>,
}

impl Ready {
    /// `outer` watches this instance from now on.
    pub(super) fn add_outer(&self, outer: &Arc<Ready>) -> Result<()> {
        let mut all = self.outer.lock();
        if all.len() == all.capacity() {
            all.retain(|known| known.strong_count() > 0);
        }
        Ok(all.try_push(Arc::downgrade(outer))?)
    }

    /// `outer` watches it no more, or once less.
    pub(super) fn remove_outer(&self, outer: &Arc<Ready>) {
        let mut all = self.outer.lock();
        if let Some(at) = all
            .iter()
            .position(|known| core::ptr::eq(known.as_ptr(), Arc::as_ptr(outer)))
        {
            all.swap_remove(at);
        }
    }
}

#[derive(Debug)]
pub(super) struct ItemWaker {
    pub(super) number: u64,
    pub(super) is_listed: AtomicBool,
    pub(super) ready: Arc<Ready>,
}

impl ItemWaker {
    /// Puts the item on the ready list unless it is there.
    pub(super) fn list(&self) {
        let mut list = self.ready.list.lock();
        if !self.is_listed.swap(true, Ordering::AcqRel)
            && list.push_back_within_capacity(self.number).is_err()
        {
            // Room is reserved for each item, so this does not happen; it could be listed again.
            self.is_listed.store(false, Ordering::Release);
        }
    }
}

impl Wake for ItemWaker {
    fn wake(&self) {
        self.list();
        self.ready.queue.wake_one();
        self.ready.pollers.wake_all();
    }

    /// Taken if a thread is in epoll_wait(2). If none is, the item is on the list all the same, and another instance's
    /// thread need not wait for this one's.
    fn wake_to_take(&self) -> bool {
        let is_waited_for = self.ready.queue.is_waited_for();
        self.wake();
        is_waited_for
    }
}

impl Item {
    /// The wanted events of its file that are there now.
    pub(super) fn poll(&self, file: &File) -> Events {
        if self.is_spent {
            return Events::empty();
        }
        file.poll(None) & (self.interest.events | Events::ALWAYS)
    }

    /// As [`Self::poll`]; nothing when the file is gone.
    pub(super) fn poll_if_open(&self) -> Events {
        let file = self.file.upgrade();
        file.map_or(Events::empty(), |file| self.poll(&file))
    }
}

impl Items {
    pub(super) fn find(&self, fd: i32, file: &File) -> Result<u64> {
        self.by_file
            .get(&(fd, file.lock_id()))
            .copied()
            .ok_or(Errno::ENOENT)
    }

    /// Enters an item; on failure nothing is.
    pub(super) fn add(&mut self, number: u64, item: Item) -> Result<()> {
        let key = item.key;
        self.by_file.try_insert(key, number)?;
        if self.by_number.try_insert(number, item).is_err() {
            self.by_file.remove(&key);
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Item> {
        let item = self.by_number.remove(&number)?;
        self.by_file.remove(&item.key);
        let file = item.file.upgrade();
        if let Some(inner) = file.as_ref().and_then(|file| file.downcast::<Epoll>()) {
            inner.ready.remove_outer(&item.waker.ready);
        }
        Some(item)
    }

    /// Removes items of descriptor `fd` whose file was closed.
    pub(super) fn forget_closed(&mut self, fd: i32) {
        let mut from = 0;
        while let Some(((_, lock_id), number)) =
            self.by_file.range((fd, from)..=(fd, u64::MAX)).next()
        {
            let (lock_id, number) = (*lock_id, *number);
            let is_closed = self
                .by_number
                .get(&number)
                .is_some_and(|item| item.file.strong_count() == 0);
            if is_closed {
                self.remove(number);
            }
            let Some(next) = lock_id.checked_add(1) else {
                return;
            };
            from = next;
        }
    }
}

//! What an epoll instance watches, and the list of what may be ready.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use machine::sync::{IrqLock, SpinLock};
use sched::{WaitQueue, Wake};

use super::{Epoll, Interest};
use crate::file::File;
use crate::poll::{Events, PollTable};

#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) by_number: BTreeMap<u64, Item>,
    /// Descriptor and description, as the man page keys them.
    pub(super) by_file: BTreeMap<(i32, u64), u64>,
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
    /// How many instances watch each other above this one.
    pub(super) fn height(&self) -> usize {
        let outer: Vec<Arc<Ready>> = self.outer.lock().iter().filter_map(Weak::upgrade).collect();
        outer
            .iter()
            .map(|outer| outer.height() + 1)
            .max()
            .unwrap_or(0)
    }

    /// `outer` watches this instance from now on.
    pub(super) fn add_outer(&self, outer: &Arc<Ready>) {
        let mut all = self.outer.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(outer));
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
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            list.push_back(self.number);
        }
    }
}

impl Wake for ItemWaker {
    fn wake(&self) {
        self.list();
        self.ready.queue.wake_all();
        self.ready.pollers.wake_all();
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
        let of_fd: Vec<u64> = self
            .by_file
            .range((fd, 0)..=(fd, u64::MAX))
            .map(|(_, number)| *number)
            .collect();
        for number in of_fd {
            let is_closed = self
                .by_number
                .get(&number)
                .is_some_and(|item| item.file.strong_count() == 0);
            if is_closed {
                self.remove(number);
            }
        }
    }
}

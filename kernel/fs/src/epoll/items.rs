//! What an epoll instance watches, and the list of what may be ready.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use machine::sync::IrqLock;
use sched::{WaitQueue, Wake};

use super::Interest;
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
    pub(super) queue: WaitQueue,
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
    }
}

impl Item {
    /// The wanted events that are there now; `None` when the file is gone.
    pub(super) fn poll(&self) -> Option<Events> {
        let file = self.file.upgrade()?;
        if self.is_spent {
            return Some(Events::empty());
        }
        Some(file.poll(None) & (self.interest.events | Events::ALWAYS))
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

//! What an epoll instance watches, and the list of what may be ready.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::{Map, Vec, VecDeque};
use machine::sync::{IrqLock, SpinLock};
use sched::{DropLater, WaitQueue, Wake};

use super::{Epoll, Interest};
use crate::file::File;
use crate::poll::{Events, PollTable};

/// So many numbers of items that are gone may be on the ready list beside as many as there are items.
const FEW_STALE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) by_number: Map<u64, Item>,
    /// Descriptor and description, as the man page keys them.
    pub(super) by_file: Map<(i32, u64), u64>,
    pub(super) next: u64,
    /// Numbers on the ready list of items that are gone.
    stale: usize,
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

/// Who is told of wake-ups. An interrupt handler that tells it may be the last to have it, and as much may hang on it as
/// an instance has items and pollers.
#[derive(Debug)]
pub(super) struct Ready(DropLater<ReadyState>);

#[derive(Debug, Default)]
pub(super) struct ReadyState {
    /// Numbers of the items that may be ready, each at most once.
    pub(super) list: IrqLock<VecDeque<u64>>,
    /// Threads in epoll_wait(2).
    pub(super) queue: WaitQueue,
    /// Who polls the instance itself: told what comes new, not what epoll_wait(2) leaves on the list.
    pub(super) pollers: WaitQueue,
    /// The instances that watch this one; a change is made with [`super::NESTING`] held, or removes.
    pub(super) outer: SpinLock<Vec<Weak<Ready>>>,
}

impl core::ops::Deref for Ready {
    type Target = ReadyState;
    fn deref(&self) -> &ReadyState {
        &self.0
    }
}

impl Ready {
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(DropLater::new(ReadyState::default())?))
    }

    /// Room for `count` numbers on the list, so that wake-ups need no memory.
    fn reserve(&self, count: usize) -> Result<()> {
        if self.list.lock().capacity() >= count {
            return Ok(());
        }
        let mut larger = VecDeque::new();
        larger.try_reserve(count.next_power_of_two().max(8))?;
        let mut list = self.list.lock();
        for number in list.drain(..) {
            // There is room for all that can be on it.
            let _ = larger.push_back_within_capacity(number);
        }
        let old = core::mem::replace(&mut *list, larger);
        drop(list);
        drop(old);
        Ok(())
    }

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
    /// Lists nothing from now on; whether its number is on the list.
    fn retire(&self) -> bool {
        let _list = self.ready.list.lock();
        self.is_listed.swap(true, Ordering::AcqRel)
    }

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

    /// A number for a new item, with room for it on the list of `ready`.
    pub(super) fn new_number(&mut self, ready: &Ready) -> Result<u64> {
        if self.stale > self.by_number.len() + FEW_STALE {
            self.throw_out_stale(ready);
        }
        ready.reserve(self.by_number.len() + self.stale + 1)?;
        self.next += 1;
        Ok(self.next)
    }

    /// Takes the numbers of items that are gone off the list: else those that come and go without a look at them would
    /// fill it.
    fn throw_out_stale(&mut self, ready: &Ready) {
        let len = ready.list.lock().len();
        for _ in 0..len {
            let Some(number) = ready.list.lock().pop_front() else {
                break;
            };
            if self.is_there(number) {
                // Just there, and no other item has its place: whoever is listed meanwhile has room of their own.
                let _ = ready.list.lock().push_back_within_capacity(number);
            }
            sched::cond_resched();
        }
    }

    /// Whether a number that was taken off the list is an item's.
    pub(super) fn is_there(&mut self, number: u64) -> bool {
        let is_there = self.by_number.contains_key(&number);
        self.stale = self.stale.saturating_sub(usize::from(!is_there));
        is_there
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

    /// The waker of an item that is taken out, or was not entered after all, lists nothing from now on. Once.
    pub(super) fn retire(&mut self, waker: &ItemWaker) {
        self.stale += usize::from(waker.retire());
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Item> {
        let item = self.by_number.remove(&number)?;
        self.by_file.remove(&item.key);
        self.retire(&item.waker);
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
            sched::cond_resched();
        }
    }
}

//! epoll(7): a set of files to watch, and the list of those that may be ready.
//!
//! Every watched file has an [`Item`] that is registered with the file's wait queues. A wake-up puts the
//! item's number on the ready list; epoll_wait takes numbers off it, asks the files, and puts
//! level-triggered ones that are ready back.
//!
//! Locking: `items` (sleeping) is held while files are asked; `Ready::list` is taken by wake-ups in
//! interrupt context, so it never allocates there: room is reserved when an item is added.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use memory::pressure;
use sched::{Mutex, Wake};

use crate::anonymous::AnonymousInode;
use crate::cred::Credentials;
use crate::file::File;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::poll::{Events, PollTable};

mod items;
#[cfg(test)]
mod tests;

use items::{Item, ItemWaker, Items, Ready};

/// How deep epoll instances may watch each other.
const NESTING_MAX: usize = 4;
/// Events that one call gives at most; those behind them are given by the next.
const BATCH_MAX: usize = 1024;

/// Held from the look at who watches whom to the change of it.
static NESTING: Mutex<()> = Mutex::new(());

bitflags::bitflags! {
    /// How an interest is treated, beside the events (epoll_ctl(2)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Mode: u32 {
        /// `EPOLLEXCLUSIVE`: all waiters are woken nevertheless, which the flag allows.
        const EXCLUSIVE = 1 << 28;
        /// `EPOLLWAKEUP`: nothing here suspends.
        const WAKEUP = 1 << 29;
        /// `EPOLLONESHOT`.
        const ONESHOT = 1 << 30;
        /// `EPOLLET`.
        const EDGE = 1 << 31;
    }
}

/// What to watch for, and what to say then (`struct epoll_event`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Events wanted.
    pub events: Events,
    /// Modes.
    pub mode: Mode,
    /// User data.
    pub data: u64,
}

impl Interest {
    /// From the words of `struct epoll_event`; bits without meaning are ignored.
    #[must_use]
    pub fn new(events: u32, data: u64) -> Self {
        Self {
            events: Events::from_bits_truncate(events),
            mode: Mode::from_bits_truncate(events),
            data,
        }
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    items: Mutex<Items>,
    ready: Arc<Ready>,
}

impl Epoll {
    /// A new instance as an open file (epoll_create1(2)).
    #[must_use]
    pub fn create(credentials: &Arc<Credentials>) -> Arc<File> {
        let this = Arc::new(Self {
            items: Mutex::new(Items::default()),
            ready: Arc::default(),
        });
        File::anonymous(
            AnonymousInode::file_like("[eventpoll]"),
            this,
            OpenFlags::RDWR,
            credentials,
        )
    }

    /// `EPOLL_CTL_ADD`.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a file that cannot be waited for, `EINVAL` for itself, `ELOOP` for a cycle or too deep nesting.
    pub fn add(&self, fd: i32, file: &Arc<File>, interest: Interest) -> Result<()> {
        if !file.ops().is_pollable() {
            return Err(Errno::EPERM);
        }
        pressure::ensure_headroom()?;
        let inner = file.downcast::<Epoll>();
        let _nesting = inner.map(|_| NESTING.lock());
        if let Some(inner) = inner {
            self.check_nesting(inner)?;
            if interest.mode.contains(Mode::EXCLUSIVE) {
                return Err(Errno::EINVAL);
            }
        }
        let mut items = self.items.lock();
        let key = (fd, file.lock_id());
        if items.by_file.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        items.forget_closed(fd);
        let number = items.next;
        items.next += 1;
        self.reserve(items.by_number.len() + 1)?;
        let waker = Arc::new(ItemWaker {
            number,
            is_listed: AtomicBool::new(false),
            ready: self.ready.clone(),
        });
        let mut table = PollTable::new(waker.clone());
        let now = file.poll(Some(&mut table)) & (interest.events | Events::ALWAYS);
        let item = Item {
            key,
            file: Arc::downgrade(file),
            interest,
            is_spent: false,
            waker: waker.clone(),
            _table: table,
        };
        items.by_number.insert(number, item);
        items.by_file.insert(key, number);
        drop(items);
        if let Some(inner) = inner {
            inner.ready.add_outer(&self.ready);
        }
        if !now.is_empty() {
            waker.wake();
        }
        Ok(())
    }

    /// Room for `count` numbers on the ready list, so that wake-ups need no memory.
    fn reserve(&self, count: usize) -> Result<()> {
        if self.ready.list.lock().capacity() >= count {
            return Ok(());
        }
        let mut larger = VecDeque::new();
        larger
            .try_reserve(count.next_power_of_two().max(8))
            .map_err(|_| Errno::ENOMEM)?;
        let mut list = self.ready.list.lock();
        larger.extend(list.drain(..));
        let old = core::mem::replace(&mut *list, larger);
        drop(list);
        drop(old);
        Ok(())
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// `ENOENT`, `EINVAL` for exclusive interests, which cannot be changed.
    pub fn modify(&self, fd: i32, file: &Arc<File>, interest: Interest) -> Result<()> {
        let mut items = self.items.lock();
        let number = items.find(fd, file)?;
        let item = items.by_number.get_mut(&number).ok_or(Errno::ENOENT)?;
        let exclusive = interest.mode | item.interest.mode;
        if exclusive.contains(Mode::EXCLUSIVE) {
            return Err(Errno::EINVAL);
        }
        item.interest = interest;
        item.is_spent = false;
        let is_ready = item.poll().is_some_and(|events| !events.is_empty());
        let waker = item.waker.clone();
        drop(items);
        if is_ready {
            waker.wake();
        }
        Ok(())
    }

    /// `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn remove(&self, fd: i32, file: &Arc<File>) -> Result<()> {
        let mut items = self.items.lock();
        let number = items.find(fd, file)?;
        let removed = items.remove(number);
        drop(items);
        drop(removed);
        Ok(())
    }

    /// Waits until something is ready or `deadline_ns`, and gives up to `max` events with their user data.
    /// Nothing at the deadline.
    ///
    /// # Errors
    /// `EINTR` when a signal comes: epoll_wait(2) is never restarted.
    pub fn wait(&self, max: usize, deadline_ns: Option<u64>) -> Result<Vec<(Events, u64)>> {
        loop {
            let found = self.collect(max.min(BATCH_MAX));
            if !found.is_empty() || deadline_ns == Some(0) {
                return Ok(found);
            }
            let result = self
                .ready
                .queue
                .wait_interruptible_deadline(deadline_ns, || {
                    (!self.ready.list.lock().is_empty()).then_some(())
                });
            match result {
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => return Ok(self.collect(max.min(BATCH_MAX))),
                Err(_) => return Err(Errno::EINTR),
            }
        }
    }

    /// Asks the items on the ready list, up to `max` hits.
    fn collect(&self, max: usize) -> Vec<(Events, u64)> {
        let mut found = Vec::new();
        let mut again = Vec::new();
        let mut items = self.items.lock();
        // Those listed while this runs are left for the next time.
        let mut left = self.ready.list.lock().len();
        while left > 0 && found.len() < max {
            left -= 1;
            let Some(number) = self.ready.list.lock().pop_front() else {
                break;
            };
            let Some(item) = items.by_number.get_mut(&number) else {
                continue;
            };
            item.waker.is_listed.store(false, Ordering::Release);
            match item.poll() {
                None => drop(items.remove(number)),
                Some(events) if events.is_empty() => {}
                Some(events) => {
                    found.push((events, item.interest.data));
                    if item.interest.mode.contains(Mode::ONESHOT) {
                        item.is_spent = true;
                    } else if !item.interest.mode.contains(Mode::EDGE) {
                        again.push(item.waker.clone());
                    }
                }
            }
        }
        drop(items);
        let is_left = !again.is_empty() || left > 0;
        for waker in again {
            waker.list();
        }
        if is_left {
            // Another thread may have looked while the list was empty.
            self.ready.queue.wake_all();
        }
        found
    }

    /// Whether any item on the ready list is really ready.
    fn is_ready(&self) -> bool {
        let items = self.items.lock();
        let len = self.ready.list.lock().len();
        let mut listed: Vec<u64> = Vec::new();
        if listed.try_reserve_exact(len).is_err() {
            // Who asks again when there is memory hears the truth.
            return true;
        }
        listed.extend(self.ready.list.lock().iter().take(len));
        listed.iter().any(|number| {
            let item = items.by_number.get(number);
            item.and_then(Item::poll)
                .is_some_and(|events| !events.is_empty())
        })
    }

    fn check_nesting(&self, inner: &Epoll) -> Result<()> {
        if core::ptr::eq(self, inner) {
            return Err(Errno::EINVAL);
        }
        if inner.depth_without(self, 1)? + self.ready.height() > NESTING_MAX {
            Err(Errno::ELOOP)
        } else {
            Ok(())
        }
    }

    /// How deep instances are nested below this one, which must not contain `forbidden`.
    fn depth_without(&self, forbidden: &Epoll, depth: usize) -> Result<usize> {
        if core::ptr::eq(self, forbidden) || depth > NESTING_MAX {
            return Err(Errno::ELOOP);
        }
        let files: Vec<Arc<File>> = {
            let items = self.items.lock();
            items
                .by_number
                .values()
                .filter_map(|item| item.file.upgrade())
                .collect()
        };
        let mut deepest = depth;
        for file in files {
            if let Some(inner) = file.downcast::<Epoll>() {
                deepest = deepest.max(inner.depth_without(forbidden, depth + 1)?);
            }
        }
        Ok(deepest)
    }
}

impl FileOps for Epoll {
    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.ready.pollers);
        }
        if self.is_ready() {
            Events::READABLE
        } else {
            Events::empty()
        }
    }

    fn info(&self, to: &mut dyn core::fmt::Write) -> core::fmt::Result {
        for item in self.items.lock().by_number.values() {
            if item.file.strong_count() == 0 {
                continue;
            }
            let events = item.interest.events.bits() | item.interest.mode.bits();
            writeln!(
                to,
                "tfd: {:8} events: {:8x} data: {:16x}",
                item.key.0, events, item.interest.data
            )?;
        }
        Ok(())
    }
}

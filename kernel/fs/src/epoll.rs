//! epoll(7): a set of files to watch, and the list of those that may be ready.
//!
//! Every watched file has an [`Item`] that is registered with the file's wait queues. A wake-up puts the
//! item's number on the ready list; epoll_wait takes numbers off it, asks the files, and puts
//! level-triggered ones that are ready back. Of the threads in epoll_wait one is woken at a time; of the instances that
//! watch a file with `EPOLLEXCLUSIVE`, the first that a thread waits for keeps a wake-up from the others.
//!
//! Locking: `items` (sleeping) is held while files are asked; `Ready::list` is taken by wake-ups in
//! interrupt context, so it never allocates there: room is reserved when an item is added, and numbers of items that are
//! gone are counted until they are off it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use memory::pressure;
use sched::{Mutex, Wake};

use crate::anonymous::AnonymousInode;
use crate::cred::Credentials;
use crate::file::File;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::poll::{Events, PollTable};

mod items;
mod nesting;
#[cfg(test)]
mod tests;

use items::{Item, ItemWaker, Items, Ready};

/// Takes a ready item, its file and the events.
type Take<'a> = dyn FnMut(&Item, &Arc<File>, Events) -> Result<()> + 'a;

/// Held from the look at who watches whom to the change of it.
static NESTING: Mutex<()> = Mutex::new(());

bitflags::bitflags! {
    /// How an interest is treated, beside the events (epoll_ctl(2)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Mode: u32 {
        /// `EPOLLEXCLUSIVE`: of the instances that watch a file so, one that a thread waits for is told.
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

impl Drop for Epoll {
    /// In steps: it may watch a million files.
    fn drop(&mut self) {
        const FEW: usize = 64;
        let items = self.items.get_mut();
        while items.by_number.len() > FEW {
            drop(items.by_number.pop_last());
            items.by_file.pop_last();
            sched::cond_resched();
        }
    }
}

impl Epoll {
    /// A new instance as an open file (epoll_create1(2)).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn create(credentials: &Arc<Credentials>) -> Result<Arc<File>> {
        pressure::ensure_headroom()?;
        let this = try_arc(Self {
            items: Mutex::new(Items::default()),
            ready: try_arc(Ready::new()?)?,
        })?;
        File::anonymous(
            AnonymousInode::file_like("[eventpoll]")?,
            this,
            OpenFlags::RDWR,
            credentials,
        )
    }

    /// `EPOLL_CTL_ADD`.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a file that cannot be waited for, `EINVAL` for itself or on too many ways, `ELOOP` for a cycle
    /// or too deep nesting.
    pub fn add(&self, fd: i32, file: &Arc<File>, interest: Interest) -> Result<()> {
        let (waker, now) = self.enter(fd, file, interest)?;
        if !now.is_empty() {
            waker.wake();
        }
        Ok(())
    }

    /// As [`Self::add`], but what is ready already is not reported.
    pub(crate) fn add_for_news(&self, fd: i32, file: &Arc<File>, interest: Interest) -> Result<()> {
        self.enter(fd, file, interest).map(drop)
    }

    /// Watches `file`; who reports it, and what is ready already.
    fn enter(
        &self,
        fd: i32,
        file: &Arc<File>,
        interest: Interest,
    ) -> Result<(Arc<ItemWaker>, Events)> {
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
        let number = items.new_number(&self.ready)?;
        let waker = try_arc(ItemWaker {
            number,
            is_listed: AtomicBool::new(false),
            ready: self.ready.clone(),
        })?;
        if let Some(inner) = inner {
            inner.ready.add_outer(&self.ready)?;
        }
        let entered = inner
            .map_or(Ok(()), Epoll::check_paths)
            .and_then(|()| Self::watch(&mut items, key, file, interest, &waker));
        if entered.is_err() {
            items.retire(&waker);
            if let Some(inner) = inner {
                inner.ready.remove_outer(&self.ready);
            }
        }
        drop(items);
        Ok((waker, entered?))
    }

    /// Registers `waker` with the file's queues and enters the item; what is ready already.
    fn watch(
        items: &mut Items,
        key: (i32, u64),
        file: &Arc<File>,
        interest: Interest,
        waker: &Arc<ItemWaker>,
    ) -> Result<Events> {
        let mut table = if interest.mode.contains(Mode::EXCLUSIVE) {
            PollTable::of_taker(waker.clone())
        } else {
            PollTable::new(waker.clone())
        };
        let now = file.poll(Some(&mut table)) & (interest.events | Events::ALWAYS);
        table.check()?;
        let item = Item {
            key,
            file: Arc::downgrade(file),
            interest,
            is_spent: false,
            waker: waker.clone(),
            _table: table,
        };
        items.add(waker.number, item)?;
        Ok(now)
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
        let is_ready = !item.poll_if_open().is_empty();
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

    /// Waits until something is ready or `deadline_ns`, and gives up to `max` events with their user data to `take`.
    /// None at the deadline.
    ///
    /// # Errors
    /// `EINTR` when a signal comes: epoll_wait(2) is never restarted. What `take` answers for the first event.
    pub fn wait(
        &self,
        max: usize,
        deadline_ns: Option<u64>,
        take: &mut dyn FnMut(Events, u64) -> Result<()>,
    ) -> Result<()> {
        let mut take = |item: &Item, _: &Arc<File>, events| take(events, item.interest.data);
        loop {
            if self.collect(max, &mut take)? > 0 || deadline_ns == Some(0) {
                return Ok(());
            }
            match self.wait_for_any(deadline_ns) {
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => return self.collect(max, &mut take).map(drop),
                Err(_) => return Err(Errno::EINTR),
            }
        }
    }

    /// Waits until something is ready, and gives what is to `take`: for the kernel's own threads.
    ///
    /// # Errors
    /// `EINTR`.
    pub(crate) fn wait_files(&self, mut take: impl FnMut(&File, Events)) -> Result<()> {
        self.wait_for_any(None)?;
        let mut take = |_: &Item, file: &Arc<File>, events| {
            take(file, events);
            Ok(())
        };
        self.collect(usize::MAX, &mut take).map(drop)
    }

    fn wait_for_any(&self, deadline_ns: Option<u64>) -> Result<()> {
        self.ready.queue.wait_interruptible_alone(deadline_ns, || {
            (!self.ready.list.lock().is_empty()).then_some(())
        })
    }

    /// Asks the items on the ready list and gives up to `max` hits to `take`; how many it took. One that it
    /// refuses stays on the list.
    fn collect(&self, max: usize, take: &mut Take<'_>) -> Result<usize> {
        let mut found = 0;
        let mut items = self.items.lock();
        // Those listed while this runs, and those that stay ready, are left for the next time.
        let mut left = self.ready.list.lock().len();
        let mut is_left = false;
        let mut result = Ok(());
        while left > 0 && found < max && result.is_ok() {
            left -= 1;
            sched::cond_resched();
            let Some(number) = self.ready.list.lock().pop_front() else {
                break;
            };
            if !items.is_there(number) {
                continue;
            }
            let Some(item) = items.by_number.get_mut(&number) else {
                continue;
            };
            item.waker.is_listed.store(false, Ordering::Release);
            let Some(file) = item.file.upgrade() else {
                drop(items.remove(number));
                continue;
            };
            let events = item.poll(&file);
            if events.is_empty() {
                continue;
            }
            result = take(item, &file, events);
            if result.is_ok() {
                found += 1;
                item.is_spent = item.interest.mode.contains(Mode::ONESHOT);
            }
            let stays = !item.interest.mode.intersects(Mode::ONESHOT | Mode::EDGE);
            if stays || result.is_err() {
                item.waker.list();
                is_left = true;
            }
        }
        drop(items);
        if is_left || left > 0 {
            // Another thread may have looked while the list was empty; it wakes the next, if it leaves some.
            self.ready.queue.wake_one();
        }
        match result {
            Err(errno) if found == 0 => Err(errno),
            _ => Ok(found),
        }
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
        for number in self.ready.list.lock().iter().take(len) {
            let _ = listed.push_within_capacity(*number);
        }
        listed.iter().any(|number| {
            sched::cond_resched();
            let item = items.by_number.get(number);
            item.is_some_and(|item| !item.poll_if_open().is_empty())
        })
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
            sched::cond_resched();
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

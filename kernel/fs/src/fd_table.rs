//! [`FdTable`]: descriptor numbers and the files behind them, shared with `CLONE_FILES`.
//!
//! Locking: one leaf spin lock; files are dropped after it is released, because the last drop may block.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;

use crate::file::File;
use crate::lock;

/// Descriptors a table can have at most, whatever the limit says (`fs.nr_open`).
pub const FD_MAX: usize = 1 << 20;

/// The descriptors of a process.
#[derive(Debug)]
pub struct FdTable {
    slots: SpinLock<Slots>,
    id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    /// No free slot is below this.
    first_free: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    file: Arc<File>,
    close_on_exec: bool,
}

impl Slots {
    /// The lowest free number from `from` on, below `limit`.
    fn find_free(&mut self, from: usize, limit: usize) -> Result<usize> {
        let start = from.max(self.first_free);
        let free = (start..self.entries.len()).find(|fd| self.entries[*fd].is_none());
        let fd = free.unwrap_or(start.max(self.entries.len()));
        if fd >= limit.min(FD_MAX) {
            return Err(Errno::EMFILE);
        }
        if from <= self.first_free {
            self.first_free = fd;
        }
        Ok(fd)
    }

    fn put(&mut self, fd: usize, entry: Entry) -> Result<Option<Entry>> {
        if fd >= self.entries.len() {
            self.entries.try_resize(fd + 1, None)?;
        }
        Ok(self.entries[fd].replace(entry))
    }

    fn take(&mut self, fd: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(fd)?.take()?;
        self.first_free = self.first_free.min(fd);
        Some(entry)
    }

    /// The slots up to the last one in use.
    fn used(&self) -> usize {
        let last = self.entries.iter().rposition(Option::is_some);
        last.map_or(0, |last| last + 1)
    }

    fn get(&self, fd: i32) -> Result<&Entry> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.entries
            .get(fd)
            .and_then(Option::as_ref)
            .ok_or(Errno::EBADF)
    }

    fn get_mut(&mut self, fd: i32) -> Result<&mut Entry> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.entries
            .get_mut(fd)
            .and_then(Option::as_mut)
            .ok_or(Errno::EBADF)
    }
}

/// A slot's number as system calls name it; the table is never longer than `FD_MAX`.
fn number(fd: usize) -> i32 {
    i32::try_from(fd).unwrap_or(i32::MAX)
}

impl FdTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        // infallible: the first process's; all others copy theirs.
        Arc::new(Self::with_slots(Slots::default()))
    }

    fn with_slots(slots: Slots) -> Self {
        Self {
            slots: SpinLock::new(slots),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A number that no other table ever has: the owner of record locks.
    #[must_use]
    pub fn lock_id(&self) -> u64 {
        self.id
    }

    /// What goes with taking a descriptor of `file` away: the table's record locks on it go, too.
    ///
    /// # Errors
    /// What close(2) shall report; the descriptor is closed nevertheless.
    pub fn finish_close(&self, file: &File) -> Result<()> {
        lock::release_table(file, self.id);
        file.ops().flush()
    }

    /// A copy for fork without `CLONE_FILES`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self) -> Result<Arc<Self>> {
        let mut copy = Slots::default();
        loop {
            // Made outside the lock; who shares the table may have grown it meanwhile.
            let wanted = self.slots.lock().used();
            copy.entries.try_reserve(wanted)?;
            let slots = self.slots.lock();
            let used = slots.used();
            if used > copy.entries.capacity() {
                continue;
            }
            copy.entries
                .try_extend(slots.entries.iter().take(used).cloned())?;
            copy.first_free = slots.first_free;
            break;
        }
        Ok(try_arc(Self::with_slots(copy))?)
    }

    /// The file behind `fd`, `O_PATH` files included.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        self.slots.lock().get(fd).map(|entry| entry.file.clone())
    }

    /// Gives `file` the lowest free number. `limit` is `RLIMIT_NOFILE`.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn insert(&self, file: Arc<File>, close_on_exec: bool, limit: usize) -> Result<i32> {
        self.insert_from(0, file, close_on_exec, limit)
    }

    /// Gives `file` the lowest free number from `from` on (`F_DUPFD`).
    ///
    /// # Errors
    /// `EINVAL` when `from` is past the limit, `EMFILE`, `ENOMEM`.
    pub fn insert_from(
        &self,
        from: usize,
        file: Arc<File>,
        close_on_exec: bool,
        limit: usize,
    ) -> Result<i32> {
        if from != 0 && from >= limit {
            return Err(Errno::EINVAL);
        }
        let mut slots = self.slots.lock();
        let fd = slots.find_free(from, limit)?;
        slots.put(
            fd,
            Entry {
                file,
                close_on_exec,
            },
        )?;
        if from <= slots.first_free {
            slots.first_free = fd + 1;
        }
        Ok(number(fd))
    }

    /// Makes `fd` mean `file`; returns what it meant before, for the caller to flush (dup2(2)).
    ///
    /// # Errors
    /// `EBADF` when `fd` is not below the limit, `ENOMEM`.
    pub fn replace(
        &self,
        fd: i32,
        file: Arc<File>,
        close_on_exec: bool,
        limit: usize,
    ) -> Result<Option<Arc<File>>> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if fd >= limit.min(FD_MAX) {
            return Err(Errno::EBADF);
        }
        let old = self.slots.lock().put(
            fd,
            Entry {
                file,
                close_on_exec,
            },
        )?;
        Ok(old.map(|entry| entry.file))
    }

    /// Frees `fd`; returns the file, for the caller to flush and drop.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, fd: i32) -> Result<Arc<File>> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let entry = self.slots.lock().take(fd);
        entry.map(|entry| entry.file).ok_or(Errno::EBADF)
    }

    /// Frees all of `first..=last` and closes the files (close_range(2)).
    pub fn close_range(&self, first: u32, last: u32) {
        self.close_if(first as usize, (last as usize).saturating_add(1), |_| true);
    }

    /// Frees the slots in `first..end` that `is_wanted` and closes their files, one by one: any of them may block.
    fn close_if(&self, first: usize, end: usize, is_wanted: impl Fn(&Entry) -> bool) {
        /// Slots looked at with the lock held.
        const STEP: usize = 256;
        let mut at = first;
        loop {
            let mut slots = self.slots.lock();
            let stop = slots.entries.len().min(end).min(at.saturating_add(STEP));
            let is_end = slots.entries.len().min(end) <= at;
            let found = (at..stop).find(|fd| slots.entries[*fd].as_ref().is_some_and(&is_wanted));
            let taken = found.and_then(|fd| slots.take(fd));
            drop(slots);
            if is_end {
                return;
            }
            at = found.map_or(stop, |fd| fd + 1);
            if let Some(entry) = taken {
                // Nobody hears of errors of single files.
                let _ = self.finish_close(&entry.file);
                drop(entry);
            }
            sched::cond_resched();
        }
    }

    /// Marks all of `first..=last` close-on-exec (`CLOSE_RANGE_CLOEXEC`).
    pub fn set_range_close_on_exec(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        let end = slots.entries.len().min((last as usize).saturating_add(1));
        for fd in first as usize..end {
            if let Some(entry) = &mut slots.entries[fd] {
                entry.close_on_exec = true;
            }
        }
    }

    /// Whether `fd` is closed by exec (`F_GETFD`).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn is_close_on_exec(&self, fd: i32) -> Result<bool> {
        self.slots.lock().get(fd).map(|entry| entry.close_on_exec)
    }

    /// Sets whether `fd` is closed by exec (`F_SETFD`).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&self, fd: i32, close_on_exec: bool) -> Result<()> {
        self.slots.lock().get_mut(fd)?.close_on_exec = close_on_exec;
        Ok(())
    }

    /// Closes what exec closes.
    pub fn close_on_exec(&self) {
        self.close_if(0, usize::MAX, |entry| entry.close_on_exec);
    }

    /// The first number in use from `from` on and its file (/proc/PID/fd).
    #[must_use]
    pub fn next_from(&self, from: usize) -> Option<(i32, Arc<File>)> {
        let slots = self.slots.lock();
        let rest = slots.entries.get(from..)?;
        let (index, entry) = rest
            .iter()
            .enumerate()
            .find_map(|(index, entry)| entry.as_ref().map(|entry| (index, entry)))?;
        Some((number(from + index), entry.file.clone()))
    }

    /// The numbers in use and their files, in order; none without memory. [`Self::next_from`] needs none.
    #[must_use]
    pub fn list(&self) -> alloc::vec::Vec<(i32, Arc<File>)> {
        let mut all = Vec::new();
        let mut at = 0;
        while let Some((fd, file)) = self.next_from(at) {
            at = usize::try_from(fd).map_or(usize::MAX, |fd| fd + 1);
            if all.try_push((fd, file)).is_err() {
                return alloc::vec::Vec::new();
            }
        }
        all.into_std()
    }

    /// How many numbers are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.lock().entries.iter().flatten().count()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for FdTable {
    /// The last process that had it ended, or got one of its own.
    fn drop(&mut self) {
        let slots = core::mem::take(self.slots.get_mut());
        for entry in slots.entries.into_iter().flatten() {
            // Nobody is left to hear of errors.
            let _ = self.finish_close(&entry.file);
            drop(entry);
            sched::cond_resched();
        }
    }
}

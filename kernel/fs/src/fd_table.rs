//! [`FdTable`]: descriptor numbers and the files behind them, shared with `CLONE_FILES`.
//!
//! A table is an [`OwnerCell`]: each thread that has it is an owner, all others ([`FdView`]) look. While one
//! thread only has the table, that finds a file without a lock and without counting a reference ([`FdRef`], what
//! Linux calls fdget): nothing can be taken out of the table as long as the reference lives, because that would
//! need the owner alone.
//!
//! Locking: one leaf spin lock; files are dropped after it is released, because the last drop may block.

use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use machine::sync::{Owner, OwnerCell};

use crate::file::File;
use crate::lock;

mod slots;
#[cfg(test)]
mod tests;

use slots::{Entry, Slots};

/// Descriptors a table can have at most, whatever the limit says (`fs.nr_open`).
pub const FD_MAX: usize = 1 << 20;

/// A thread's descriptors: its right to look them up and to change them.
#[derive(Debug)]
pub struct FdTable {
    slots: Owner<Slots>,
    id: u64,
}

/// Somebody's descriptors, for others to look at (/proc/PID/fd). Empty once the last thread that had them is gone.
#[derive(Debug, Clone)]
pub struct FdView(Arc<OwnerCell<Slots>>);

/// An open file behind a descriptor, for the time of a system call.
#[derive(Debug)]
pub enum FdRef<'a> {
    /// It stays in its table as long as the table is borrowed: the thread is the only one that has it.
    Borrowed(&'a Arc<File>),
    /// Others may close the descriptor meanwhile.
    Counted(Arc<File>),
}

impl Deref for FdRef<'_> {
    type Target = Arc<File>;
    #[inline]
    fn deref(&self) -> &Arc<File> {
        match self {
            FdRef::Borrowed(file) => file,
            FdRef::Counted(file) => file,
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A slot's number as system calls name it; the table is never longer than `FD_MAX`.
fn number(fd: usize) -> i32 {
    i32::try_from(fd).unwrap_or(i32::MAX)
}

/// What goes with taking a descriptor of `file` away: the record locks of its table, called `id`, go, too.
fn finish_close(id: u64, file: &File) -> Result<()> {
    lock::release_table(file, id);
    file.ops().flush()
}

impl FdTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        // infallible: the first process's; all others copy theirs.
        Self::with_cell(Arc::new(OwnerCell::new(Slots::default())))
    }

    fn with_cell(cell: Arc<OwnerCell<Slots>>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let Some(mut slots) = Owner::adopt(cell) else {
            unreachable!("a new cell has no owner");
        };
        slots.lock().id = id;
        Self { slots, id }
    }

    /// The same table for one more thread (`CLONE_FILES`).
    #[must_use]
    pub fn share(&mut self) -> Self {
        Self {
            slots: self.slots.share(),
            id: self.id,
        }
    }

    /// Whether another thread has it, too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.slots.is_alone()
    }

    /// The table for those who only look.
    #[must_use]
    pub fn view(&self) -> FdView {
        FdView(self.slots.viewer().clone())
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
        finish_close(self.id, file)
    }

    /// A copy for fork without `CLONE_FILES`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self) -> Result<Self> {
        let mut copy = Slots::default();
        loop {
            // Made outside the lock; who shares the table may have grown it meanwhile.
            let wanted = self.slots.view(Slots::used);
            copy.entries.try_reserve(wanted)?;
            let is_done = self.slots.view(|slots| {
                let used = slots.used();
                if used > copy.entries.capacity() {
                    return Ok(false);
                }
                copy.entries
                    .try_extend(slots.entries.iter().take(used).cloned())?;
                copy.first_free = slots.first_free;
                Ok::<_, Errno>(true)
            })?;
            if is_done {
                break;
            }
        }
        Ok(Self::with_cell(try_arc(OwnerCell::new(copy))?))
    }

    /// The file behind `fd`, `O_PATH` files included.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<FdRef<'_>> {
        match self.slots.look() {
            Some(slots) => slots.get(fd).map(|entry| FdRef::Borrowed(&entry.file)),
            None => self.get_counted(fd).map(FdRef::Counted),
        }
    }

    /// As [`Self::get`], with a reference of its own.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get_counted(&self, fd: i32) -> Result<Arc<File>> {
        self.slots
            .view(|slots| slots.get(fd).map(|entry| entry.file.clone()))
    }

    /// Makes sure that there is a free number and room for it, before what cannot be undone. Another thread that shares the
    /// table may still be faster.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn make_room(&mut self, limit: usize) -> Result<()> {
        let mut slots = self.slots.lock();
        let fd = slots.find_free(0, limit)?;
        let missing = (fd + 1).saturating_sub(slots.entries.len());
        Ok(slots.entries.try_reserve(missing)?)
    }

    /// Gives `file` the lowest free number. `limit` is `RLIMIT_NOFILE`.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn insert(&mut self, file: Arc<File>, close_on_exec: bool, limit: usize) -> Result<i32> {
        self.insert_from(0, file, close_on_exec, limit)
    }

    /// Gives `file` the lowest free number from `from` on (`F_DUPFD`).
    ///
    /// # Errors
    /// `EINVAL` when `from` is past the limit, `EMFILE`, `ENOMEM`.
    pub fn insert_from(
        &mut self,
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
        &mut self,
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
    pub fn remove(&mut self, fd: i32) -> Result<Arc<File>> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let entry = self.slots.lock().take(fd);
        entry.map(|entry| entry.file).ok_or(Errno::EBADF)
    }

    /// Frees all of `first..=last` and closes the files (close_range(2)).
    pub fn close_range(&mut self, first: u32, last: u32) {
        self.close_if(first as usize, (last as usize).saturating_add(1), |_| true);
    }

    /// Frees the slots in `first..end` that `is_wanted` and closes their files, one by one: any of them may block.
    fn close_if(&mut self, first: usize, end: usize, is_wanted: impl Fn(&Entry) -> bool) {
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
    pub fn set_range_close_on_exec(&mut self, first: u32, last: u32) {
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
        self.slots
            .view(|slots| slots.get(fd).map(|entry| entry.close_on_exec))
    }

    /// Sets whether `fd` is closed by exec (`F_SETFD`).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&mut self, fd: i32, close_on_exec: bool) -> Result<()> {
        self.slots.lock().get_mut(fd)?.close_on_exec = close_on_exec;
        Ok(())
    }

    /// Closes what exec closes.
    pub fn close_on_exec(&mut self) {
        self.close_if(0, usize::MAX, |entry| entry.close_on_exec);
    }
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdView {
    /// The file behind `fd`, `O_PATH` files included.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        self.0
            .view(|slots| slots.get(fd).map(|entry| entry.file.clone()))
    }

    /// Whether `fd` is closed by exec (`F_GETFD`).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn is_close_on_exec(&self, fd: i32) -> Result<bool> {
        self.0
            .view(|slots| slots.get(fd).map(|entry| entry.close_on_exec))
    }

    /// The first number in use from `from` on and its file (/proc/PID/fd).
    #[must_use]
    pub fn next_from(&self, from: usize) -> Option<(i32, Arc<File>)> {
        let (fd, file) = self.0.view(|slots| slots.next_from(from))?;
        Some((number(fd), file))
    }

    /// How many numbers are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.view(|slots| slots.entries.iter().flatten().count())
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

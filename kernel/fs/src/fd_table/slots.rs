//! The numbers and what is behind them, without any locking.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;

use super::{FD_MAX, finish_close};
use crate::file::File;

/// The content of a table.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) entries: Vec<Option<Entry>>,
    /// No free slot is below this.
    pub(super) first_free: usize,
    /// The table's `lock_id`; 0 while this is no table's: then there is nothing to close as it goes.
    pub(super) id: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) file: Arc<File>,
    pub(super) close_on_exec: bool,
}

impl Slots {
    /// The lowest free number from `from` on, below `limit`.
    pub(super) fn find_free(&mut self, from: usize, limit: usize) -> Result<usize> {
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

    pub(super) fn put(&mut self, fd: usize, entry: Entry) -> Result<Option<Entry>> {
        if fd >= self.entries.len() {
            self.entries.try_resize(fd + 1, None)?;
        }
        Ok(self.entries[fd].replace(entry))
    }

    pub(super) fn take(&mut self, fd: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(fd)?.take()?;
        self.first_free = self.first_free.min(fd);
        Some(entry)
    }

    /// The slots up to the last one in use.
    pub(super) fn used(&self) -> usize {
        let last = self.entries.iter().rposition(Option::is_some);
        last.map_or(0, |last| last + 1)
    }

    #[inline]
    pub(super) fn get(&self, fd: i32) -> Result<&Entry> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.entries
            .get(fd)
            .and_then(Option::as_ref)
            .ok_or(Errno::EBADF)
    }

    pub(super) fn get_mut(&mut self, fd: i32) -> Result<&mut Entry> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.entries
            .get_mut(fd)
            .and_then(Option::as_mut)
            .ok_or(Errno::EBADF)
    }

    /// The first number in use from `from` on and its file.
    pub(super) fn next_from(&self, from: usize) -> Option<(usize, Arc<File>)> {
        let rest = self.entries.get(from..)?;
        let (index, entry) = rest
            .iter()
            .enumerate()
            .find_map(|(index, entry)| entry.as_ref().map(|entry| (index, entry)))?;
        Some((from + index, entry.file.clone()))
    }
}

impl Drop for Slots {
    /// The last process that had the table ended, or got one of its own.
    fn drop(&mut self) {
        if self.id == 0 {
            return;
        }
        for entry in core::mem::take(&mut self.entries).into_iter().flatten() {
            // Nobody is left to hear of errors.
            let _ = finish_close(self.id, &entry.file);
            drop(entry);
            sched::cond_resched();
        }
    }
}

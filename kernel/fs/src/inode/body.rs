//! [`InodeBody`]: what the VFS itself keeps with each inode, whatever the file system.
//!
//! It lives in the inode object, so it is shared by all names and open descriptions of the file and goes with
//! the last of them. Locking: atomics, and what the parts have of their own.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use abi::{Errno, Result};

use crate::inode::Inode;
use crate::lock::InodeLocks;

/// The VFS's part of an inode.
#[derive(Debug, Default)]
pub struct InodeBody {
    /// Descriptions that may write (positive), or programs that run from it (negative): Linux's `i_writecount`.
    writers: AtomicI32,
    /// File locks.
    pub(crate) locks: InodeLocks,
    /// Bit 0: the file is known to have neither set-id bits nor capabilities (Linux's `S_NOSEC`). The rest counts what
    /// could have given it some.
    privileges: AtomicU32,
}

impl InodeBody {
    /// Of an inode that nobody has open.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            writers: AtomicI32::new(0),
            locks: InodeLocks::new(),
            privileges: AtomicU32::new(0),
        }
    }

    /// Whether the file is known to have neither set-id bits nor capabilities: writers need not look.
    pub(crate) fn has_no_privileges(&self) -> bool {
        self.privileges.load(Ordering::Acquire) & 1 != 0
    }

    /// To be passed to [`Self::note_no_privileges`] by who looks now.
    pub(crate) fn privileges_seen(&self) -> u32 {
        self.privileges.load(Ordering::Acquire)
    }

    /// Neither was found, unless that changed since `seen`.
    pub(crate) fn note_no_privileges(&self, seen: u32) {
        // When it did, the next writer looks again.
        let _ =
            self.privileges
                .compare_exchange(seen, seen | 1, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The mode or an attribute has changed.
    pub(crate) fn forget_privileges(&self) {
        let next = |now: u32| Some((now | 1).wrapping_add(1));
        let _ = self
            .privileges
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Counts one more user on the side of `step` (1 or -1), unless there are users on the other.
    fn take(&self, step: i32) -> Result<()> {
        self.writers
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| {
                let is_other_side = count.signum() == -step;
                if is_other_side {
                    None
                } else {
                    count.checked_add(step)
                }
            })
            .map(drop)
            .map_err(|_| Errno::ETXTBSY)
    }
}

/// The right to write to a file, or to rely on nobody writing to it: the two exclude each other.
#[derive(Debug)]
pub struct InodeAccess {
    inode: Arc<dyn Inode>,
    step: i32,
}

impl InodeAccess {
    /// The right to write.
    ///
    /// # Errors
    /// `ETXTBSY` while a program runs from the file.
    pub fn write(inode: &Arc<dyn Inode>) -> Result<Self> {
        Self::new(inode, 1)
    }

    /// Keeps others from writing: a program runs from the file.
    ///
    /// # Errors
    /// `ETXTBSY` while somebody has it open for writing.
    pub fn deny_write(inode: &Arc<dyn Inode>) -> Result<Self> {
        Self::new(inode, -1)
    }

    fn new(inode: &Arc<dyn Inode>, step: i32) -> Result<Self> {
        inode.body().take(step)?;
        Ok(Self {
            inode: inode.clone(),
            step,
        })
    }
}

impl Drop for InodeAccess {
    fn drop(&mut self) {
        self.inode
            .body()
            .writers
            .fetch_sub(self.step, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_while_one_looked_is_looked_at_again() {
        let body = InodeBody::new();
        let seen = body.privileges_seen();
        body.forget_privileges();
        body.note_no_privileges(seen);
        assert!(!body.has_no_privileges());
        body.note_no_privileges(body.privileges_seen());
        assert!(body.has_no_privileges());
        body.forget_privileges();
        assert!(!body.has_no_privileges());
    }

    #[test]
    fn writers_and_programs_exclude_each_other() {
        let body = InodeBody::new();
        assert_eq!((body.take(1), body.take(1)), (Ok(()), Ok(())));
        assert_eq!(body.take(-1), Err(Errno::ETXTBSY));
        body.writers.fetch_sub(2, Ordering::AcqRel);
        assert_eq!((body.take(-1), body.take(-1)), (Ok(()), Ok(())));
        assert_eq!(body.take(1), Err(Errno::ETXTBSY));
    }
}

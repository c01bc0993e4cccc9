//! One mapping: a range of addresses that share protection and origin.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use machine::PAGE_SIZE;
use machine::page_table::Perms;

use super::attach::Attachment;
use crate::page_source::{Origin, PageSource};
use crate::rmap::WritableMapping;

bitflags::bitflags! {
    /// What user code may do (`PROT_*`, same bits). Nothing is `PROT_NONE`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Prot: u32 {
        /// `PROT_READ`.
        const READ = 1;
        /// `PROT_WRITE`.
        const WRITE = 2;
        /// `PROT_EXEC`.
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// Properties of a mapping besides protection.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct AreaFlags: u32 {
        /// Stores are seen by others that map the same.
        const SHARED = 1;
        /// Grows downwards when touched right below (a stack).
        const GROWS_DOWN = 2;
        /// Counted as locked.
        const LOCKED = 4;
        /// Does not count against the memory that may be promised.
        const NO_RESERVE = 8;
        /// Not copied by fork (`MADV_DONTFORK`).
        const DONT_FORK = 16;
        /// Zeroes in the child of a fork (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 32;
        /// Left out of core dumps (`MADV_DONTDUMP`).
        const DONT_DUMP = 64;
        /// The heap that brk moves.
        const HEAP = 128;
        /// The first thread's stack.
        const STACK = 256;
        /// Pages of 2 MiB are wanted (`MADV_HUGEPAGE`).
        const LARGE = 512;
        /// No pages of 2 MiB (`MADV_NOHUGEPAGE`; `MAP_STACK`, of which little is used).
        const NO_LARGE = 1024;
    }
}

/// A mapping. Its start is its key in the tree.
pub struct Area {
    /// One past its last address.
    pub end: u64,
    /// What user code may do.
    pub prot: Prot,
    /// What mprotect may allow.
    pub max_prot: Prot,
    /// Its properties.
    pub flags: AreaFlags,
    /// Where its pages come from; `None` is anonymous and private.
    pub source: Option<Arc<dyn PageSource>>,
    /// Where in the source it starts, in bytes.
    pub offset: u64,
    /// The file it was made from.
    pub origin: Option<Arc<dyn Origin>>,
    /// Private pages of its own may be mapped: fork has to look at its page tables. Faults set it, which
    /// only share the lock.
    pub is_copied: AtomicBool,
    /// Counts it at the source while it is shared and may ever store.
    pub(crate) writable: Option<WritableMapping>,
    /// Counts it where it is attached (shmat(2)).
    pub(crate) attachment: Option<Attachment>,
}

impl Clone for Area {
    fn clone(&self) -> Self {
        Self {
            end: self.end,
            prot: self.prot,
            max_prot: self.max_prot,
            flags: self.flags,
            source: self.source.clone(),
            offset: self.offset,
            origin: self.origin.clone(),
            is_copied: AtomicBool::new(self.is_copied()),
            writable: self.writable.clone(),
            attachment: self.attachment.clone(),
        }
    }
}

impl Area {
    /// See the field.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        self.is_copied.load(Ordering::Relaxed)
    }

    /// Private pages may be mapped from now on, if `is_copied`.
    pub(crate) fn note_copied(&self, is_copied: bool) {
        if is_copied && !self.is_copied() {
            self.is_copied.store(true, Ordering::Relaxed);
        }
    }

    /// Whether stores are seen by others.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// What the page table may allow at most.
    #[must_use]
    pub(crate) fn perms(&self) -> Perms {
        if self.prot.is_empty() {
            return Perms::NO_ACCESS;
        }
        let mut perms = Perms::empty();
        perms.set(Perms::WRITE, self.prot.contains(Prot::WRITE));
        perms.set(Perms::EXEC, self.prot.contains(Prot::EXEC));
        perms
    }

    /// What the page table may allow for a page that nobody asked to store to yet.
    #[must_use]
    pub(crate) fn perms_before_store(&self) -> Perms {
        let may_store = self.is_shared()
            && self
                .source
                .as_ref()
                .is_some_and(|source| !source.tracks_stores());
        if may_store {
            self.perms()
        } else {
            self.perms() - Perms::WRITE
        }
    }

    /// The page of the source that `addr` shows, for an area that starts at `start`.
    #[must_use]
    pub(crate) fn page_index(&self, start: u64, addr: u64) -> u64 {
        (self.offset + (addr - start)) / PAGE_SIZE as u64
    }
}

impl core::fmt::Debug for Area {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Area")
            .field("end", &format_args!("{:#x}", self.end))
            .field("prot", &self.prot)
            .field("flags", &self.flags)
            .field("source", &self.source.is_some())
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

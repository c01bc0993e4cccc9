//! A user address space as the CPU sees it. The kernel half is shared by all.
//!
//! Locking is inside: calls may come from any CPU. A frame leaves a table only after every CPU
//! that may have it in its TLB has been told.

use alloc::sync::Arc;
use core::ops::Range;

use crate::addr::UserAddr;
use crate::frame::{Frame, OutOfMemory};

bitflags::bitflags! {
    /// What user code may do with a page. Readable is implied by being mapped.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Perms: u8 {
        /// Stores.
        const WRITE = 1;
        /// Instruction fetch.
        const EXEC = 2;
    }
}

/// The page table of one user address space.
#[derive(Debug)]
pub struct PageTable(());

impl PageTable {
    /// An empty user half.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for the root.
    pub fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        todo!()
    }

    /// Maps `frame` at the page of `addr`, in place of what was there.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table.
    pub fn map(&self, addr: UserAddr, frame: Frame, perms: Perms) -> Result<(), OutOfMemory> {
        let _ = (addr, frame, perms);
        todo!()
    }

    /// Removes every mapping in a page-aligned range, and drops the frames once no TLB has them.
    pub fn unmap(&self, range: Range<UserAddr>) {
        let _ = range;
        todo!()
    }

    /// Sets the permissions of the pages that are mapped in a page-aligned range.
    pub fn protect(&self, range: Range<UserAddr>, perms: Perms) {
        let _ = (range, perms);
        todo!()
    }

    /// Maps in `child` whatever is mapped here in the range, both sides read-only when
    /// `copy_on_write`, else with the same permissions.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table of the child.
    pub fn share_with(
        &self,
        child: &PageTable,
        range: Range<UserAddr>,
        copy_on_write: bool,
    ) -> Result<(), OutOfMemory> {
        let _ = (child, range, copy_on_write);
        todo!()
    }

    /// The frame mapped at `addr` and its permissions.
    #[must_use]
    pub fn query(&self, addr: UserAddr) -> Option<(Frame, Perms)> {
        let _ = addr;
        todo!()
    }

    /// Moves the mappings of one page-aligned range to another of the same length (mremap).
    ///
    /// # Errors
    /// [`OutOfMemory`] when no frame is free for a table; nothing has moved then.
    pub fn relocate(&self, from: Range<UserAddr>, to: UserAddr) -> Result<(), OutOfMemory> {
        let _ = (from, to);
        todo!()
    }

    /// Makes this the table of the CPU this runs on; it stays alive as long as it is.
    pub fn activate(self: &Arc<Self>) {
        todo!()
    }

    /// Makes the kernel-only table active on this CPU.
    pub fn deactivate() {
        todo!()
    }
}

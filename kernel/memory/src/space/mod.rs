//! Address spaces.

mod area;
mod limits;
mod report;
mod request;

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Result;
use machine::page_table::PageTable;
use machine::user_mode::PageFault;
use machine::{UserAddr, frame};

use crate::page_source::PageSource;

pub use area::{Area, AreaFlags, Prot};
pub use limits::Limits;
pub use report::{AreaInfo, Layout, Statistics};
pub use request::{MapRequest, Placement};

/// The memory of one process: areas, and the page table that shows what has been touched.
#[derive(Debug)]
pub struct AddressSpace(());

/// Why a fault could not be resolved, as the signal says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    MapErr,
    /// Mapped, but not for this: SIGSEGV, `SEGV_ACCERR`.
    AccErr,
    /// Beyond the end of the file or not readable: SIGBUS, `BUS_ADRERR`.
    Bus,
    /// No memory, even after shrinking: the OOM killer's business.
    OutOfMemory,
}

/// The address space of the calling thread.
#[must_use]
pub fn current() -> Option<Arc<AddressSpace>> {
    sched::thread::current().memory()?.downcast().ok()
}

impl AddressSpace {
    /// An empty one; `randomize` places stack, mappings, brk and PIE at random (ASLR).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(randomize: bool) -> Result<Arc<AddressSpace>> {
        let _ = (randomize, frame::free());
        todo!()
    }

    /// Its page table: [`sched::Thread::set_page_table`].
    #[must_use]
    pub fn page_table(&self) -> &Arc<PageTable> {
        todo!()
    }

    /// One past the top of the stack: page-aligned, placed at random when it is to be.
    #[must_use]
    pub fn stack_top(&self) -> UserAddr {
        todo!()
    }

    /// Where a position-independent program of `len` bytes is loaded (mapped there by the caller).
    #[must_use]
    pub fn pie_base(&self) -> UserAddr {
        todo!()
    }

    /// Sets where the heap begins (the end of the program's bss, page-aligned up, moved at random).
    pub fn set_brk_start(&self, end_of_program: UserAddr) {
        let _ = end_of_program;
        todo!()
    }

    /// brk(2): moves the end of the heap and returns where it is then.
    pub fn brk(&self, wanted: UserAddr) -> UserAddr {
        let _ = wanted;
        todo!()
    }

    /// mmap(2): returns where the mapping starts.
    ///
    /// # Errors
    /// As mmap(2): `EINVAL`, `ENOMEM`, `EEXIST`.
    pub fn map(self: &Arc<Self>, request: MapRequest) -> Result<UserAddr> {
        let _ = request;
        todo!()
    }

    /// munmap(2).
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn unmap(&self, addr: UserAddr, len: u64) -> Result<()> {
        let _ = (addr, len);
        todo!()
    }

    /// mprotect(2).
    ///
    /// # Errors
    /// As mprotect(2): `EINVAL`, `ENOMEM` where something in the range is not mapped, `EACCES`.
    pub fn protect(&self, addr: UserAddr, len: u64, prot: Prot) -> Result<()> {
        let _ = (addr, len, prot);
        todo!()
    }

    /// mremap(2): `flags` are the `MREMAP_*` bits.
    ///
    /// # Errors
    /// As mremap(2).
    pub fn remap(
        self: &Arc<Self>,
        old: UserAddr,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new: UserAddr,
    ) -> Result<UserAddr> {
        let _ = (old, old_len, new_len, flags, new);
        todo!()
    }

    /// madvise(2): `advice` is the `MADV_*` number.
    ///
    /// # Errors
    /// As madvise(2); `EINVAL` for advice that is not supported.
    pub fn advise(&self, addr: UserAddr, len: u64, advice: u32) -> Result<()> {
        let _ = (addr, len, advice);
        todo!()
    }

    /// msync(2): `flags` are the `MS_*` bits.
    ///
    /// # Errors
    /// As msync(2).
    pub fn sync(&self, addr: UserAddr, len: u64, flags: u32) -> Result<()> {
        let _ = (addr, len, flags);
        todo!()
    }

    /// mincore(2): one byte a page, 1 when it is in memory.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` where something in the range is not mapped.
    pub fn residency(&self, addr: UserAddr, len: u64) -> Result<Vec<u8>> {
        let _ = (addr, len);
        todo!()
    }

    /// mlock(2) and munlock(2), as far as they show in accounts: nothing is ever swapped out.
    ///
    /// # Errors
    /// As mlock(2).
    pub fn set_locked(&self, addr: UserAddr, len: u64, locked: bool) -> Result<()> {
        let _ = (addr, len, locked);
        todo!()
    }

    /// A copy for fork(2): private memory is shared until either side stores to it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        todo!()
    }

    /// Makes the access that faulted possible.
    ///
    /// # Errors
    /// Why it is not.
    pub fn handle_fault(&self, fault: &PageFault) -> core::result::Result<(), FaultError> {
        let _ = fault;
        todo!()
    }

    /// Reads memory of what need not be the calling thread's address space (/proc/PID/mem, ptrace,
    /// exec's argument copying); returns how much could be read.
    pub fn read_at(&self, from: UserAddr, to: &mut [u8]) -> usize {
        let _ = (from, to);
        todo!()
    }

    /// Writes memory of what need not be the calling thread's address space (exec's new stack); `force`
    /// writes into private mappings that are not writable, as ptrace does. Returns how much was written.
    pub fn write_at(&self, to: UserAddr, from: &[u8], force: bool) -> usize {
        let _ = (to, from, force);
        todo!()
    }

    /// The page frame and offset that `addr` shows, made present: what a shared futex is keyed by.
    /// `None` where there is nothing.
    #[must_use]
    pub fn frame_at(&self, addr: UserAddr, write: bool) -> Option<machine::Frame> {
        let _ = (addr, write);
        todo!()
    }

    /// Whether `addr` is in a shared mapping.
    #[must_use]
    pub fn is_shared(&self, addr: UserAddr) -> bool {
        let _ = addr;
        todo!()
    }

    /// The areas, for /proc/PID/maps.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn areas(&self) -> Result<Vec<AreaInfo>> {
        todo!()
    }

    /// Sizes, for /proc/PID/statm and status.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        todo!()
    }

    /// Where exec put things, for /proc/PID/stat, cmdline and prctl.
    #[must_use]
    pub fn layout(&self) -> Layout {
        todo!()
    }

    /// See [`Self::layout`].
    pub fn set_layout(&self, layout: Layout) {
        let _ = layout;
        todo!()
    }

    /// Sets the limits it enforces (RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK).
    pub fn set_limits(&self, limits: Limits) {
        let _ = limits;
        todo!()
    }

    /// Drops every mapping at once, as the last thread exits; a leftover reference costs little then.
    pub fn clear(&self) {
        todo!()
    }

    /// Takes pages of `source` out of every mapping of it.
    pub(crate) fn forget_pages(&self, source: &dyn PageSource, pages: core::ops::Range<u64>) {
        let _ = (source, pages);
        todo!()
    }
}

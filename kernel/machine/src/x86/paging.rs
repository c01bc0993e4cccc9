//! Page-table entries, and the kernel's half of every page table.
//!
//! The kernel's root table is made once at boot with an entry for every part of the kernel's half;
//! each user root copies those entries, so that what is mapped later below them is seen by all.
//!
//! Locking: [`KERNEL`] for new tables below the shared entries, which stay for good; an entry of a leaf table is
//! its user's (`vmalloc` takes mappings away again), but for the frames' metadata, which is mapped under the
//! allocator's lock.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{PageTableFlags, PhysFrame};

use super::features::{self, Features};
use super::layout;
use crate::addr::PhysAddr;
use crate::frame::{Frame, OutOfMemory};
use crate::page_table::bits::{ADDRESS, ENTRIES, LARGE, NO_EXEC, PRESENT, WRITE, index, span};
use crate::sync::IrqLock;

pub(crate) const UNCACHED: u64 = PageTableFlags::NO_CACHE.bits();
pub(crate) const GLOBAL: u64 = PageTableFlags::GLOBAL.bits();

/// Kernel data: not for users, not executable, the same in all address spaces.
pub(crate) const DATA: u64 = PRESENT | WRITE | GLOBAL | NO_EXEC;
/// Kernel constants.
pub(crate) const CONSTANTS: u64 = PRESENT | GLOBAL | NO_EXEC;
/// Kernel code.
pub(crate) const CODE: u64 = PRESENT | GLOBAL;
/// Device registers.
pub(crate) const REGISTERS: u64 = DATA | UNCACHED;

/// First root entry of the kernel's half.
const KERNEL_ROOT_ENTRY: usize = 256;

/// The kernel's root table; holds its physical address, 0 before it is made.
static ROOT: AtomicU64 = AtomicU64::new(0);
static KERNEL: IrqLock<()> = IrqLock::new(());

/// The entries of a table, as atomics: the CPU reads (and marks) them at any time.
pub(crate) fn entries(table: PhysAddr) -> &'static [AtomicU64; ENTRIES] {
    let entries: *const [AtomicU64; ENTRIES] = layout::at(table);
    // SAFETY: `table` is a frame that holds a page table, mapped in the direct map, kept by the
    // tree it belongs to; all access is atomic.
    unsafe { &*entries }
}

/// An entry of a table.
pub(crate) fn entry(table: PhysAddr, index: usize) -> &'static AtomicU64 {
    &entries(table)[index & (ENTRIES - 1)]
}

/// The kernel-only root table.
pub(crate) fn kernel_root() -> PhysAddr {
    PhysAddr(ROOT.load(Ordering::Relaxed))
}

/// Makes the kernel's root table: empty, but for tables below every entry that will be used.
pub(crate) fn make_kernel_root() -> Result<(), OutOfMemory> {
    let root = Frame::alloc_zeroed()?.into_phys();
    ROOT.store(root.0, Ordering::Relaxed);
    for start in [
        layout::VMALLOC_START,
        layout::VMEMMAP_START,
        layout::MMIO_START,
    ] {
        table_below(root, index(start, 4))?;
    }
    Ok(())
}

/// Makes tables below the root entries for a range: what is mapped there later is seen by all.
pub(crate) fn make_root_entries(start: u64, end: u64) -> Result<(), OutOfMemory> {
    for index in index(start, 4)..=index(end - 1, 4) {
        table_below(kernel_root(), index)?;
    }
    Ok(())
}

/// Which entries of the kernel's root are used, a bit each: few are.
static ROOT_ENTRIES: [AtomicU64; ENTRIES / 64] = [const { AtomicU64::new(0) }; ENTRIES / 64];

/// Copies the kernel's half into a new user root.
pub(crate) fn share_kernel_half(root: PhysAddr) {
    let words = ROOT_ENTRIES.iter().enumerate().skip(KERNEL_ROOT_ENTRY / 64);
    for (word, used) in words {
        let mut bits = used.load(Ordering::Relaxed);
        while bits != 0 {
            let index = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let value = entry(kernel_root(), index).load(Ordering::Relaxed);
            entry(root, index).store(value, Ordering::Relaxed);
        }
    }
}

/// Maps `[phys, phys + len)` at `virt` in the kernel's half, with the largest pages that fit.
pub(crate) fn map_kernel(virt: u64, phys: u64, len: u64, flags: u64) -> Result<(), OutOfMemory> {
    let _guard = KERNEL.lock();
    let highest = if features::has(Features::GIB_PAGES) {
        3
    } else {
        2
    };
    let mut done = 0;
    while done < len {
        let (virt, phys, left) = (virt + done, phys + done, len - done);
        let fits = |level: &u32| (virt | phys).is_multiple_of(span(*level)) && left >= span(*level);
        let level = (2..=highest).rev().find(fits).unwrap_or(1);
        done += fill_table(virt, phys, left, level, flags)?;
    }
    Ok(())
}

/// Fills entries of one table, as many as it has room for and pages of `level` fit; how many bytes that
/// maps. Pages of the lowest level stop where the next table, and perhaps larger pages, begin.
fn fill_table(virt: u64, phys: u64, len: u64, level: u32, flags: u64) -> Result<u64, OutOfMemory> {
    let table = kernel_table(virt, level)?;
    let large = if level > 1 { LARGE } else { 0 };
    let first = index(virt, level);
    let count = ((len / span(level)) as usize).clamp(1, ENTRIES - first);
    let mut value = phys | flags | large;
    for index in first..first + count {
        entry(table, index).store(value, Ordering::Release);
        value += span(level);
    }
    Ok(count as u64 * span(level))
}

/// The table of `level` that has the entry for `virt`, made if need be.
fn kernel_table(virt: u64, level: u32) -> Result<PhysAddr, OutOfMemory> {
    let mut table = kernel_root();
    for above in (level + 1..=4).rev() {
        table = table_below(table, index(virt, above))?;
    }
    Ok(table)
}

/// The lowest table for an address of the kernel's half, made if need be.
pub(crate) fn kernel_leaf(virt: u64) -> Result<PhysAddr, OutOfMemory> {
    let _guard = KERNEL.lock();
    kernel_table(virt, 1)
}

fn table_below(table: PhysAddr, index: usize) -> Result<PhysAddr, OutOfMemory> {
    let entry = entry(table, index);
    let value = entry.load(Ordering::Acquire);
    if value & PRESENT != 0 {
        return Ok(PhysAddr(value & ADDRESS));
    }
    let made = Frame::alloc_zeroed()?.into_phys();
    entry.store(made.0 | PRESENT | WRITE, Ordering::Release);
    if table == kernel_root() {
        ROOT_ENTRIES[index / 64].fetch_or(1 << (index % 64), Ordering::Release);
    }
    Ok(made)
}

/// Maps one page of another address space's reach: the low page that starting CPUs run on. A zero
/// `flags` takes it away again.
pub(crate) fn map_low_page(phys: PhysAddr, flags: u64) -> Result<(), OutOfMemory> {
    let _guard = KERNEL.lock();
    let table = kernel_table(phys.0, 1)?;
    let value = if flags == 0 {
        0
    } else {
        phys.0 | (flags & !GLOBAL)
    };
    entry(table, index(phys.0, 1)).store(value, Ordering::Release);
    invalidate(phys.0);
    Ok(())
}

/// The physical address of a mapped kernel byte, by walking the tables.
pub(crate) fn kernel_translate(addr: u64) -> Option<PhysAddr> {
    let mut table = kernel_root();
    for level in (1..=4).rev() {
        let value = entry(table, index(addr, level)).load(Ordering::Acquire);
        if value & PRESENT == 0 {
            return None;
        }
        if level == 1 || value & LARGE != 0 {
            let offset = addr & (span(level) - 1);
            return Some(PhysAddr((value & ADDRESS & !(span(level) - 1)) + offset));
        }
        table = PhysAddr(value & ADDRESS);
    }
    None
}

/// Loads a root table on this CPU.
///
/// # Safety
/// The table has the kernel's half, and stays alive until another is loaded.
pub(crate) unsafe fn load_root(root: PhysAddr) {
    let root = PhysFrame::containing_address(x86_64::PhysAddr::new_truncate(root.0));
    // SAFETY: the caller's promise; code, stack and data stay mapped as they were.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// The root table of this CPU.
pub(crate) fn current_root() -> PhysAddr {
    PhysAddr(Cr3::read_raw().0.start_address().as_u64())
}

/// Drops this CPU's cached translation of a page.
pub(crate) fn invalidate(addr: u64) {
    tlb::flush(VirtAddr::new_truncate(addr));
}

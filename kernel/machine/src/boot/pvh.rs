//! PVH: turns `hvm_start_info` (Xen's boot protocol, which QEMU, Cloud Hypervisor and Firecracker speak)
//! into the kernel's one boot contract, `BootInfo`. All of it lies below 4 GiB, where the stub
//! mapped physical memory.

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind, MemoryRegions, Optional};

use crate::addr::PhysAddr;
use crate::sync::SpinLock;
use crate::x86::layout;

const MAGIC: u32 = 0x336e_c578;
const MAX_REGIONS: usize = 32;
const MAX_COMMAND_LINE: usize = 4096;
/// RAM, in the loader's map of memory.
pub(super) const TYPE_RAM: u32 = 1;

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Module {
    start: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct MapEntry {
    start: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

static REGIONS: SpinLock<[MemoryRegion; MAX_REGIONS]> =
    SpinLock::new([MemoryRegion::empty(); MAX_REGIONS]);

/// What the loader said.
pub(super) struct Start {
    pub(super) info: BootInfo,
    pub(super) command_line: &'static [u8],
}

/// # Safety
/// `phys` is below 4 GiB, mapped, and holds a `T` (plain integers) that nothing writes.
unsafe fn read_at<T: Copy>(phys: u64) -> T {
    // SAFETY: the caller's promise.
    unsafe { layout::at::<T>(PhysAddr(phys)).read_unaligned() }
}

/// Reads what the loader left at `start_info`.
///
/// # Safety
/// Called once, with what a PVH loader passed in EBX, the direct map of the PVH stub in place.
pub(super) unsafe fn read(start_info: u64, direct_map: u64) -> Start {
    // SAFETY: the loader's promise.
    let start: StartInfo = unsafe { read_at(start_info) };
    assert!(
        start.magic == MAGIC,
        "PVH start info at {start_info:#x} has magic {:#x}",
        start.magic
    );
    let count = (start.memory_map_entries as usize).min(MAX_REGIONS);
    let mut regions = REGIONS.lock();
    for (index, region) in regions.iter_mut().take(count).enumerate() {
        let at = start.memory_map + (index * size_of::<MapEntry>()) as u64;
        // SAFETY: the loader's map has that many entries.
        let entry: MapEntry = unsafe { read_at(at) };
        let kind = match entry.kind {
            TYPE_RAM => MemoryRegionKind::Usable,
            other => MemoryRegionKind::UnknownBios(other),
        };
        *region = MemoryRegion {
            start: entry.start,
            end: entry.start + entry.len,
            kind,
        };
    }
    let first = regions.as_mut_ptr();
    // SAFETY: the array is 'static, and its lock is not taken again: this is its one reader.
    let regions: &'static mut [MemoryRegion] =
        unsafe { core::slice::from_raw_parts_mut(first, count) };
    let mut info = BootInfo::new(MemoryRegions::from(regions));
    info.physical_memory_offset = Optional::Some(direct_map);
    if start.rsdp != 0 {
        info.rsdp_addr = Optional::Some(start.rsdp);
    }
    if start.module_count > 0 {
        // SAFETY: the loader's list has that many modules.
        let module: Module = unsafe { read_at(start.modules) };
        info.ramdisk_addr = Optional::Some(direct_map + module.start);
        info.ramdisk_len = module.len;
    }
    // SAFETY: the loader's command line is NUL-terminated and mapped.
    let command_line = unsafe { command_line_at(start.command_line) };
    Start { info, command_line }
}

/// # Safety
/// 0, or the physical address of a NUL-terminated string below 4 GiB that nothing writes.
unsafe fn command_line_at(phys: u64) -> &'static [u8] {
    if phys == 0 {
        return &[];
    }
    let start: *const u8 = layout::at(PhysAddr(phys));
    // SAFETY: bytes up to the NUL are the string's; the limit is below what lies behind it in low memory.
    let is_end = |at: &usize| unsafe { start.wrapping_add(*at).read() } == 0;
    let len = (0..MAX_COMMAND_LINE)
        .find(is_end)
        .unwrap_or(MAX_COMMAND_LINE);
    // SAFETY: `len` bytes were just read.
    unsafe { core::slice::from_raw_parts(start, len) }
}

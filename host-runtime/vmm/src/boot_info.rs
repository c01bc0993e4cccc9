//! The bytes of `bootloader_api::BootInfo` as the guest kernel will read them.
//!
//! The structure cannot be built as a Rust value here, because its memory map is a pointer of the
//! guest's; so its fields are written one by one at the offsets that the compiler gives.

use std::mem::{offset_of, size_of};

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegions};

/// What a range of guest memory holds at entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionKind {
    /// Free, and zero.
    Usable,
    /// Kernel image, boot information, page tables.
    Bootloader,
}

/// One range of guest-physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub start: u64,
    /// The first byte after it.
    pub end: u64,
    /// What it holds.
    pub kind: RegionKind,
}

/// Everything that the boot contract tells the kernel.
#[derive(Debug, Clone)]
pub struct BootData {
    /// Sorted, without overlaps.
    pub regions: Vec<Region>,
    /// Virtual address of the direct map.
    pub physical_memory_offset: u64,
    /// Virtual address and length of the archive.
    pub ramdisk: (u64, u64),
    /// Physical address and length of the kernel image.
    pub kernel: (u64, u64),
    /// The image's virtual base.
    pub kernel_image_offset: u64,
}

impl BootData {
    /// How many bytes [`bytes`](Self::bytes) gives for `regions` memory regions.
    #[must_use]
    pub fn size(regions: usize) -> usize {
        size_of::<BootInfo>() + regions * size_of::<MemoryRegion>()
    }

    /// The structure and, right behind it, its memory map, for the virtual address it will have.
    #[must_use]
    pub fn bytes(&self, address: u64) -> Vec<u8> {
        let mut bytes = vec![0; Self::size(self.regions.len())];
        let info_size = size_of::<BootInfo>();
        let mut put = |at: usize, value: u64| {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        // `MemoryRegions` is pointer, then length, by its `repr(C)`.
        put(
            offset_of!(BootInfo, memory_regions),
            address + info_size as u64,
        );
        put(
            offset_of!(BootInfo, memory_regions) + size_of::<MemoryRegions>() / 2,
            self.regions.len() as u64,
        );
        put_optional(
            &mut put,
            offset_of!(BootInfo, physical_memory_offset),
            self.physical_memory_offset,
        );
        put_optional(&mut put, offset_of!(BootInfo, ramdisk_addr), self.ramdisk.0);
        put(offset_of!(BootInfo, ramdisk_len), self.ramdisk.1);
        put(offset_of!(BootInfo, kernel_addr), self.kernel.0);
        put(offset_of!(BootInfo, kernel_len), self.kernel.1);
        put(
            offset_of!(BootInfo, kernel_image_offset),
            self.kernel_image_offset,
        );
        for (at, region) in self.regions.iter().enumerate() {
            let at = info_size + at * size_of::<MemoryRegion>();
            put(at + offset_of!(MemoryRegion, start), region.start);
            put(at + offset_of!(MemoryRegion, end), region.end);
            put(at + offset_of!(MemoryRegion, kind), kind_tag(region.kind));
        }
        put_version(&mut bytes);
        put_absent(&mut bytes);
        bytes
    }
}

/// `Optional::Some` is tag 0, then the value behind the tag's padding, by its `repr(C)`.
fn put_optional(put: &mut impl FnMut(usize, u64), at: usize, value: u64) {
    put(at, 0);
    put(at + 8, value);
}

/// Tag 1 is `Optional::None`.
fn put_absent(bytes: &mut [u8]) {
    let absent = [
        offset_of!(BootInfo, framebuffer),
        offset_of!(BootInfo, recursive_index),
        offset_of!(BootInfo, rsdp_addr),
        offset_of!(BootInfo, tls_template),
    ];
    for at in absent {
        bytes[at] = 1;
    }
}

/// The version of the contract, three 16-bit numbers and a flag in this order by its `repr(C)`.
fn put_version(bytes: &mut [u8]) {
    let no_regions: &'static mut [MemoryRegion] = &mut [];
    let version = BootInfo::new(no_regions.into()).api_version;
    let at = offset_of!(BootInfo, api_version);
    let numbers = [
        version.version_major(),
        version.version_minor(),
        version.version_patch(),
    ];
    for (slot, number) in bytes[at..at + 6].chunks_exact_mut(2).zip(numbers) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    bytes[at + 6] = u8::from(version.pre_release());
}

/// The discriminant of `MemoryRegionKind` by its `repr(C)`.
fn kind_tag(kind: RegionKind) -> u64 {
    match kind {
        RegionKind::Usable => 0,
        RegionKind::Bootloader => 1,
    }
}

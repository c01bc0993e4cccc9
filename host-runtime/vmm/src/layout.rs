//! The guest's address map: physical addresses the VMM chooses, virtual ones it maps at entry.
//!
//! ```text
//! 0                RAM, up to 3 GiB (page 0 is left out of the memory map)
//! 2 MiB            kernel image, then boot information, command line, page tables
//! 0xd000_0000      virtio-mmio, one page a device
//! 0xe000_0000      the initramfs archive, read-only, at most 256 MiB
//! 0xfec0_0000      IOAPIC; 0xfee0_0000 local APICs; KVM's own pages below 4 GiB
//! 4 GiB            the rest of RAM
//! ```

/// A 4 KiB page.
pub const PAGE: u64 = 4096;
/// A 2 MiB page.
pub const LARGE_PAGE: u64 = 2 << 20;
/// Where the kernel image is loaded.
pub const KERNEL_START: u64 = 2 << 20;
/// RAM below 4 GiB ends here at the latest.
pub const LOW_RAM_END: u64 = 0xc000_0000;
/// RAM goes on here.
pub const HIGH_RAM_START: u64 = 1 << 32;
/// The first virtio-mmio device's registers.
pub const MMIO_START: u64 = 0xd000_0000;
/// The first virtio-mmio device's interrupt line.
pub const MMIO_GSI: u32 = 5;
/// The initramfs archive.
pub const ARCHIVE_START: u64 = 0xe000_0000;
/// The largest archive.
pub const ARCHIVE_MAX: u64 = 256 << 20;
/// Three pages that KVM needs on some processors, in no one's way.
pub const KVM_TSS: usize = 0xfffb_d000;
/// One more such page.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// The direct map of all physical memory, before the random slide.
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// The kernel image, before the random slide.
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// The slide of the image stays below this, so that it ends below the last 2 GiB's end.
pub const IMAGE_SLIDE_MAX: u64 = 512 << 20;
/// The largest kernel image in memory.
pub const IMAGE_MAX: u64 = 64 << 20;
/// The direct map slides by fewer GiB than this: it stays within its 512 GiB slots.
pub const DIRECT_MAP_SLIDE_GIB: u64 = 128;

/// The guest's context identifier on vsock.
pub const GUEST_CID: u64 = 3;

/// Rounds up to a multiple of `align`, a power of two; `None` past the end of the number range.
#[must_use]
pub fn align_up(value: u64, align: u64) -> Option<u64> {
    Some(value.checked_add(align - 1)? & !(align - 1))
}

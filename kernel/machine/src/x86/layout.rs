//! The kernel's half of the address space, and where physical memory is seen in it.
//!
//! | from | what |
//! |---|---|
//! | `DIRECT_MAP` (told at boot) | all RAM and the archive, writable data, never executed |
//! | [`VMEMMAP_START`] | the frames' metadata (see `frame`) |
//! | [`VMALLOC_START`] | kernel stacks and large objects, each between unmapped pages |
//! | `0xffff_ffff_8000_0000` + slide | the image: text, read-only data, data |
//! | [`MMIO_START`] | device registers, uncached |

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::PhysAddr;

/// Memory that is contiguous in virtual memory alone: kernel stacks, large objects.
pub(crate) const VMALLOC_START: u64 = 0xffff_c900_0000_0000;
/// Where that ends.
pub(crate) const VMALLOC_END: u64 = VMALLOC_START + (1 << 39);
/// Where the metadata of frame 0 would be: 32 bytes a frame, mapped where there are frames.
pub(crate) const VMEMMAP_START: u64 = 0xffff_ea00_0000_0000;
/// Where the metadata's room ends: that of 64 TiB.
pub(crate) const VMEMMAP_END: u64 = VMEMMAP_START + (1 << 39);
/// Where device registers are mapped from.
pub(crate) const MMIO_START: u64 = 0xffff_ffff_c000_0000;
/// Where the room for device registers ends.
pub(crate) const MMIO_END: u64 = 0xffff_ffff_ff00_0000;

/// Physical address and length of the archive.
static ARCHIVE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Virtual address of physical address 0 in the direct map.
static DIRECT_MAP: AtomicU64 = AtomicU64::new(0);
/// Physical address of the first byte of the image.
static IMAGE_PHYS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static __ehdr_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __relro_end: u8;
    static __image_end: u8;
    static boot_stack_guard: u8;
}

/// The parts of the image, as virtual addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image {
    pub(crate) start: u64,
    pub(crate) text_start: u64,
    pub(crate) text_end: u64,
    pub(crate) relro_end: u64,
    pub(crate) end: u64,
    pub(crate) stack_guard: u64,
}

/// Where the linker put the parts of the image.
pub(crate) fn image() -> Image {
    Image {
        start: (&raw const __ehdr_start).addr() as u64,
        text_start: (&raw const __text_start).addr() as u64,
        text_end: (&raw const __text_end).addr() as u64,
        relro_end: (&raw const __relro_end).addr() as u64,
        end: (&raw const __image_end).addr() as u64,
        stack_guard: (&raw const boot_stack_guard).addr() as u64,
    }
}

/// Tells where the boot path mapped physical memory and loaded the image.
pub(crate) fn set(direct_map: u64, image_phys: u64) {
    DIRECT_MAP.store(direct_map, Ordering::Relaxed);
    IMAGE_PHYS.store(image_phys, Ordering::Relaxed);
}

/// Tells where the archive is.
pub(crate) fn set_archive(start: u64, len: u64) {
    ARCHIVE[0].store(start, Ordering::Relaxed);
    ARCHIVE[1].store(len, Ordering::Relaxed);
}

/// Whether a byte lies in the archive's pages.
pub(crate) fn is_archive(phys: PhysAddr) -> bool {
    let [start, len] = [&ARCHIVE[0], &ARCHIVE[1]].map(|word| word.load(Ordering::Relaxed));
    (start..start + len).contains(&phys.0)
}

/// Physical address of the first byte of the image.
pub(crate) fn image_phys() -> u64 {
    IMAGE_PHYS.load(Ordering::Relaxed)
}

/// Virtual address of physical address 0.
pub(crate) fn direct_map() -> u64 {
    DIRECT_MAP.load(Ordering::Relaxed)
}

/// Where the direct map shows `phys`. Only RAM and the archive are mapped there.
pub(crate) fn at<T>(phys: PhysAddr) -> *mut T {
    core::ptr::with_exposed_provenance_mut((direct_map() + phys.0) as usize)
}

/// The physical address of a mapped kernel byte.
pub(crate) fn phys_of(byte: NonNull<u8>) -> Option<PhysAddr> {
    let addr = byte.addr().get() as u64;
    let image = image();
    if (image.start..image.end).contains(&addr) {
        return Some(PhysAddr(addr - image.start + image_phys()));
    }
    if (direct_map()..VMALLOC_START).contains(&addr) {
        return Some(PhysAddr(addr - direct_map()));
    }
    super::paging::kernel_translate(addr)
}

//! From the first Rust instruction on the boot CPU to the kernel's `main`.
//!
//! Order matters: log, CPU features, per-CPU data and descriptor tables (a fault says what it is from
//! here on), memory, own page tables, heap, interrupts, clock.

use core::sync::atomic::{AtomicBool, Ordering};

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegionKind, Optional};

use super::BootConfig;
use super::ranges::{Ranges, mapped_later};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::frame::meta::Meta;
use crate::frame::{OutOfMemory, allocator};
use crate::heap::String;
use crate::x86::features::{self, Features};
use crate::x86::{cpu_setup, descriptors, layout, paging, percpu};
use crate::{acpi, fail, heap, interrupt, power, time};

pub use super::smp::start_other_cpus;

/// The direct map of the PVH stub.
const PVH_DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// Where PVH loaders put the image: `p_paddr` of its segments.
const PVH_IMAGE_PHYS: u64 = 0x20_0000;
/// The command line's promise that RAM is zero: firmware leaves things behind.
const ZEROED: &str = "nacre.zeroed";
/// What a machine that is too small is told to have: image and archive need 6 MiB, programs some more.
const LEAST_MIB: u64 = 16;
/// Frame numbers are 32 bits in the allocator's lists: RAM behind is left out.
const RAM_END: u64 = (1 << 32) * PAGE_SIZE as u64;
const _: () = assert!(
    RAM_END / PAGE_SIZE as u64 * size_of::<Meta>() as u64
        <= layout::VMEMMAP_END - layout::VMEMMAP_START,
    "every frame has room for its metadata"
);
/// RAM below is left to firmware tables and to the page that other CPUs start on.
const LOW_MEMORY_END: u64 = 0x10_0000;

static TELL_BOOT_COST: AtomicBool = AtomicBool::new(false);

unsafe extern "Rust" {
    /// What `machine::entry!` defines.
    safe fn nacre_kernel_main(config: BootConfig) -> !;
}

/// Names the function that runs on the boot CPU once heap, frames, traps and timers work.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "Rust" fn nacre_kernel_main(config: $crate::boot::BootConfig) -> ! {
            let main: fn($crate::boot::BootConfig) -> ! = $main;
            main(config)
        }
    };
}

/// What the two ways in have in common. The loader's memory may be the allocator's later: nothing of this is looked
/// at once [`set_up_memory`] is done.
struct Start<'a> {
    info: &'a BootInfo,
    command_line: &'a [u8],
    /// Whether RAM that nobody names is zero (see the boot contract).
    is_zeroed: bool,
    tsc: u64,
}

/// Entered by our VMM; the registers of the boot contract.
pub(super) extern "C" fn from_vmm(
    info: &'static BootInfo,
    command_line: *const u8,
    len: usize,
    tsc: u64,
) -> ! {
    power::mark_phase(1);
    let direct_map = info
        .physical_memory_offset
        .into_option()
        .unwrap_or(PVH_DIRECT_MAP);
    layout::set(direct_map, info.kernel_addr);
    // SAFETY: the boot contract: RSI and RDX are the command line, which stays where it is.
    let command_line = unsafe { core::slice::from_raw_parts(command_line, len) };
    start(&Start {
        info,
        command_line,
        is_zeroed: true,
        tsc,
    })
}

/// Entered by the PVH stub.
pub(super) extern "C" fn from_pvh(start_info: u64, tsc: u64) -> ! {
    power::mark_phase(1);
    layout::set(PVH_DIRECT_MAP, PVH_IMAGE_PHYS);
    // SAFETY: this is the one call, with what the stub took from the loader.
    let found = unsafe { super::pvh::read(start_info, PVH_DIRECT_MAP) };
    start(&Start {
        info: &found.info,
        command_line: found.command_line,
        is_zeroed: says_zeroed(found.command_line),
        tsc,
    })
}

fn start(boot: &Start<'_>) -> ! {
    let given = core::str::from_utf8(boot.command_line).unwrap_or_default();
    features::detect(word(given, "nacre.cpuid").and_then(features::parse_masks));
    heap::start_early();
    descriptors::fill_idt();
    percpu::start_boot_cpu();
    cpu_setup::enable_features();
    // infallible: start-up; there is nothing yet that could be short of memory
    let command_line = alloc::string::String::from_utf8_lossy(boot.command_line).into_owned();
    let archive = archive_range(boot.info);
    acpi::set_rsdp(boot.info.rsdp_addr.into_option().unwrap_or(0));
    set_up_memory(boot, archive);
    heap::use_frames();
    power::mark_phase(2);
    cpu_setup::finish(true);
    interrupt::bare::set_up();
    let number = |key: &str| number_word(&command_line, key);
    time::bare::set_up(boot.tsc, number("nacre.tsc_khz"), number("nacre.epoch_ns"));
    super::smp::set_wanted(number("nacre.cpus"));
    let tell = command_line
        .split_ascii_whitespace()
        .any(|word| word == "nacre.bootcost");
    TELL_BOOT_COST.store(tell, Ordering::Relaxed);
    fail::set_up(word(&command_line, "nacre.fail_alloc"));
    interrupt::bare::turn_on();
    nacre_kernel_main(BootConfig {
        command_line: String::from_std(command_line),
        archive: archive_bytes(archive),
    })
}

fn says_zeroed(command_line: &[u8]) -> bool {
    let mut words = command_line.split(u8::is_ascii_whitespace);
    words.any(|word| word == ZEROED.as_bytes())
}

fn number_word(command_line: &str, key: &str) -> Option<u64> {
    word(command_line, key)?.parse().ok()
}

/// The value of the command line's first word `key=value`.
fn word<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    let value = |word: &'a str| word.strip_prefix(key)?.strip_prefix('=');
    command_line.split_ascii_whitespace().find_map(value)
}

/// Physical start and length of the archive; both 0 when there is none.
fn archive_range(info: &BootInfo) -> (u64, u64) {
    match info.ramdisk_addr {
        Optional::Some(addr) if info.ramdisk_len > 0 => {
            (addr - layout::direct_map(), info.ramdisk_len)
        }
        _ => (0, 0),
    }
}

fn archive_bytes((start, len): (u64, u64)) -> &'static [u8] {
    if len == 0 {
        return &[];
    }
    let first: *const u8 = layout::at(PhysAddr(start));
    // SAFETY: `build_tables` mapped the range read-only in the direct map, `set_up_memory` left it out of the
    // allocator's regions, and no handle to its frames writes it (`Frame::is_boot_memory`).
    unsafe { core::slice::from_raw_parts(first, len as usize) }
}

/// Sorts RAM out: what the allocator gets, what is mapped. Then builds the kernel's page tables and
/// leaves the boot path's.
fn set_up_memory(boot: &Start<'_>, (archive, archive_len): (u64, u64)) {
    let image = layout::image();
    let image_phys = (
        layout::image_phys(),
        layout::image_phys() + image.end - image.start,
    );
    // Whole pages, wherever the loader put it.
    let archive_pages = (
        archive & !(PAGE_SIZE as u64 - 1),
        (archive + archive_len).next_multiple_of(PAGE_SIZE as u64),
    );
    let (mut usable, mut mapped) = (Ranges::new(), Ranges::new());
    for region in boot.info.memory_regions.iter() {
        let start = region.start.next_multiple_of(PAGE_SIZE as u64);
        let end = region.end & !(PAGE_SIZE as u64 - 1);
        match region.kind {
            MemoryRegionKind::Usable => {
                usable.add(start, end);
                mapped.add(start, end);
            }
            MemoryRegionKind::Bootloader => mapped.add(start, end),
            _ => {}
        }
    }
    usable.remove(0, LOW_MEMORY_END);
    usable.remove(RAM_END, u64::MAX);
    for list in [&mut usable, &mut mapped] {
        list.remove(image_phys.0, image_phys.1);
        list.remove(archive_pages.0, archive_pages.1);
    }
    for (start, end) in usable.iter() {
        allocator::add_region(PhysAddr(start), PhysAddr(end), boot.is_zeroed);
        // With pages of a GiB, all of it is a few entries.
        if !features::has(Features::GIB_PAGES)
            && let Some((start, end)) = mapped_later(start, end)
        {
            mapped.remove(start, end);
        }
    }
    layout::set_archive(archive, archive_len);
    let built = share_direct_map(&usable)
        .and_then(|()| build_tables(&mapped, archive_pages, image, image_phys.0));
    if built.is_err() {
        crate::log!(
            "boot: too little memory for the kernel's own page tables: give the machine at least {LEAST_MIB} MiB"
        );
        power::panicked();
    }
    // SAFETY: the new tables map all that is in use: the image with the stack, and RAM at the same
    // address as before.
    unsafe { paging::load_root(paging::kernel_root()) };
    allocator::start();
}

/// Makes the root entries of the direct map, also for what is mapped later: user roots copy them.
fn share_direct_map(usable: &Ranges) -> Result<(), OutOfMemory> {
    paging::make_kernel_root()?;
    let direct_map = layout::direct_map();
    for (start, end) in usable.iter() {
        paging::make_root_entries(direct_map + start, direct_map + end)?;
    }
    Ok(())
}

fn build_tables(
    mapped: &Ranges,
    (archive, archive_end): (u64, u64),
    image: layout::Image,
    image_phys: u64,
) -> Result<(), OutOfMemory> {
    let direct_map = layout::direct_map();
    for (start, end) in mapped.iter() {
        paging::map_kernel(direct_map + start, start, end - start, paging::DATA)?;
    }
    let archive_len = archive_end - archive;
    paging::map_kernel(
        direct_map + archive,
        archive,
        archive_len,
        paging::CONSTANTS,
    )?;
    let parts = [
        (image.start, image.text_start, paging::CONSTANTS),
        (image.text_start, image.text_end, paging::CODE),
        (image.text_end, image.relro_end, paging::CONSTANTS),
        (image.relro_end, image.stack_guard, paging::DATA),
        (
            image.stack_guard + PAGE_SIZE as u64,
            image.end,
            paging::DATA,
        ),
    ];
    for (start, end, flags) in parts {
        let phys = start - image.start + image_phys;
        paging::map_kernel(start, phys, end - start, flags)?;
    }
    Ok(())
}

/// The first user code is about to run.
pub(crate) fn first_user_instruction() {
    let cost = time::bare::ticks_since_entry();
    power::mark_phase(4);
    fail::start();
    if TELL_BOOT_COST.load(Ordering::Relaxed) {
        let total = allocator::total() * PAGE_SIZE / 1024;
        let used = total.saturating_sub(allocator::free() * PAGE_SIZE / 1024);
        crate::log!("boot: {cost} instructions to PID 1, {used} KiB in use of {total}");
    }
}

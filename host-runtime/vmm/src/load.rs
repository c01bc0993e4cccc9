//! Puts everything the kernel finds at entry into guest memory: image, command line, boot
//! information, page tables; decides the random slides and gives the entry registers.

use std::fs::File;
use std::os::fd::AsFd as _;

use vm_memory::{Bytes, GuestAddress};

use super::boot_info::{BootData, Region, RegionKind};
use super::elf::KernelImage;
use super::error::VmmError;
use super::layout::{
    ARCHIVE_START, DIRECT_MAP, DIRECT_MAP_SLIDE_GIB, IMAGE_BASE, IMAGE_SLIDE_MAX, KERNEL_START,
    LARGE_PAGE, PAGE, align_up,
};
use super::memory::GuestRam;
use super::page_tables::{Access, PageTables};
use super::sys;

/// The registers at entry; the rest is fixed by the boot contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Virtual address of the first instruction.
    pub rip: u64,
    /// Virtual address of the boot information.
    pub boot_info: u64,
    /// Virtual address of the command line.
    pub command_line: u64,
    /// Its length in bytes.
    pub command_line_length: u64,
    /// Guest-physical address of the page tables' root.
    pub page_tables: u64,
}

/// Where the random bases are, as multiples of their units.
#[derive(Debug, Clone, Copy)]
pub struct Slide {
    /// The image's, in bytes, a multiple of 2 MiB.
    pub image: u64,
    /// The direct map's, in bytes, a multiple of 1 GiB.
    pub direct_map: u64,
}

impl Slide {
    /// A slide from 16 random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let word = |at: usize| {
            random[at..at + 8]
                .iter()
                .fold(0u64, |word, b| word << 8 | u64::from(*b))
        };
        Self {
            image: word(0) % (IMAGE_SLIDE_MAX / LARGE_PAGE) * LARGE_PAGE,
            direct_map: (word(8) % DIRECT_MAP_SLIDE_GIB) << 30,
        }
    }
}

/// Loads everything and says how to enter.
///
/// # Errors
/// When it does not fit into guest memory.
pub fn load(
    ram: &GuestRam,
    kernel: (KernelImage, File),
    command_line: &str,
    slide: Slide,
) -> Result<Entry, VmmError> {
    let (mut image, file) = kernel;
    let total = ram.ram.iter().map(|(_, length)| length).sum();
    let does_not_fit = || VmmError::DoesNotFit { bytes: total };
    let base = IMAGE_BASE + slide.image;
    let direct = DIRECT_MAP + slide.direct_map;
    image.relocate(base);

    let info_at = KERNEL_START + image.memory_size;
    // At most: low memory, image, tables, rest of low RAM, high RAM.
    let line_at = info_at + BootData::size(5) as u64;
    let line_end = line_at + command_line.len() as u64;
    let tables_at = align_up(line_end, PAGE).ok_or_else(does_not_fit)?;
    let tables = page_tables(ram, &image, tables_at, base, direct).ok_or_else(does_not_fit)?;
    let tables_end = tables_at + tables.size();
    let data = BootData {
        regions: regions(ram, tables_at, tables_end).ok_or_else(does_not_fit)?,
        physical_memory_offset: direct,
        ramdisk: (direct + ARCHIVE_START, ram.archive_length),
        kernel: (KERNEL_START, image.memory_size),
        kernel_image_offset: base,
    };

    let write = |bytes: &[u8], at: u64| {
        ram.memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|_| does_not_fit())
    };
    for (at, bytes) in place_image(ram, &image, &file) {
        write(bytes, KERNEL_START + at)?;
    }
    write(&data.bytes(direct + info_at), info_at)?;
    write(command_line.as_bytes(), line_at)?;
    for (page, at) in tables.bytes().zip((tables_at..).step_by(4096)) {
        write(&page, at)?;
    }
    Ok(Entry {
        rip: base + image.entry,
        boot_info: direct + info_at,
        command_line: direct + line_at,
        command_line_length: command_line.len() as u64,
        page_tables: tables.root(),
    })
}

/// Maps the pages that the file holds as they are, which are the host's page cache then and shared by all microVMs, and
/// gives what is left to write. A page that the guest changes becomes its own.
fn place_image<'i>(ram: &GuestRam, image: &'i KernelImage, file: &File) -> Vec<(u64, &'i [u8])> {
    let mut left = Vec::new();
    let mut done = 0;
    let length = image.bytes.len() as u64;
    let part = |from: u64, to: u64| {
        let (start, end) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        Some((from, image.bytes.get(start..end)?))
    };
    for piece in &image.unchanged {
        let at = GuestAddress(KERNEL_START + piece.at);
        // One that cannot be mapped is copied.
        if sys::map_file(&ram.memory, at, file.as_fd(), piece.offset, piece.length).is_ok() {
            left.extend(part(done, piece.at));
            done = piece.at + piece.length;
        }
    }
    left.extend(part(done, length));
    left
}

fn page_tables(
    ram: &GuestRam,
    image: &KernelImage,
    at: u64,
    base: u64,
    direct: u64,
) -> Option<PageTables> {
    let mut tables = PageTables::new(at);
    for (start, length) in &ram.ram {
        tables.map(direct + start, *start, *length, Access::ReadWrite);
    }
    let archive = align_up(ram.archive_length, LARGE_PAGE)?;
    tables.map(
        direct + ARCHIVE_START,
        ARCHIVE_START,
        archive,
        Access::ReadOnly,
    );
    let image = align_up(image.memory_size, LARGE_PAGE)?;
    tables.map(base, KERNEL_START, image, Access::Image);
    Some(tables)
}

/// The memory map; `None` when the page tables end past low RAM.
fn regions(ram: &GuestRam, tables_at: u64, tables_end: u64) -> Option<Vec<Region>> {
    let (_, low_length) = ram.ram.first()?;
    if tables_end >= *low_length {
        return None;
    }
    let region = |start, end, kind| Region { start, end, kind };
    let mut regions = vec![
        region(PAGE, KERNEL_START, RegionKind::Usable),
        region(KERNEL_START, tables_at, RegionKind::Bootloader),
        region(tables_at, tables_end, RegionKind::Bootloader),
        region(tables_end, *low_length, RegionKind::Usable),
    ];
    for (start, length) in ram.ram.iter().skip(1) {
        regions.push(region(*start, start + length, RegionKind::Usable));
    }
    Some(regions)
}

//! Guest memory: RAM, which the host provides as the guest touches it, and the archive beside it.
//!
//! Both are one [`Memory`] to the devices. The archive is mapped privately: its pages are the host's
//! page cache, shared by all microVMs, and should a hostile guest name it as a device's buffer to write
//! to, the write lands in a private copy that no one sees (the guest itself cannot write there).

use std::fs::File;
use std::sync::Arc;

use devices::balloon::Discard;
use rustix::fs::{Advice, fadvise};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::error::{VmmError, archive_too_big};
use super::layout::{
    ARCHIVE_MAX, ARCHIVE_START, HIGH_RAM_START, LARGE_PAGE, LOW_RAM_END, PAGE, align_up,
};

/// All memory that devices may reach, as the guest addresses it.
pub type Memory = GuestMemoryMmap<()>;

/// [`Memory`] as the devices share it.
pub type SharedMemory = Arc<Memory>;

/// Guest memory and where its parts are.
#[derive(Debug)]
pub struct GuestRam {
    /// RAM and archive.
    pub memory: Arc<Memory>,
    /// Start and length of every range of RAM.
    pub ram: Vec<(u64, u64)>,
    /// The archive's length in bytes, not rounded.
    pub archive_length: u64,
}

/// The ranges of RAM for so many bytes, rounded up to 2 MiB.
#[must_use]
pub fn ram_ranges(bytes: u64) -> Vec<(u64, u64)> {
    let bytes = align_up(bytes, LARGE_PAGE).unwrap_or(LOW_RAM_END);
    if bytes <= LOW_RAM_END {
        return vec![(0, bytes)];
    }
    vec![(0, LOW_RAM_END), (HIGH_RAM_START, bytes - LOW_RAM_END)]
}

impl GuestRam {
    /// Reserves RAM and maps the archive.
    ///
    /// # Errors
    /// When the host has no room, or the archive is larger than its window.
    pub fn new(bytes: u64, archive: File, archive_name: &str) -> Result<Self, VmmError> {
        let ram = ram_ranges(bytes);
        let (archive_length, archive) = map_archive(archive, archive_name)?;
        let mut regions = Vec::new();
        for (start, length) in &ram {
            regions.push(Arc::new(region(*start, *length, None, "guest memory")?));
        }
        // Regions are sorted by address: the archive lies between low and high RAM.
        regions.insert(1, Arc::new(archive));
        let memory =
            GuestMemoryMmap::from_arc_regions(regions).map_err(|error| VmmError::Memory {
                what: "guest memory",
                bytes,
                message: error.to_string(),
            })?;
        Ok(Self {
            memory: Arc::new(memory),
            ram,
            archive_length,
        })
    }
}

/// RAM that the guest reports as free goes back to the host; the archive, which is beside it, does not.
#[derive(Debug)]
pub struct Reclaimed(pub SharedMemory);

impl Discard for Reclaimed {
    fn discard(&self, start: GuestAddress, bytes: u64) -> std::io::Result<()> {
        Ok(crate::sys::discard(&self.0, start, bytes)?)
    }
}

fn map_archive(file: File, name: &str) -> Result<(u64, GuestRegionMmap<()>), VmmError> {
    let io = |source| VmmError::Io {
        what: "read the initramfs archive",
        source,
    };
    let length = file.metadata().map_err(io)?.len();
    if length > ARCHIVE_MAX {
        return Err(VmmError::Archive {
            path: name.to_owned(),
            what: archive_too_big(length),
        });
    }
    // Reading ahead is only a help.
    let _ = fadvise(&file, 0, None, Advice::WillNeed);
    let whole = align_up(length.max(1), PAGE).unwrap_or(ARCHIVE_MAX);
    let region = region(
        ARCHIVE_START,
        whole,
        Some(FileOffset::new(file, 0)),
        "the archive",
    )?;
    Ok((length, region))
}

fn region(
    start: u64,
    length: u64,
    file: Option<FileOffset>,
    what: &'static str,
) -> Result<GuestRegionMmap<()>, VmmError> {
    let failed = |message: String| VmmError::Memory {
        what,
        bytes: length,
        message,
    };
    let size = usize::try_from(length).map_err(|error| failed(error.to_string()))?;
    let mut flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let mut builder = MmapRegionBuilder::new(size);
    match file {
        Some(file) => builder = builder.with_file_offset(file),
        None => flags |= libc::MAP_ANONYMOUS,
    }
    let builder = builder
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(flags);
    let mapped = builder.build().map_err(|error| failed(error.to_string()))?;
    GuestRegionMmap::new(mapped, GuestAddress(start))
        .ok_or_else(|| failed("the address range wraps".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use vm_memory::Bytes;

    #[test]
    fn ram_leaves_room_for_devices() {
        assert_eq!(ram_ranges(32 << 20), [(0, 32 << 20)]);
        assert_eq!(ram_ranges((32 << 20) + 1), [(0, 34 << 20)]);
        assert_eq!(ram_ranges(3 << 30), [(0, 3 << 30)]);
        assert_eq!(ram_ranges(4 << 30), [(0, 3 << 30), (1 << 32, 1 << 30)]);
    }

    #[test]
    fn ram_that_is_taken_back_is_zero_and_nothing_else_is_taken() {
        let path = std::env::temp_dir().join(format!("nacre-discard-{}", std::process::id()));
        std::fs::write(&path, [7; 8192]).expect("a temporary file");
        let file = File::open(&path).expect("just made");
        std::fs::remove_file(&path).expect("just made");
        let ram = GuestRam::new(32 << 20, file, "archive").expect("memory");
        let byte = |at: u64| ram.memory.read_obj::<u8>(GuestAddress(at)).expect("mapped");
        let written = [0, PAGE, 2 * PAGE, ARCHIVE_START, ARCHIVE_START + PAGE];
        for at in written {
            ram.memory
                .write_obj(1_u8, GuestAddress(at))
                .expect("mapped");
        }
        let reclaimed = Reclaimed(Arc::clone(&ram.memory));
        let discard = |start, bytes| reclaimed.discard(GuestAddress(start), bytes);
        for (start, bytes) in [
            (ARCHIVE_START, PAGE),
            (ARCHIVE_START - PAGE, PAGE),
            (0, 100),
            (8, PAGE),
            (0, 0),
            ((32 << 20) - PAGE, 2 * PAGE),
            (0, ARCHIVE_START + PAGE),
            (u64::MAX - PAGE + 1, PAGE),
        ] {
            discard(start, bytes).expect_err("not RAM, or not pages");
        }
        assert_eq!(written.map(byte), [1; 5]);
        discard(PAGE, PAGE).expect("RAM");
        assert_eq!(written.map(byte), [1, 0, 1, 1, 1]);
        discard(0, 32 << 20).expect("RAM");
        assert_eq!(written.map(byte), [0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_device_write_to_the_archive_stays_private() {
        let path = std::env::temp_dir().join(format!("nacre-archive-{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("a temporary file");
        file.write_all(b"archive").expect("room for it");
        let ram = GuestRam::new(32 << 20, file, "archive").expect("memory");
        assert_eq!(ram.archive_length, 7);
        ram.memory
            .write_slice(b"ARCH", GuestAddress(ARCHIVE_START))
            .expect("mapped");
        let after = std::fs::read(&path).expect("still there");
        std::fs::remove_file(&path).expect("still there");
        assert_eq!(after, b"archive");
    }
}

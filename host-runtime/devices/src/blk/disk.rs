//! The raw file behind a block device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use fuse_backend_rs::file_buf::FileVolatileSlice;
use fuse_backend_rs::file_traits::FileReadWriteVolatile;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

/// Bytes of a sector, the unit of the device's addresses.
pub const SECTOR: u32 = 512;

/// Zeroes that are written where the file system knows no shorter way, at once.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// A file of so many whole sectors.
#[derive(Debug)]
pub struct Disk {
    file: File,
    sectors: u64,
    is_read_only: bool,
    can_discard: bool,
    /// What the guest is told when it asks which disk this is.
    id: String,
}

impl Disk {
    /// The disk in `file`, of which a last part of a sector is left out. Whether it can be written to is what the
    /// descriptor says. `id` is what the guest finds as its serial number, 20 bytes of it at most.
    ///
    /// # Errors
    /// When the host does not tell of the file.
    pub fn new(file: File, id: String) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mode = rustix::fs::fcntl_getfl(&file)? & OFlags::RWMODE;
        let is_read_only = mode == OFlags::RDONLY;
        Ok(Self {
            can_discard: !is_read_only && punch(&file, length, 4096).is_ok(),
            sectors: length / u64::from(SECTOR),
            file,
            is_read_only,
            id,
        })
    }

    /// The disk in `file` that the guest finds as number so and so.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn numbered(file: File, number: u32) -> io::Result<Self> {
        Self::new(file, format!("nacre-disk{number}"))
    }

    /// How many sectors it has.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Whether nothing can be written to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Whether its file system takes space back. Tried behind the end of the file, where there is none.
    #[must_use]
    pub fn can_discard(&self) -> bool {
        self.can_discard
    }

    /// Its serial number.
    pub(super) fn id(&self) -> &[u8] {
        self.id.as_bytes()
    }

    /// The place of a range of bytes in the file, if it is one of whole sectors of this disk.
    pub(super) fn range(&self, sector: u64, bytes: u64) -> Option<u64> {
        let sectors = bytes / u64::from(SECTOR);
        let is_whole = bytes.is_multiple_of(u64::from(SECTOR));
        let inside = sector.checked_add(sectors)? <= self.sectors;
        (is_whole && inside).then(|| sector * u64::from(SECTOR))
    }

    /// Reads into these parts of guest memory, all of them.
    pub(super) fn read(&mut self, parts: &[FileVolatileSlice<'_>], at: u64) -> io::Result<()> {
        let file = &mut self.file;
        whole(parts, at, |parts, at| {
            file.read_vectored_at_volatile(parts, at)
        })
    }

    /// Writes these parts of guest memory, all of them.
    pub(super) fn write(&mut self, parts: &[FileVolatileSlice<'_>], at: u64) -> io::Result<()> {
        let file = &mut self.file;
        whole(parts, at, |parts, at| {
            file.write_vectored_at_volatile(parts, at)
        })
    }

    /// Has what was written reach the host's disk.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives space back; what is there afterwards is zero.
    pub(super) fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        Ok(punch(&self.file, at, bytes)?)
    }

    /// Makes a range zero; its space may be given back if the guest does not mind.
    pub(super) fn write_zeroes(&self, at: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let zeroed = match may_unmap && self.can_discard {
            true => punch(&self.file, at, bytes),
            false => {
                let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                rustix::io::retry_on_intr(|| fallocate(&self.file, flags, at, bytes))
            }
        };
        match zeroed {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_out_zeroes(at, bytes),
            zeroed => Ok(zeroed?),
        }
    }

    fn write_out_zeroes(&self, at: u64, bytes: u64) -> io::Result<()> {
        let end = at + bytes;
        let mut at = at;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let now = &ZEROES[..left.min(ZEROES.len())];
            self.file.write_all_at(now, at)?;
            at += now.len() as u64;
        }
        Ok(())
    }
}

/// Takes the space of a range away.
fn punch(file: &File, at: u64, bytes: u64) -> Result<(), Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::io::retry_on_intr(|| fallocate(file, flags, at, bytes))
}

/// Has `transfer` go on until all parts are done.
fn whole(
    parts: &[FileVolatileSlice<'_>],
    at: u64,
    mut transfer: impl FnMut(&[FileVolatileSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut parts: Vec<_> = parts
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect();
    let mut at = at;
    let mut first = 0;
    while first < parts.len() {
        let mut done = match transfer(&parts[first..], at) {
            // The file is shorter than it was.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(done) => done,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        at += done as u64;
        while let Some(part) = parts.get_mut(first)
            && done > 0
        {
            if done < part.len() {
                *part = part.offset(done).map_err(io::Error::other)?;
                break;
            }
            done -= part.len();
            first += 1;
        }
    }
    Ok(())
}

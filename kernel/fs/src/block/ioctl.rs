//! What programs ask of a disk (linux/fs.h).

use abi::{Errno, Result};

use super::file::BlockFile;
use super::queue::{Erase, SECTOR};
use crate::ioctl::{get_bytes, put_bytes, put_int};

const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKSSZGET: u32 = 0x1268;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKGETSIZE64: u32 = 0x8008_1272;

/// Bytes that Linux reads and writes a disk's cache by.
const CACHE_BLOCK: usize = 4096;

pub(super) fn ioctl(file: &BlockFile, command: u32, arg: u64) -> Result<u64> {
    let disk = &file.disk;
    let block = usize::try_from(disk.limits().block).unwrap_or(0);
    match command {
        BLKROGET => put_int(arg, usize::from(disk.limits().is_read_only)),
        BLKGETSIZE64 => put_bytes(arg, &disk.size_bytes().to_ne_bytes()),
        BLKGETSIZE => put_bytes(arg, &(disk.size_bytes() / u64::from(SECTOR)).to_ne_bytes()),
        BLKSSZGET | BLKPBSZGET | BLKIOMIN => put_int(arg, block),
        BLKBSZGET => put_int(arg, CACHE_BLOCK),
        BLKIOOPT | BLKALIGNOFF | BLKDISCARDZEROES => put_int(arg, 0),
        // As a disk whose kind is not known.
        BLKROTATIONAL => put_bytes(arg, &1u16.to_ne_bytes()),
        BLKFLSBUF if !file.is_admin => Err(Errno::EACCES),
        BLKFLSBUF => {
            disk.sync()?;
            disk.mapping.invalidate(0..disk.size_bytes());
            Ok(0)
        }
        BLKRRPART if !file.is_admin => Err(Errno::EACCES),
        // There are no partitions.
        BLKRRPART => Err(Errno::EINVAL),
        BLKDISCARD => erase(file, Erase::Discard, arg),
        BLKZEROOUT => erase(file, Erase::Zero, arg),
        _ => Err(Errno::ENOTTY),
    }
}

/// Erases the range whose start and length are at `arg`.
fn erase(file: &BlockFile, how: Erase, arg: u64) -> Result<u64> {
    if !file.is_writer {
        return Err(Errno::EBADF);
    }
    let disk = &file.disk;
    if disk.limits().is_read_only {
        return Err(Errno::EPERM);
    }
    let mut range = [0; 16];
    get_bytes(arg, &mut range)?;
    let [start, len] = [0, 8].map(|at| {
        let word = range[at..].first_chunk().copied().unwrap_or_default();
        u64::from_ne_bytes(word)
    });
    let block = u64::from(disk.limits().block);
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    let is_aligned = start.is_multiple_of(block) && len.is_multiple_of(block);
    if !is_aligned || len == 0 || end > disk.size_bytes() {
        return Err(Errno::EINVAL);
    }
    let _guard = disk.mapping.lock_writes();
    disk.queue.erase(how, start, len)?;
    // What of it is cached goes, stored to or not. After a discard it may be anything.
    disk.mapping.punched(start..end);
    Ok(0)
}

//! One request to a block device (virtio 1.2, section 5.2.6), whatever the guest has put it into.
//!
//! The first 16 readable bytes are the header and the last writable byte is the status, however the descriptors
//! between them are cut; what is in between is data, which goes from guest memory to the file and back without
//! being copied. A chain without room for a status is used with nothing written.

use fuse_backend_rs::file_buf::FileVolatileSlice;
use vm_memory::GuestMemory;

use super::disk::{Disk, SECTOR};
use super::{F_DISCARD, F_FLUSH, F_RO, F_WRITE_ZEROES, MOST_RANGES, MOST_SECTORS};
use crate::{Chain, Space};

/// Kinds of requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Bytes of a header, of an id, and of a range to discard or make zero.
const HEADER: usize = 16;
const ID: usize = 20;
const RANGE: usize = 16;
/// The flag of a range whose space may be given back; no other is known.
const UNMAP: u32 = 1;

/// What the status byte says: how a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Io = 1,
    Unsupported = 2,
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Io
    }
}

/// Parts of guest memory, taken from the front.
struct Parts<'m>(Vec<FileVolatileSlice<'m>>);

impl<'m> Parts<'m> {
    /// The parts of a chain that are readable, or those that are writable; `None` when one is not in memory.
    fn of<S: Space>(memory: &'m S::M, chain: &Chain<S>, is_writable: bool) -> Option<Self> {
        let descriptors = chain.clone();
        let wanted = descriptors.filter(|part| part.is_write_only() == is_writable);
        let parts = wanted.map(|part| {
            let slice = memory.get_slice(part.addr(), part.len() as usize).ok()?;
            Some(FileVolatileSlice::from_volatile_slice(&slice))
        });
        parts.collect::<Option<_>>().map(Self)
    }

    fn length(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// Takes `N` bytes out of the front; `None` when there are fewer.
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let mut done = 0;
        while done < N {
            let part = self.0.first_mut()?;
            let now = part.len().min(N - done);
            part.as_volatile_slice()
                .copy_to(&mut bytes[done..done + now]);
            *part = part.offset(now).ok()?;
            if part.is_empty() {
                self.0.remove(0);
            }
            done += now;
        }
        Some(bytes)
    }

    /// Takes the last byte away from the others.
    fn split_last(&mut self) -> Option<FileVolatileSlice<'m>> {
        while self.0.last().is_some_and(FileVolatileSlice::is_empty) {
            self.0.pop();
        }
        let last = self.0.pop()?;
        let before = last.len() - 1;
        let byte = last.offset(before).ok()?;
        let rest = last.as_volatile_slice().subslice(0, before).ok()?;
        self.0.push(FileVolatileSlice::from_volatile_slice(&rest));
        Some(byte)
    }

    /// Fills the front.
    fn put(&mut self, mut bytes: &[u8]) {
        for part in &self.0 {
            let (now, later) = bytes.split_at(part.len().min(bytes.len()));
            part.as_volatile_slice().copy_from(now);
            bytes = later;
        }
    }
}

/// Answers one request; says how many bytes were written to it.
pub(super) fn answer<S: Space>(
    disk: &mut Disk,
    features: u64,
    memory: &S::M,
    chain: &Chain<S>,
) -> u32 {
    let readable = Parts::of::<S>(memory, chain, false);
    let writable = Parts::of::<S>(memory, chain, true);
    let (Some(mut readable), Some(mut writable)) = (readable, writable) else {
        return 0;
    };
    let Some(status) = writable.split_last() else {
        return 0;
    };
    let (byte, data) = match perform(disk, features, &mut readable, &mut writable) {
        Ok(data) => (0, data),
        Err(failure) => (failure as u8, 0),
    };
    status.as_volatile_slice().copy_from(&[byte]);
    u32::try_from(data + 1).unwrap_or(u32::MAX)
}

/// Does what is asked; gives how many bytes of data were written to guest memory.
fn perform(
    disk: &mut Disk,
    features: u64,
    readable: &mut Parts<'_>,
    writable: &mut Parts<'_>,
) -> Result<u64, Failure> {
    let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = readable.take::<HEADER>().ok_or(Failure::Io)?;
    let sector = u64::from_le_bytes(sector);
    let has = |feature: u64| match features & feature {
        0 => Err(Failure::Unsupported),
        _ => Ok(()),
    };
    // Also refused by a driver that was told, and by the descriptor.
    let may_write = |disk: &Disk| match disk.is_read_only() || features & F_RO != 0 {
        true => Err(Failure::Io),
        false => Ok(()),
    };
    match u32::from_le_bytes([k0, k1, k2, k3]) {
        IN => {
            let bytes = writable.length();
            let at = disk.range(sector, bytes).ok_or(Failure::Io)?;
            disk.read(&writable.0, at)?;
            return Ok(bytes);
        }
        OUT => {
            may_write(disk)?;
            let at = disk.range(sector, readable.length());
            disk.write(&readable.0, at.ok_or(Failure::Io)?)?;
            // A driver that cannot ask for a flush is never left with what could be lost.
            if features & F_FLUSH == 0 {
                disk.flush()?;
            }
        }
        FLUSH => {
            has(F_FLUSH)?;
            disk.flush()?;
        }
        GET_ID => {
            let mut id = [0; ID];
            let known = disk.id();
            let length = known.len().min(ID);
            id[..length].copy_from_slice(&known[..length]);
            let room = usize::try_from(writable.length()).unwrap_or(ID).min(ID);
            writable.put(&id[..room]);
            return Ok(room as u64);
        }
        DISCARD => {
            may_write(disk)?;
            has(F_DISCARD)?;
            for_ranges(disk, readable, |disk, at, bytes, flags| match flags {
                0 => Ok(disk.discard(at, bytes)?),
                _ => Err(Failure::Unsupported),
            })?;
        }
        WRITE_ZEROES => {
            may_write(disk)?;
            has(F_WRITE_ZEROES)?;
            for_ranges(disk, readable, |disk, at, bytes, flags| {
                Ok(disk.write_zeroes(at, bytes, flags & UNMAP != 0)?)
            })?;
            if features & F_FLUSH == 0 {
                disk.flush()?;
            }
        }
        _ => return Err(Failure::Unsupported),
    }
    Ok(0)
}

/// Calls `act` with place, length and flags of the request's one range.
fn for_ranges(
    disk: &Disk,
    readable: &mut Parts<'_>,
    act: impl FnOnce(&Disk, u64, u64, u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if readable.length() != RANGE as u64 * u64::from(MOST_RANGES) {
        return Err(Failure::Io);
    }
    let range = readable.take::<RANGE>().ok_or(Failure::Io)?;
    let [s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3, flags @ ..] = range;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let count = u32::from_le_bytes([c0, c1, c2, c3]);
    let flags = u32::from_le_bytes(flags);
    if flags & !UNMAP != 0 {
        return Err(Failure::Unsupported);
    }
    if count == 0 || count > MOST_SECTORS {
        return Err(Failure::Io);
    }
    let bytes = u64::from(count) * u64::from(SECTOR);
    let at = disk.range(sector, bytes).ok_or(Failure::Io)?;
    act(disk, at, bytes, flags)
}

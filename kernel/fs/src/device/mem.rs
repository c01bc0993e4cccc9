//! /dev/null, zero, full, random and urandom (null(4), full(4), random(4)).

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use memory::io::{IoReader, IoWriter};
use memory::{Mapping, PageSource};

use super::{CharDriver, Reach, register_char};
use crate::cred::Credentials;
use crate::file_ops::{FileOps, Io, Seek};
use crate::flags::OpenFlags;
use crate::metadata::DeviceId;
use crate::path::Path;
use crate::random;

/// Major number of memory devices.
const MEM_MAJOR: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Null,
    Zero,
    Full,
    Random,
    /// The same, once seeded; it cannot be waited for.
    Urandom,
}

pub(super) fn register() -> Result<()> {
    let all = [
        (3, "null", Device::Null),
        (5, "zero", Device::Zero),
        (7, "full", Device::Full),
        (8, "random", Device::Random),
        (9, "urandom", Device::Urandom),
    ];
    for (minor, name, device) in all {
        let id = DeviceId::new(MEM_MAJOR, minor);
        register_char(id, name, 0o666, Reach::Any, try_arc(device)?)?;
    }
    Ok(())
}

impl CharDriver for Device {
    fn open(
        &self,
        _: DeviceId,
        _: &Path,
        _: OpenFlags,
        _: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>> {
        Ok(try_arc(*self)?)
    }
}

/// Fills all of `to` with zeroes, or as much as there is time for before a signal.
fn zero_all(to: &mut IoWriter<'_>) -> Result<usize> {
    const PART: usize = 256 * 1024;
    let mut done = 0;
    while to.remaining() > 0 {
        let wanted = to.remaining().min(PART);
        match to.zero(wanted) {
            Ok(count) => done += count,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        if wanted == PART && sched::thread::current().is_interrupted() {
            break;
        }
    }
    Ok(done)
}

impl FileOps for Device {
    fn read(&self, to: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        match self {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => zero_all(to),
            Device::Random | Device::Urandom => random::read(to),
        }
    }

    fn write(&self, from: &mut IoReader<'_>, _: &mut Io) -> Result<usize> {
        match self {
            Device::Null | Device::Zero => Ok(from.skip(from.remaining())),
            Device::Full => Err(Errno::ENOSPC),
            Device::Random | Device::Urandom => random::write(from),
        }
    }

    /// The others are always ready: epoll refuses them.
    fn is_pollable(&self) -> bool {
        *self == Device::Random
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn has_position(&self) -> bool {
        false
    }

    /// Seeks succeed and stay at 0 (null(4)).
    fn seek(&self, _: u64, _: Seek) -> Result<u64> {
        Ok(0)
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>> {
        match self {
            Device::Zero => Ok(Mapping::in_memory(None, i64::MAX.cast_unsigned())?),
            Device::Null | Device::Full | Device::Random | Device::Urandom => Err(Errno::ENODEV),
        }
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        match self {
            Device::Random | Device::Urandom => random::ioctl(command, arg),
            _ => Err(Errno::ENOTTY),
        }
    }
}

//! /proc/PID/mem: the memory of a process as a file.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use collections::try_arc;
use fs::{FileOps, Io, Seek};
use machine::UserAddr;
use memory::AddressSpace;
use memory::io::{IoReader, IoWriter};

use super::scope::Scope;

/// Bytes that are copied at a time.
const PIECE: usize = 2048;

/// Opens the memory that the process has now; who may look into it is asked once, here.
pub(super) fn open(scope: &Scope) -> Result<Arc<dyn FileOps>> {
    let memory = scope.memory()?;
    let file = try_arc(Memory {
        space: memory.as_ref().map(Arc::downgrade).unwrap_or_default(),
    })?;
    Ok(file)
}

/// Positions are addresses. The memory goes when its process does: then nothing is read or written.
struct Memory {
    space: Weak<AddressSpace>,
}

impl FileOps for Memory {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let Some(space) = self.space.upgrade() else {
            return Ok(0);
        };
        let mut piece = [0; PIECE];
        let mut done = 0;
        while to.remaining() > 0 {
            let len = to.remaining().min(PIECE);
            let at = io.offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let read = space.read_at(UserAddr(at), &mut piece[..len], true);
            if read == 0 && done == 0 {
                return Err(Errno::EIO);
            }
            done += to.write(&piece[..read])?;
            if read < len {
                break;
            }
            sched::cond_resched();
        }
        Ok(done)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let Some(space) = self.space.upgrade() else {
            return Ok(0);
        };
        let mut piece = [0; PIECE];
        let mut done = 0;
        while from.remaining() > 0 {
            let len = from.read(&mut piece)?;
            let at = io.offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let written = space.write_at(UserAddr(at), &piece[..len], true);
            if written == 0 && done == 0 {
                return Err(Errno::EIO);
            }
            done += written;
            if written < len {
                break;
            }
            sched::cond_resched();
        }
        Ok(done)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    /// Any 64 bits are a position.
    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        match to {
            Seek::End(_) => Err(Errno::EINVAL),
            to => fs::seek_in(0, position, to),
        }
    }
}

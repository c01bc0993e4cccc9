//! Opening FIFOs: every open of one inode meets at one pipe, and waits for the other side.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::{Map, try_arc};
use machine::sync::SpinLock;

use super::buffer::Pipe;
use super::end::PipeEnd;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::path::InodeKey;

static FIFOS: SpinLock<Map<InodeKey, Weak<Pipe>>> = SpinLock::new(Map::new());

fn pipe_of(key: InodeKey) -> Result<Arc<Pipe>> {
    let mut fifos = FIFOS.lock();
    if let Some(pipe) = fifos.get(&key).and_then(Weak::upgrade) {
        return Ok(pipe);
    }
    fifos.retain(|_, pipe| pipe.strong_count() > 0);
    let pipe = Pipe::new()?;
    fifos.try_insert(key, Arc::downgrade(&pipe))?;
    Ok(pipe)
}

/// Opens the FIFO `key`, as fifo(7) says.
pub(crate) fn open_fifo(key: InodeKey, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let pipe = pipe_of(key)?;
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    let (reads, writes) = (flags.is_readable(), flags.is_writable());
    if writes && !reads && nonblocking && !pipe.has_readers() {
        return Err(Errno::ENXIO);
    }
    let writers_before = pipe.writer_opens.load(Ordering::Acquire);
    let readers_before = pipe.reader_opens.load(Ordering::Acquire);
    // Asked before this end is there: an opener that waits for this side may be gone again as soon as it is.
    let (had_readers, had_writers) = (pipe.has_readers(), pipe.has_writers());
    let mut end = PipeEnd::new(&pipe, reads, writes);
    if reads && !writes && !pipe.has_writers() {
        end.writers_before = Some(writers_before);
    }
    if reads {
        pipe.write_queue.wake_all();
    }
    if writes {
        pipe.read_queue.wake_all();
    }
    let waits = reads != writes && !nonblocking;
    if waits && reads && !had_writers {
        pipe.read_queue.wait_interruptible(|| {
            let came = pipe.writer_opens.load(Ordering::Acquire) != writers_before;
            (came || pipe.has_writers()).then_some(())
        })?;
    }
    if waits && writes && !had_readers {
        pipe.write_queue.wait_interruptible(|| {
            let came = pipe.reader_opens.load(Ordering::Acquire) != readers_before;
            (came || pipe.has_readers()).then_some(())
        })?;
    }
    Ok(try_arc(end)?)
}

//! [`Pipe`]: a pipe's buffer, and who has it open.
//!
//! Locking: the ring is under a sleeping lock, held while bytes are copied from or to user memory, as
//! the pipe's own buffer is what makes `PIPE_BUF` writes atomic. What waiters look at are atomics.
//!
//! Waiting: of many readers one is woken at a time, and one that has waited wakes the next if it leaves something.
//! So are writers that can do with any room; those of a whole message wait together, as each may need
//! another room.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::try_arc;
use memory::io::{IoReader, IoWriter};
use sched::{Mutex, WaitQueue};

use super::ring::Ring;
use crate::job_control::job_control;

/// Writes of up to this many bytes are not mixed with others' (`PIPE_BUF`).
pub const PIPE_BUF: usize = raw::PIPE_BUF as usize;
/// What a pipe holds until it is told otherwise.
pub(super) const DEFAULT_CAPACITY: usize = 65536;
const SIGPIPE: u8 = 13;

/// A pipe's buffer and who has it open.
#[derive(Debug)]
pub struct Pipe {
    pub(super) ring: Mutex<Ring>,
    /// Bytes in the ring, for those who wait.
    pub(super) len: AtomicUsize,
    pub(super) capacity: AtomicUsize,
    pub(super) readers: AtomicUsize,
    pub(super) writers: AtomicUsize,
    /// How often each side was opened: a FIFO's open waits for a partner that may be gone again already.
    pub(super) reader_opens: AtomicUsize,
    pub(super) writer_opens: AtomicUsize,
    /// Waits for bytes, or for a first writer.
    pub(super) read_queue: WaitQueue,
    /// Waits for room, or for a first reader.
    pub(super) write_queue: WaitQueue,
}

impl Pipe {
    pub(super) fn new() -> Result<Arc<Self>> {
        let new = try_arc(Self {
            ring: Mutex::new(Ring::new()),
            len: AtomicUsize::new(0),
            capacity: AtomicUsize::new(DEFAULT_CAPACITY),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            reader_opens: AtomicUsize::new(0),
            writer_opens: AtomicUsize::new(0),
            read_queue: WaitQueue::new(),
            write_queue: WaitQueue::new(),
        });
        Ok(new?)
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn room(&self) -> usize {
        self.capacity
            .load(Ordering::Acquire)
            .saturating_sub(self.len())
    }

    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    pub(super) fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    pub(super) fn read(&self, to: &mut IoWriter<'_>, nonblocking: bool) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let mut has_waited = false;
        loop {
            let mut ring = self.ring.lock();
            if ring.len() > 0 {
                let result = ring.give(to);
                let left = ring.len();
                self.len.store(left, Ordering::Release);
                drop(ring);
                self.write_queue.wake_one();
                if has_waited && left > 0 {
                    self.read_queue.wake_one();
                }
                return result;
            }
            drop(ring);
            if !self.has_writers() {
                // A last writer may have come and gone since the look at the ring.
                if self.len() > 0 {
                    continue;
                }
                return Ok(0);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            has_waited = true;
            self.read_queue.wait_interruptible_alone(None, || {
                (self.len() > 0 || !self.has_writers()).then_some(())
            })?;
        }
    }

    pub(super) fn write(&self, from: &mut IoReader<'_>, nonblocking: bool) -> Result<usize> {
        let total = from.remaining();
        if total == 0 {
            return Ok(0);
        }
        let mut done = 0;
        while done < total {
            match self.write_once(from, total, nonblocking) {
                Ok(count) => done += count,
                Err(errno) if done > 0 => {
                    if errno == Errno::EPIPE {
                        // The count says nothing of it; with nothing written the call raises the signal itself.
                        job_control().signal_caller(SIGPIPE);
                    }
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Writes what fits now; waits for room first if there is none (for all of it, when it is to be atomic).
    fn write_once(
        &self,
        from: &mut IoReader<'_>,
        total: usize,
        nonblocking: bool,
    ) -> Result<usize> {
        let needed = if total <= PIPE_BUF {
            from.remaining()
        } else {
            1
        };
        let mut has_waited = false;
        loop {
            if !self.has_readers() {
                return Err(Errno::EPIPE);
            }
            let mut ring = self.ring.lock();
            let room = self
                .capacity
                .load(Ordering::Acquire)
                .saturating_sub(ring.len());
            if room >= needed {
                let result = ring.take(from, room);
                let left = room.saturating_sub(result.unwrap_or(0));
                self.len.store(ring.len(), Ordering::Release);
                drop(ring);
                self.read_queue.wake_one();
                if has_waited && left > 0 {
                    self.write_queue.wake_one();
                }
                return result;
            }
            drop(ring);
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            has_waited = true;
            let has_room = || (self.room() >= needed || !self.has_readers()).then_some(());
            if needed == 1 {
                self.write_queue.wait_interruptible_alone(None, has_room)?;
            } else {
                self.write_queue.wait_interruptible(has_room)?;
            }
        }
    }

    pub(super) fn set_capacity(&self, bytes: usize) -> Result<usize> {
        let capacity = bytes
            .max(4096)
            .checked_next_power_of_two()
            .ok_or(Errno::EINVAL)?;
        let mut ring = self.ring.lock();
        if capacity < ring.len() {
            return Err(Errno::EBUSY);
        }
        ring.shrink_to(capacity)?;
        self.capacity.store(capacity, Ordering::Release);
        drop(ring);
        self.write_queue.wake_all();
        Ok(capacity)
    }
}

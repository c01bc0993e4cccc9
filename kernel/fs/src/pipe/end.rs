//! [`PipeEnd`]: an open end of a pipe. As long as there is one for a side, that side counts as open.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::raw::ioctl::FIONREAD;
use abi::{Errno, Result};
use memory::io::{IoReader, IoWriter};

use super::buffer::{PIPE_BUF, Pipe};
use crate::cred::{Capabilities, Credentials};
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::ioctl;
use crate::poll::{Events, PollTable};

/// What an unprivileged `F_SETPIPE_SZ` can ask for (/proc/sys/fs/pipe-max-size).
const MAX_CAPACITY: usize = 1 << 20;

/// One open end of a pipe, or both (a FIFO opened for reading and writing).
#[derive(Debug)]
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// For a FIFO's reader: how often writers had opened it before; no hang-up before the first since.
    pub(super) writers_before: Option<usize>,
}

impl PipeEnd {
    pub(super) fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool) -> Self {
        if reads {
            pipe.readers.fetch_add(1, Ordering::AcqRel);
            pipe.reader_opens.fetch_add(1, Ordering::AcqRel);
        }
        if writes {
            pipe.writers.fetch_add(1, Ordering::AcqRel);
            pipe.writer_opens.fetch_add(1, Ordering::AcqRel);
        }
        Self {
            pipe: pipe.clone(),
            reads,
            writes,
            writers_before: None,
        }
    }

    /// The capacity in bytes (`F_GETPIPE_SZ`).
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pipe.capacity.load(Ordering::Acquire)
    }

    /// Changes the capacity (`F_SETPIPE_SZ`); returns what it is then.
    ///
    /// # Errors
    /// `EPERM` above 1 MiB without `CAP_SYS_RESOURCE`, `EBUSY` below what is in it, `EINVAL`.
    pub fn set_capacity(&self, bytes: usize, credentials: &Credentials) -> Result<usize> {
        if bytes > MAX_CAPACITY && !credentials.capable(Capabilities::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        self.pipe.set_capacity(bytes)
    }

    /// Puts bytes that were read and had nowhere to go (splice(2)) back in front of the others.
    ///
    /// # Errors
    /// `ENOMEM`, only when others have filled the pipe meanwhile.
    pub fn put_back(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut ring = self.pipe.ring.lock();
        let result = ring.put_back(bytes);
        self.pipe.len.store(ring.len(), Ordering::Release);
        drop(ring);
        self.pipe.read_queue.wake_all();
        result
    }

    /// Copies bytes to `to` without taking them out (tee(2)).
    ///
    /// # Errors
    /// `EAGAIN` when there are none and `nonblocking`, `ERESTARTSYS`.
    pub fn peek(&self, to: &mut [u8], nonblocking: bool) -> Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            let count = self.pipe.ring.lock().peek(to);
            if count > 0 || !self.pipe.has_writers() {
                return Ok(count);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let pipe = &self.pipe;
            pipe.read_queue
                .wait_interruptible(|| (pipe.len() > 0 || !pipe.has_writers()).then_some(()))?;
        }
    }

    /// Waits until there is room and says how much: a write of that much will not wait, unless others write too.
    ///
    /// # Errors
    /// `EAGAIN` when there is none and `nonblocking`, `EPIPE` without readers, `ERESTARTSYS`.
    pub fn wait_for_room(&self, nonblocking: bool) -> Result<usize> {
        let pipe = &self.pipe;
        loop {
            if !pipe.has_readers() {
                return Err(Errno::EPIPE);
            }
            match pipe.room() {
                0 if nonblocking => return Err(Errno::EAGAIN),
                0 => {}
                room => return Ok(room),
            }
            pipe.write_queue
                .wait_interruptible(|| (pipe.room() > 0 || !pipe.has_readers()).then_some(()))?;
        }
    }

    /// Whether both are ends of one pipe.
    #[must_use]
    pub fn is_same_pipe(&self, other: &PipeEnd) -> bool {
        Arc::ptr_eq(&self.pipe, &other.pipe)
    }

    fn is_hung_up(&self) -> bool {
        let pipe = &self.pipe;
        let had_writer = self
            .writers_before
            .is_none_or(|before| pipe.writer_opens.load(Ordering::Acquire) != before);
        !pipe.has_writers() && had_writer
    }
}

impl FileOps for PipeEnd {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        self.pipe.read(to, io.nonblocking)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        self.pipe.write(from, io.nonblocking)
    }

    fn poll(&self, mut table: Option<&mut PollTable>) -> Events {
        let mut events = Events::empty();
        if self.reads {
            if let Some(table) = table.as_deref_mut() {
                table.add(&self.pipe.read_queue);
            }
            events.set(Events::READABLE, self.pipe.len() > 0);
            events.set(Events::HUP, self.is_hung_up());
        }
        if self.writes {
            if let Some(table) = table {
                table.add(&self.pipe.write_queue);
            }
            events.set(Events::WRITABLE, self.pipe.room() >= PIPE_BUF);
            events.set(Events::ERR, !self.pipe.has_readers());
        }
        events
    }

    fn signals_io(&self) -> bool {
        true
    }

    /// Packet mode is not there: a pipe without it would join what must stay apart.
    fn flags_changed(&self, flags: OpenFlags) -> Result<()> {
        if flags.contains(OpenFlags::DIRECT) {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        match command {
            FIONREAD => ioctl::put_int(arg, self.pipe.len()),
            _ => Err(Errno::ENOTTY),
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let pipe = &self.pipe;
        if self.reads && pipe.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            pipe.write_queue.wake_all();
        }
        if self.writes && pipe.writers.fetch_sub(1, Ordering::AcqRel) == 1 {
            pipe.read_queue.wake_all();
        }
    }
}

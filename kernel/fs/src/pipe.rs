//! Pipes and FIFOs (pipe(7), fifo(7)): [`Pipe`] is the buffer and its ends' counts, [`PipeEnd`] an open end.
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
use abi::raw::ioctl::FIONREAD;
use abi::{Errno, Result};
use collections::try_arc;
use memory::io::{IoReader, IoWriter};
use sched::{Mutex, WaitQueue};

use crate::anonymous::AnonymousInode;
use crate::cred::{Capabilities, Credentials};
use crate::file::File;
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::ioctl;
use crate::job_control::job_control;
use crate::poll::{Events, PollTable};

mod fifo;
mod ring;
#[cfg(test)]
mod tests;

pub(crate) use fifo::open_fifo;
use ring::Ring;

/// Writes of up to this many bytes are not mixed with others' (`PIPE_BUF`).
pub const PIPE_BUF: usize = raw::PIPE_BUF as usize;
/// What a pipe holds until it is told otherwise.
const DEFAULT_CAPACITY: usize = 65536;
const SIGPIPE: u8 = 13;
/// What an unprivileged `F_SETPIPE_SZ` can ask for (/proc/sys/fs/pipe-max-size).
const MAX_CAPACITY: usize = 1 << 20;

/// A pipe's buffer and who has it open.
#[derive(Debug)]
pub struct Pipe {
    ring: Mutex<Ring>,
    /// Bytes in the ring, for those who wait.
    len: AtomicUsize,
    capacity: AtomicUsize,
    readers: AtomicUsize,
    writers: AtomicUsize,
    /// How often each side was opened: a FIFO's open waits for a partner that may be gone again already.
    reader_opens: AtomicUsize,
    writer_opens: AtomicUsize,
    /// Waits for bytes, or for a first writer.
    read_queue: WaitQueue,
    /// Waits for room, or for a first reader.
    write_queue: WaitQueue,
}

impl Pipe {
    fn new() -> Result<Arc<Self>> {
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

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn room(&self) -> usize {
        self.capacity
            .load(Ordering::Acquire)
            .saturating_sub(self.len())
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    fn read(&self, to: &mut IoWriter<'_>, nonblocking: bool) -> Result<usize> {
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

    fn write(&self, from: &mut IoReader<'_>, nonblocking: bool) -> Result<usize> {
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

    fn set_capacity(&self, bytes: usize) -> Result<usize> {
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

/// One open end of a pipe, or both (a FIFO opened for reading and writing).
#[derive(Debug)]
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// For a FIFO's reader: how often writers had opened it before; no hang-up before the first since.
    writers_before: Option<usize>,
}

impl PipeEnd {
    fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool) -> Self {
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

/// Opens a pipe without a name again, through /proc/PID/fd: nobody is waited for.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn reopen(pipe: &Arc<Pipe>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let end = PipeEnd::new(pipe, flags.is_readable(), flags.is_writable());
    Ok(try_arc(end)?)
}

/// Makes a pipe: the end to read from and the end to write to (pipe2(2)).
///
/// # Errors
/// `ENOMEM`.
pub fn pipe(flags: OpenFlags, credentials: &Arc<Credentials>) -> Result<(Arc<File>, Arc<File>)> {
    memory::pressure::ensure_headroom()?;
    let pipe = Pipe::new()?;
    let inode = AnonymousInode::of_pipe(&pipe, (credentials.fsuid, credentials.fsgid))?;
    let kept = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let reader = try_arc(PipeEnd::new(&pipe, true, false))?;
    let writer = try_arc(PipeEnd::new(&pipe, false, true))?;
    Ok((
        File::anonymous(inode.clone(), reader, kept, credentials)?,
        File::anonymous(inode, writer, kept | OpenFlags::WRONLY, credentials)?,
    ))
}

//! Pseudo-terminals: the master's end, and the line between it and the terminal.
//!
//! Locking: the terminal's state, then `PtyLine::bytes`.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use abi::raw::ioctl as raw;
use abi::{Errno, Result};
use collections::{Vec, VecDeque, try_arc, try_box};
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use super::devpts::DevPts;
use super::file;
use super::terminal::{Line, Terminal, packet};
use crate::cred::Credentials;
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::ioctl::{get_int, put_int};
use crate::job_control::{ControllingTerminal, job_control};
use crate::metadata::DeviceId;
use crate::path::Path;
use crate::poll::{Events, PollTable};

/// Major number of the terminals in devpts.
pub(super) const SLAVE_MAJOR: u32 = 136;
/// Output that may wait for the master to read it.
const OUTPUT_MAX: usize = 16 * 1024;
/// Bytes of output that a flush at the terminal's end does not reach any more.
const MASTER_QUEUE: usize = 4095;
const CHUNK: usize = 1024;
const SIGNALS: core::ops::RangeInclusive<i32> = 1..=64;
const TIOCSIG: u32 = 0x4004_5436;

/// The way from the terminal to the master.
pub(super) struct PtyLine {
    bytes: SpinLock<VecDeque<u8>>,
    /// Woken when the master has something to read, or its reads end.
    changed: Arc<WaitQueue>,
    /// Open files of the terminal.
    opens: AtomicUsize,
    /// All of them are closed, after there was one.
    is_left: AtomicBool,
    /// The master reads packets (TIOCPKT).
    has_packets: AtomicBool,
    /// `TIOCPKT_*` bits that the master has not read.
    status: AtomicU8,
}

impl Line for PtyLine {
    fn send(&self, from: &[u8]) -> usize {
        let mut bytes = self.bytes.lock();
        let count = from.len().min(OUTPUT_MAX.saturating_sub(bytes.len()));
        if bytes.try_reserve(count).is_err()
            || bytes.try_extend(from[..count].iter().copied()).is_err()
        {
            return 0;
        }
        drop(bytes);
        if count > 0 {
            self.changed.wake_all();
        }
        count
    }

    fn room(&self) -> usize {
        OUTPUT_MAX.saturating_sub(self.bytes.lock().len())
    }

    fn flush(&self) {
        // What the master's own line discipline has taken in on Linux stays.
        self.bytes.lock().truncate(MASTER_QUEUE);
    }

    fn note(&self, bits: u8) {
        if !self.has_packets.load(Ordering::Acquire) {
            return;
        }
        // Of two that exclude each other the later one holds.
        let undone = [
            (packet::STOP, packet::START),
            (packet::START, packet::STOP),
            (packet::DO_STOP, packet::NO_STOP),
            (packet::NO_STOP, packet::DO_STOP),
        ];
        for (bit, other) in undone {
            if bits & bit != 0 {
                self.status.fetch_and(!other, Ordering::AcqRel);
            }
        }
        self.status.fetch_or(bits, Ordering::AcqRel);
        self.changed.wake_all();
    }
}

impl PtyLine {
    /// A packet that tells of changes, if there is one to read.
    fn take_status(&self) -> Option<u8> {
        let status = self.status.swap(0, Ordering::AcqRel);
        (status != 0).then_some(status)
    }
}

/// A pseudo-terminal.
pub(super) struct Pty {
    pub(super) index: u32,
    pub(super) terminal: Arc<Terminal>,
    line: Arc<PtyLine>,
    /// The terminal cannot be opened yet (unlockpt(3)).
    is_locked: AtomicBool,
}

impl Pty {
    /// Locked, with nobody at either end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(index: u32) -> Result<Arc<Pty>> {
        let line = try_arc(PtyLine {
            bytes: SpinLock::new(VecDeque::new()),
            changed: try_arc(WaitQueue::new())?,
            opens: AtomicUsize::new(0),
            is_left: AtomicBool::new(false),
            has_packets: AtomicBool::new(false),
            status: AtomicU8::new(0),
        })?;
        let terminal = Terminal::new(DeviceId::new(SLAVE_MAJOR, index), line.clone())?;
        Ok(try_arc(Pty {
            index,
            terminal,
            line,
            is_locked: AtomicBool::new(true),
        })?)
    }

    /// Lets the terminal be opened.
    #[cfg(test)]
    pub(super) fn unlock(&self) {
        self.is_locked.store(false, Ordering::Relaxed);
    }

    /// Opens the terminal's end.
    ///
    /// # Errors
    /// `EIO` when locked or hung up, `EBUSY` when in exclusive use.
    pub(super) fn open_slave(
        &self,
        flags: OpenFlags,
        credentials: &Credentials,
    ) -> Result<Arc<dyn FileOps>> {
        if self.is_locked.load(Ordering::Relaxed) || self.terminal.is_hung_up() {
            return Err(Errno::EIO);
        }
        file::check_exclusive(&self.terminal, credentials)?;
        let end = OpenSlave {
            line: self.line.clone(),
            terminal: self.terminal.clone(),
        };
        self.line.opens.fetch_add(1, Ordering::Relaxed);
        self.line.is_left.store(false, Ordering::Relaxed);
        // Without memory it is opened and closed again.
        file::open(&self.terminal, flags, Some(try_box(end)?))
    }
}

/// Counts an open file of the terminal.
struct OpenSlave {
    line: Arc<PtyLine>,
    terminal: Arc<Terminal>,
}

impl Drop for OpenSlave {
    fn drop(&mut self) {
        if self.line.opens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.terminal.set_exclusive(false);
            self.line.is_left.store(true, Ordering::Release);
            self.line.changed.wake_all();
        }
    }
}

/// The master's end.
pub(super) struct Master {
    pub(super) pty: Arc<Pty>,
    /// The ptmx that was opened.
    pub(super) path: Option<Path>,
    instance: Weak<DevPts>,
}

impl Master {
    pub(super) fn new(pty: Arc<Pty>, path: &Path, instance: &Arc<DevPts>) -> Master {
        Master {
            pty,
            path: Some(path.clone()),
            instance: Arc::downgrade(instance),
        }
    }

    /// Whether its terminal is one of `instance`.
    pub(super) fn is_of(&self, instance: &Arc<DevPts>) -> bool {
        core::ptr::eq(self.instance.as_ptr(), Arc::as_ptr(instance))
    }

    /// A master without a file system, for tests.
    #[cfg(test)]
    pub(super) fn detached(pty: Arc<Pty>) -> Master {
        Master {
            pty,
            path: None,
            instance: Weak::new(),
        }
    }

    /// What one read gives, in packet mode with the packet's first byte.
    fn read_bytes(&self, max: usize, nonblocking: bool) -> Result<Vec<u8>> {
        let line = &self.pty.line;
        let mut taken = Vec::new();
        taken.try_reserve_exact(max)?;
        line.changed.wait_interruptible(|| {
            let has_packets = line.has_packets.load(Ordering::Acquire);
            if has_packets && let Some(status) = line.take_status() {
                // There is room, since no read of 0 bytes comes here.
                let _ = taken.push_within_capacity(status);
                return Some(Ok(()));
            }
            let mut bytes = line.bytes.lock();
            if !bytes.is_empty() {
                if has_packets {
                    let _ = taken.push_within_capacity(0);
                }
                let count = bytes.len().min(max - taken.len());
                for byte in bytes.drain(..count) {
                    let _ = taken.push_within_capacity(byte);
                }
                return Some(Ok(()));
            }
            if line.is_left.load(Ordering::Acquire) {
                return Some(Err(Errno::EIO));
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        })??;
        self.pty.terminal.line_ready();
        Ok(taken)
    }

    /// TCFLSH seen from here: input is what the terminal has put out, output is what was typed.
    fn flush(&self, what: u64) -> Result<()> {
        let (input, output) = file::flushed(what)?;
        if input {
            self.pty.line.bytes.lock().clear();
            self.pty.terminal.line_ready();
        }
        if output {
            self.pty.terminal.forget_typed();
        }
        Ok(())
    }

    /// Types some of `bytes`, waiting until there is room for one; how many.
    fn type_bytes(&self, bytes: &[u8], nonblocking: bool) -> Result<usize> {
        let terminal = &self.pty.terminal;
        loop {
            match terminal.receive(bytes)? {
                0 if nonblocking => return Err(Errno::EAGAIN),
                0 => {}
                count => return Ok(count),
            }
            // Only looks: what is received wakes those who wait here.
            terminal
                .output
                .wait_interruptible(|| (terminal.receive_room() > 0).then_some(()))?;
        }
    }
}

impl FileOps for Master {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let bytes = self.read_bytes(to.remaining().min(CHUNK * 4), io.nonblocking)?;
        to.write(&bytes)
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let mut chunk = [0; CHUNK];
            let len = from.remaining().min(CHUNK);
            let count = match from.read(&mut chunk[..len]) {
                Ok(count) => count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            let mut typed = 0;
            while typed < count {
                match self.type_bytes(&chunk[typed..count], io.nonblocking) {
                    Ok(more) => typed += more,
                    Err(_) if done + typed > 0 => return Ok(done + typed),
                    Err(errno) => return Err(errno),
                }
            }
            done += count;
            if sched::is_to_stop() {
                break;
            }
        }
        Ok(done)
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.pty.line.changed);
            table.add(&self.pty.terminal.output);
        }
        let line = &self.pty.line;
        let mut events = Events::empty();
        events.set(Events::READABLE, !line.bytes.lock().is_empty());
        if line.status.load(Ordering::Acquire) != 0 {
            events |= Events::READABLE | Events::PRI;
        }
        events.set(Events::WRITABLE, self.pty.terminal.receive_room() > 0);
        events.set(Events::HUP, line.is_left.load(Ordering::Acquire));
        events
    }

    fn signals_io(&self) -> bool {
        true
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        match command {
            raw::TIOCGPTN => put_int(arg, self.pty.index as usize),
            raw::TIOCSPTLCK => {
                self.pty
                    .is_locked
                    .store(get_int(arg)? != 0, Ordering::Relaxed);
                Ok(0)
            }
            raw::TIOCGPTLCK => put_int(arg, self.pty.is_locked.load(Ordering::Relaxed).into()),
            raw::FIONREAD => {
                // The store may sleep: the lock is let go of before.
                let there = self.pty.line.bytes.lock().len();
                put_int(arg, there)
            }
            // The terminal becomes the caller's, whichever end is named.
            raw::TIOCSCTTY => self.pty.terminal.acquire().map(|()| 0),
            raw::TCFLSH => self.flush(arg).map(|()| 0),
            raw::TIOCOUTQ => put_int(arg, 0),
            raw::TIOCPKT => {
                let on = get_int(arg)? != 0;
                let line = &self.pty.line;
                if on != line.has_packets.swap(on, Ordering::AcqRel) {
                    line.status.store(0, Ordering::Release);
                }
                Ok(0)
            }
            raw::TIOCGPKT => put_int(
                arg,
                self.pty.line.has_packets.load(Ordering::Acquire).into(),
            ),
            TIOCSIG => {
                let signal = i32::try_from(arg)
                    .ok()
                    .filter(|signal| SIGNALS.contains(signal));
                let signal = signal.and_then(|signal| u8::try_from(signal).ok());
                let signal = signal.ok_or(Errno::EINVAL)?;
                if let Some(group) = self.pty.terminal.foreground_group() {
                    job_control().signal_group(&group, signal);
                }
                Ok(0)
            }
            _ => file::ioctl(&self.pty.terminal, command, arg, true),
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.upgrade() {
            instance.remove(self.pty.index);
        }
        self.pty.terminal.hang_up();
    }
}

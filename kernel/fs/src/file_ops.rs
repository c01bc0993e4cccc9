//! [`FileOps`]: what an open file description does. One trait for regular files, directories, devices,
//! pipes, sockets, terminals and the file-like things without a name.

use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result};
use memory::PageSource;
use memory::io::{IoReader, IoWriter};

use crate::flags::OpenFlags;
use crate::lock::{LockFamily, RemoteLocks};
use crate::metadata::FileKind;
use crate::poll::{Events, PollTable};

/// How one transfer is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Io {
    /// Where, in bytes; 0 and meaningless for streams. A write with `append` sets it to where the bytes went.
    pub offset: u64,
    /// Fail with `EAGAIN` rather than wait.
    pub nonblocking: bool,
    /// Write at the end of the file, wherever that is then.
    pub append: bool,
    /// `O_DIRECT`: packets for pipes, no cache for remote files.
    pub direct: bool,
}

/// Where to seek, relative to what (lseek(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// From the start.
    Set(i64),
    /// From the current position.
    Current(i64),
    /// From the end.
    End(i64),
    /// To data at or behind the offset.
    Data(i64),
    /// To a hole at or behind the offset.
    Hole(i64),
}

/// Takes directory entries.
pub trait DirSink {
    /// Takes one entry. `next` is the position from which a later readdir goes on behind it.
    /// `false`: no room, the entry was not taken.
    fn add(&mut self, name: &[u8], ino: u64, kind: FileKind, next: u64) -> bool;
}

/// What fallocate(2) is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocate {
    /// `FALLOC_FL_*` bits.
    pub mode: u32,
    /// Start in bytes.
    pub offset: u64,
    /// Length in bytes, not 0.
    pub len: u64,
}

/// The behaviour of an open file description. Methods take `&self` and lock inside; they may block
/// unless told otherwise, and a blocked one gives `ERESTARTSYS` when a signal comes.
///
/// Defaults answer what Linux answers for a file that lacks the operation. The access mode has been checked.
pub trait FileOps: Any + Send + Sync {
    /// Reads into `to`; 0 is end of file. Progress counts as success.
    ///
    /// # Errors
    /// `EINVAL` by default.
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let _ = (to, io);
        Err(Errno::EINVAL)
    }

    /// Writes from `from`. Progress counts as success.
    ///
    /// # Errors
    /// `EINVAL` by default; `EPIPE` makes the system call raise SIGPIPE.
    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let _ = (from, io);
        Err(Errno::EINVAL)
    }

    /// Whether the file has a position and pread/pwrite work on it.
    fn is_seekable(&self) -> bool {
        false
    }

    /// Whether read and write go by a position and move it: not for devices that can be seeked but stay at 0.
    fn has_position(&self) -> bool {
        self.is_seekable()
    }

    /// Whether bytes can go past a cache (`O_DIRECT`).
    fn allows_direct(&self) -> bool {
        false
    }

    /// The new position for a seek from `position`.
    ///
    /// # Errors
    /// `ESPIPE` by default; `EINVAL` for a negative result, `ENXIO` for data or holes past the end.
    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        let _ = (position, to);
        Err(Errno::ESPIPE)
    }

    /// What is ready now; adds the queues to listen to when given a table. Must not block.
    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        let _ = table;
        Events::READABLE | Events::WRITABLE
    }

    /// Whether epoll_ctl(2) takes it (not regular files and directories: `EPERM`).
    fn is_pollable(&self) -> bool {
        true
    }

    /// Whether it can tell of what becomes ready by a signal (`O_ASYNC`): pipes, terminals, sockets.
    fn signals_io(&self) -> bool {
        false
    }

    /// Device control; `arg` is a value or a user address, as `command` says.
    ///
    /// # Errors
    /// `ENOTTY` by default: no such command here.
    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        let _ = (command, arg);
        Err(Errno::ENOTTY)
    }

    /// Where the pages of a mapping come from.
    ///
    /// # Errors
    /// `ENODEV` by default.
    fn page_source(&self) -> Result<Arc<dyn PageSource>> {
        Err(Errno::ENODEV)
    }

    /// Gives entries from position `from` on to `sink`, `.` and `..` included; returns the position behind the last one
    /// taken. Positions 0 is the start; others are what was passed as `next`.
    ///
    /// # Errors
    /// `ENOTDIR` by default.
    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let _ = (from, sink);
        Err(Errno::ENOTDIR)
    }

    /// fsync(2), or fdatasync(2) when `data_only`.
    ///
    /// # Errors
    /// `EINVAL` by default: nothing to synchronise.
    fn sync(&self, data_only: bool) -> Result<()> {
        let _ = data_only;
        Err(Errno::EINVAL)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default.
    fn allocate(&self, what: &Allocate) -> Result<()> {
        let _ = what;
        Err(Errno::EOPNOTSUPP)
    }

    /// Who gives locks of a family on it; `None`: the kernel itself.
    fn remote_locks(&self, family: LockFamily) -> Option<&dyn RemoteLocks> {
        let _ = family;
        None
    }

    /// One descriptor of it was closed (FUSE's FLUSH). The last one also drops the value.
    ///
    /// # Errors
    /// What close(2) shall report; the descriptor is closed nevertheless.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// The status flags were changed with `F_SETFL`.
    ///
    /// # Errors
    /// `EINVAL` for a flag it cannot have.
    fn flags_changed(&self, flags: OpenFlags) -> Result<()> {
        let _ = flags;
        Ok(())
    }

    /// Extra lines for /proc/PID/fdinfo/N.
    fn info(&self, to: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let _ = to;
        Ok(())
    }
}

impl core::fmt::Debug for dyn FileOps {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FileOps")
    }
}

/// The answer to a seek in a file of `size` bytes without holes below its end.
///
/// # Errors
/// `EINVAL` for a negative or overflowing result, `ENXIO` for data or holes at or past the end.
pub fn seek_in(size: u64, position: u64, to: Seek) -> Result<u64> {
    let from = |base: u64, offset: i64| {
        let result = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
        i64::try_from(result)
            .map(|_| result)
            .map_err(|_| Errno::EINVAL)
    };
    match to {
        Seek::Set(offset) => from(0, offset),
        Seek::Current(offset) => from(position, offset),
        Seek::End(offset) => from(size, offset),
        Seek::Data(offset) | Seek::Hole(offset) => {
            let at = u64::try_from(offset)
                .ok()
                .filter(|at| *at < size)
                .ok_or(Errno::ENXIO)?;
            Ok(if matches!(to, Seek::Data(_)) {
                at
            } else {
                size
            })
        }
    }
}

/// The type `T` behind an open file, when it is one.
#[must_use]
pub fn downcast<T: FileOps>(ops: &Arc<dyn FileOps>) -> Option<&T> {
    let any: &dyn Any = ops.as_ref();
    any.downcast_ref()
}

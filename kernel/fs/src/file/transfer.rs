//! Reading, writing and seeking an open file: access modes, the position, and what goes with a transfer.
//!
//! Locking: the position's sleeping lock is held while a transfer goes by it, so that such transfers come one after
//! another, as POSIX has it.

use abi::{Errno, Result};
use memory::io::{IoReader, IoWriter};

use super::{File, Place};
use crate::file_ops::{DirSink, Io, Seek};
use crate::flags::OpenFlags;
use crate::job_control::job_control;
use crate::metadata::FileKind;
use crate::ops::remove_privileges;
use crate::poll::{Events, PollTable};

impl File {
    /// How a transfer at `offset` is to be done, as the flags say.
    #[must_use]
    pub fn io_at(&self, offset: u64) -> Io {
        let flags = self.flags();
        Io {
            offset,
            nonblocking: flags.contains(OpenFlags::NONBLOCK),
            append: flags.contains(OpenFlags::APPEND),
            direct: flags.contains(OpenFlags::DIRECT),
        }
    }

    fn check_readable(&self) -> Result<()> {
        let flags = self.flags();
        if flags.contains(OpenFlags::PATH) || !flags.is_readable() {
            Err(Errno::EBADF)
        } else {
            Ok(())
        }
    }

    fn check_writable(&self) -> Result<()> {
        let flags = self.flags();
        if flags.contains(OpenFlags::PATH) || !flags.is_writable() {
            Err(Errno::EBADF)
        } else {
            Ok(())
        }
    }

    /// What is written loses set-id bits (unless the writer, not the opener, has `CAP_FSETID`) and capabilities:
    /// Linux's `file_remove_privs`.
    fn strip_set_id(&self) -> Result<()> {
        if self.kind() != FileKind::Regular {
            return Ok(());
        }
        let inode = self.inode()?;
        if inode.body().has_no_privileges() {
            return Ok(());
        }
        let writer = job_control().credentials();
        remove_privileges(inode.as_ref(), writer.as_ref().unwrap_or(&self.credentials))
    }

    /// Reads at the position and moves it (read(2)).
    ///
    /// # Errors
    /// `EBADF` when not open for reading, and what the file answers.
    pub fn read(&self, to: &mut IoWriter<'_>) -> Result<usize> {
        self.check_readable()?;
        if !self.has_position {
            return self.ops.read(to, &self.io_at(0));
        }
        let mut position = self.position.lock();
        check_range(*position, to.remaining())?;
        let count = self.ops.read(to, &self.io_at(*position))?;
        *position += count as u64;
        self.accessed();
        Ok(count)
    }

    /// Writes at the position, or at the end with `O_APPEND`, and moves the position (write(2)).
    ///
    /// # Errors
    /// `EBADF` when not open for writing, and what the file answers.
    pub fn write(&self, from: &mut IoReader<'_>) -> Result<usize> {
        self.check_writable()?;
        if !self.has_position {
            return self.ops.write(from, &mut self.io_at(0));
        }
        self.strip_set_id()?;
        let mut position = self.position.lock();
        check_range(*position, from.remaining())?;
        let mut io = self.io_at(*position);
        let count = self.ops.write(from, &mut io)?;
        *position = io.offset + count as u64;
        Ok(count)
    }

    /// Reads at `io.offset` without moving the position (pread(2)).
    ///
    /// # Errors
    /// `ESPIPE` for a stream, `EBADF` when not open for reading, and what the file answers.
    pub fn read_at(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if !self.is_seekable {
            return Err(Errno::ESPIPE);
        }
        self.check_readable()?;
        check_range(io.offset, to.remaining())?;
        let count = self.ops.read(to, io)?;
        self.accessed();
        Ok(count)
    }

    /// Writes at `io.offset` without moving the position (pwrite(2)).
    ///
    /// # Errors
    /// `ESPIPE` for a stream, `EBADF` when not open for writing, and what the file answers.
    pub fn write_at(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if !self.is_seekable {
            return Err(Errno::ESPIPE);
        }
        self.check_writable()?;
        check_range(io.offset, from.remaining())?;
        self.strip_set_id()?;
        self.ops.write(from, io)
    }

    /// It was read or mapped: notes the access time, unless the description or the mount says that nobody wants it.
    pub fn accessed(&self) {
        if let Place::At(path) = &self.place
            && !self.flags().contains(OpenFlags::NOATIME)
        {
            path.accessed();
        }
    }

    /// Moves the position (lseek(2)).
    ///
    /// # Errors
    /// `ESPIPE` for a stream, and what the file answers.
    pub fn seek(&self, to: Seek) -> Result<u64> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        let mut position = self.position.lock();
        *position = self.ops.seek(*position, to)?;
        Ok(*position)
    }

    /// The position, in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        *self.position.lock()
    }

    /// Reads directory entries from the position on (getdents64(2)).
    ///
    /// # Errors
    /// `ENOTDIR`, and what the file answers.
    pub fn read_dir(&self, sink: &mut dyn DirSink) -> Result<()> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        let mut position = self.position.lock();
        *position = self.ops.read_dir(*position, sink)?;
        self.accessed();
        Ok(())
    }

    /// What is ready now; see [`FileOps::poll`].
    #[must_use]
    pub fn poll(&self, table: Option<&mut PollTable>) -> Events {
        self.ops.poll(table)
    }
}

/// A transfer must end where an `off_t` can still name it (Linux's `rw_verify_area`).
fn check_range(start: u64, len: usize) -> Result<()> {
    match start.checked_add(len as u64) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

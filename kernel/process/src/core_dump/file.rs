//! The file that a core dump goes to, written from front to back; what is not there becomes a hole.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use fs::{Caller, File, FileKind, OpenFlags, OpenHow};
use memory::io::IoReader;

use super::Reason;
use crate::task::thread::Thread;

/// Where a dump is written, and how much of it may be.
pub(super) struct Sink {
    file: Arc<File>,
    at: u64,
    limit: u64,
}

impl Sink {
    /// Opens `name` for a dump of `thread`, as its user; for a program that hides itself only root reads the dump, and
    /// it replaces no file.
    ///
    /// # Errors
    /// As open(2); `EPERM` for what is no file of the user's own alone.
    pub(super) fn open(thread: &Thread, name: &[u8], reason: &Reason) -> Result<Self> {
        const MODE: u32 = 0o600;
        let (fs, own) = (thread.fs(), thread.credentials());
        let mut credentials = (*own).clone();
        let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::NOFOLLOW | OpenFlags::EXCL;
        if reason.is_hidden {
            // Anywhere else its user could have put something in the way.
            if name.first() != Some(&b'/') {
                return Err(Errno::EPERM);
            }
            credentials.fsuid = fs::Kuid::ROOT;
        }
        let credentials = try_arc(credentials)?;
        let caller = Caller {
            fs: &fs,
            credentials: &credentials,
        };
        if !reason.is_hidden {
            // An older dump; what its user cannot take away is in the way.
            let _ = caller.unlink(&fs.cwd(), name);
        }
        let how = OpenHow {
            flags,
            mode: MODE,
            ..OpenHow::default()
        };
        let file = caller.open(&fs.cwd(), name, &how)?;
        let meta = file.metadata()?;
        let is_own = meta.uid == credentials.fsuid;
        if file.kind() != FileKind::Regular || meta.nlink > 1 || !is_own || meta.mode & 0o77 != 0 {
            return Err(Errno::EPERM);
        }
        Ok(Self {
            file,
            at: 0,
            limit: reason.limit,
        })
    }

    /// Writes `bytes`.
    ///
    /// # Errors
    /// `EFBIG` at the limit, what the file says.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let room = usize::try_from(self.limit.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let is_cut = bytes.len() > room;
        bytes = &bytes[..bytes.len().min(room)];
        while !bytes.is_empty() {
            let mut io = self.file.io_at(self.at);
            let mut from = IoReader::kernel(bytes);
            let written = self.file.write_at(&mut from, &mut io)?;
            if written == 0 || sched::thread::killed() {
                return Err(Errno::EINTR);
            }
            self.at += written as u64;
            bytes = &bytes[written..];
        }
        if is_cut { Err(Errno::EFBIG) } else { Ok(()) }
    }

    /// Leaves `len` bytes out, which read as zero.
    pub(super) fn skip(&mut self, len: u64) {
        self.at += len;
    }

    /// What was left out at the end is part of the file, too.
    ///
    /// # Errors
    /// What the file says.
    pub(super) fn finish(&mut self, thread: &Thread) -> Result<()> {
        let (fs, credentials) = (thread.fs(), thread.credentials());
        let caller = Caller {
            fs: &fs,
            credentials: &credentials,
        };
        caller.truncate_file(&self.file, self.at.min(self.limit))
    }
}

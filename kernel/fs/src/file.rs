//! [`File`]: an open file description, which dup and fork share. Position, status flags, and the way
//! to its [`FileOps`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};
use sched::Mutex;

use crate::anonymous::{self, ANONYMOUS_DEVICE, AnonymousInode};
use crate::cred::Credentials;
use crate::file_ops::{DirSink, FileOps, Io, Seek};
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeAccess};
use crate::metadata::{FileKind, Metadata};
use crate::ops::remove_privileges;
use crate::path::{InodeKey, Path};
use crate::poll::{Events, PollTable};
use crate::sigio::{self, IoSignal};

/// An open file description (open(2), "open file description").
pub struct File {
    ops: Arc<dyn FileOps>,
    place: Place,
    flags: AtomicU32,
    is_seekable: bool,
    has_position: bool,
    position: Mutex<u64>,
    credentials: Arc<Credentials>,
    /// Who is told of what becomes ready, with `O_ASYNC`.
    io_signal: sigio::Settings,
    id: u64,
    /// What it keeps programs or writers from; given up by [`Self::allow_writers`].
    access: SpinLock<Option<InodeAccess>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

enum Place {
    At(Path),
    Nowhere(Arc<dyn Inode>),
}

impl File {
    /// An open file at `path`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(
        path: Path,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<Self>> {
        Self::with_access(path, ops, flags, credentials, None)
    }

    /// As [`Self::new`], holding `access` to its inode for as long as it is open.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn with_access(
        path: Path,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
        access: Option<InodeAccess>,
    ) -> Result<Arc<Self>> {
        let place = match path.inode() {
            Ok(inode) if anonymous::is_anonymous(&path) => Place::Nowhere(inode.clone()),
            _ => Place::At(path),
        };
        Self::with_place(place, ops, flags, credentials.clone(), access)
    }

    /// Lets writers in again that [`crate::Caller::open_exec`] has kept out: the program was not started, or
    /// is an interpreter, which Linux protects only while it loads it.
    pub fn allow_writers(&self) {
        let access = self.access.lock().take();
        drop(access);
    }

    /// An open file without a path.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn anonymous(
        inode: Arc<AnonymousInode>,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<Self>> {
        Self::with_place(Place::Nowhere(inode), ops, flags, credentials.clone(), None)
    }

    fn with_place(
        place: Place,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
        credentials: Arc<Credentials>,
        access: Option<InodeAccess>,
    ) -> Result<Arc<Self>> {
        let new = try_arc(Self {
            is_seekable: ops.is_seekable(),
            has_position: ops.has_position(),
            ops,
            place,
            flags: AtomicU32::new(flags.status().bits()),
            position: Mutex::new(0),
            credentials,
            io_signal: sigio::Settings::default(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            access: SpinLock::new(access),
        });
        Ok(new?)
    }

    /// Its behaviour.
    #[must_use]
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// The behaviour, when it is a `T`.
    #[must_use]
    pub fn downcast<T: FileOps>(&self) -> Option<&T> {
        crate::file_ops::downcast(&self.ops)
    }

    /// Where it was opened; `None` for pipes, sockets and the like.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::At(path) => Some(path),
            Place::Nowhere(_) => None,
        }
    }

    /// Where a walk to it leads (/proc/PID/fd/N): where it was opened, or a place made for the occasion.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn place(&self) -> Result<Path> {
        match &self.place {
            Place::At(path) => Ok(path.clone()),
            Place::Nowhere(inode) => anonymous::place_of(inode),
        }
    }

    /// Its inode.
    ///
    /// # Errors
    /// None in practice: an open file's dentry has an inode.
    pub fn inode(&self) -> Result<&Arc<dyn Inode>> {
        match &self.place {
            Place::At(path) => path.inode(),
            Place::Nowhere(inode) => Ok(inode),
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> FileKind {
        self.inode().map_or(FileKind::Regular, |inode| inode.kind())
    }

    /// Whether it is something of the kernel's that only behaves like a file: an eventfd, a timerfd, an epoll.
    #[must_use]
    pub fn is_file_like(&self) -> bool {
        match &self.place {
            Place::At(_) => false,
            Place::Nowhere(inode) => {
                let any: &dyn core::any::Any = inode.as_ref();
                any.is::<AnonymousInode>()
            }
        }
    }

    /// Its attributes now (fstat(2)).
    ///
    /// # Errors
    /// As [`Inode::metadata`].
    pub fn metadata(&self) -> Result<Metadata> {
        self.inode()?.metadata()
    }

    /// Encoded `st_dev`.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.path().map_or(ANONYMOUS_DEVICE.encode(), Path::device)
    }

    /// Device and inode number.
    ///
    /// # Errors
    /// As [`Inode::metadata`].
    pub fn key(&self) -> Result<InodeKey> {
        Ok(InodeKey {
            device: self.device(),
            ino: self.metadata()?.ino,
        })
    }

    /// What readlink of /proc/PID/fd/N shows.
    #[must_use]
    pub fn display(&self, root: &Path) -> Vec<u8> {
        match &self.place {
            Place::At(path) => path.display(root),
            Place::Nowhere(inode) => inode.anonymous_name().unwrap_or_default().into_bytes(),
        }
    }

    /// A number that no other description ever has: the owner of its locks.
    #[must_use]
    pub fn lock_id(&self) -> u64 {
        self.id
    }

    /// Who opened it.
    #[must_use]
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Access mode and status flags (`F_GETFL`).
    #[must_use]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Sets the flags that can be changed after opening (`F_SETFL`), but for [`File::set_async`]'s.
    ///
    /// # Errors
    /// What the file answers, usually `EINVAL`.
    pub fn set_flags(&self, new: OpenFlags) -> Result<()> {
        let settable = OpenFlags::settable() - OpenFlags::ASYNC;
        let all = (self.flags() - settable) | (new & settable);
        self.ops.flags_changed(all)?;
        self.flags.store(all.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether it was opened with `O_PATH`.
    #[must_use]
    pub fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }

    /// Whether operations must not wait.
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// Whether it has a position.
    #[must_use]
    pub fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    pub(crate) fn io_signal(&self) -> &sigio::Settings {
        &self.io_signal
    }

    /// Who is told of what becomes ready, and how (`F_GETOWN`, `F_GETSIG`); `None` when nothing was set.
    #[must_use]
    pub fn io_settings(&self) -> Option<IoSignal> {
        self.io_signal.get()
    }

    /// Changes who is told of what becomes ready, and how (`F_SETOWN`, `F_SETSIG`), on behalf of `credentials`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn change_io_settings(
        &self,
        credentials: &Arc<Credentials>,
        change: impl FnOnce(&mut IoSignal),
    ) -> Result<()> {
        self.io_signal.change(credentials, change)
    }

    /// Turns `O_ASYNC` on or off; `fd` is what the signal will name. Files that cannot tell ignore it, as on Linux.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_async(self: &Arc<Self>, fd: i32, on: bool) -> Result<()> {
        if self.ops.signals_io() {
            sigio::Settings::watch(self, fd, on)?;
        }
        if on {
            self.flags
                .fetch_or(OpenFlags::ASYNC.bits(), Ordering::Relaxed);
        } else {
            self.flags
                .fetch_and(!OpenFlags::ASYNC.bits(), Ordering::Relaxed);
        }
        Ok(())
    }

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

    /// What is written loses set-id bits (without `CAP_FSETID`) and capabilities: Linux's `file_remove_privs`.
    fn strip_set_id(&self) -> Result<()> {
        if self.kind() != FileKind::Regular {
            return Ok(());
        }
        let inode = self.inode()?;
        if inode.body().has_no_privileges() {
            return Ok(());
        }
        remove_privileges(inode.as_ref(), &self.credentials)
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

impl Drop for File {
    fn drop(&mut self) {
        crate::lock::release_description(self);
    }
}

impl core::fmt::Debug for File {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("File")
            .field("kind", &self.kind())
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

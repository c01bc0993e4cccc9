//! [`File`]: an open file description, which dup and fork share. Position, status flags, and the way
//! to its [`FileOps`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use sched::Mutex;

use crate::anonymous::{self, ANONYMOUS_DEVICE, AnonymousInode};
use crate::cred::Credentials;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeAccess};
use crate::metadata::{FileKind, Metadata};
use crate::path::{InodeKey, Path};
use crate::sigio::{self, IoSignal};

mod transfer;

/// An open file description (open(2), "open file description").
pub struct File {
    ops: Arc<dyn FileOps>,
    place: Place,
    kind: FileKind,
    flags: AtomicU32,
    is_seekable: bool,
    has_position: bool,
    position: Mutex<u64>,
    credentials: Arc<Credentials>,
    /// Who is told of what becomes ready, with `O_ASYNC`.
    io_signal: sigio::Settings,
    /// 0 until somebody asks for it.
    id: AtomicU64,
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
        let kind = match &place {
            Place::At(path) => path.dentry.kind().unwrap_or(FileKind::Regular),
            Place::Nowhere(inode) => inode.kind(),
        };
        let new = try_arc(Self {
            kind,
            is_seekable: ops.is_seekable(),
            has_position: ops.has_position(),
            ops,
            place,
            flags: AtomicU32::new(flags.status().bits()),
            position: Mutex::new(0),
            credentials,
            io_signal: sigio::Settings::default(),
            id: AtomicU64::new(0),
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
        self.kind
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
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn display(&self, root: &Path) -> Result<Vec<u8>> {
        match &self.place {
            Place::At(path) => path.display(root),
            Place::Nowhere(inode) => Ok(inode.anonymous_name()?.unwrap_or_default().into_bytes()),
        }
    }

    /// A number that no other description ever has: the owner of its locks.
    #[must_use]
    pub fn lock_id(&self) -> u64 {
        let known = self.id.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let new = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let set = self
            .id
            .compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        set.err().unwrap_or(new)
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
        let asks_for_direct = (all - self.flags()).contains(OpenFlags::DIRECT);
        if asks_for_direct && !self.ops.allows_direct() {
            return Err(Errno::EINVAL);
        }
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

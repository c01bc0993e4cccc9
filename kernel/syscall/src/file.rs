//! The file families: what descriptors, paths and buffers in arguments mean, and the lists of calls.
//!
//! Handlers here decode and check as Linux does, in Linux's order where it shows; [`fs::Caller`] and
//! [`fs::File`] act.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::{Vec, try_arc};
use fs::{Base, Caller, Credentials, FdRef, File, FsContext, LookupFlags, PATH_MAX, Path};
use machine::UserAddr;
use memory::user;
use process::rlimit::Resource;

use crate::context::Context;

pub(crate) mod attributes;
pub(crate) mod buffers;
pub(crate) mod copying;
pub(crate) mod descriptors;
pub(crate) mod directories;
pub(crate) mod epoll;
pub(crate) mod events;
pub(crate) mod fcntl;
pub(crate) mod locks;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod owner;
pub(crate) mod pipes;
pub(crate) mod poll;
pub(crate) mod read_write;
pub(crate) mod select;
pub(crate) mod signalfd;
pub(crate) mod space;
pub(crate) mod stat;
pub(crate) mod status;
pub(crate) mod xattr;

/// `AT_FDCWD`.
pub(crate) const AT_FDCWD: i32 = raw::AT_FDCWD;
/// `AT_SYMLINK_NOFOLLOW`.
pub(crate) const AT_SYMLINK_NOFOLLOW: u32 = raw::AT_SYMLINK_NOFOLLOW;
/// `AT_EMPTY_PATH`.
pub(crate) const AT_EMPTY_PATH: u32 = raw::AT_EMPTY_PATH;

/// The caller's view of names, held for the time of one call.
pub(crate) struct Names<'a> {
    fs: &'a FsContext,
    credentials: &'a Arc<Credentials>,
    /// In place of the caller's.
    real: Option<Arc<Credentials>>,
}

impl<'a> Names<'a> {
    pub(crate) fn of(cx: &'a Context<'_>) -> Self {
        Self {
            fs: cx.fs(),
            credentials: cx.credentials(),
            real: None,
        }
    }

    /// As [`Self::of`], with the real ids in place of the effective ones (access(2)).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn with_real_ids(cx: &'a Context<'_>) -> Result<Self> {
        let mut this = Self::of(cx);
        let now = this.credentials;
        if now.fsuid != now.uid || now.fsgid != now.gid {
            let mut real = Credentials::clone(now);
            (real.fsuid, real.fsgid) = (real.uid, real.gid);
            let keeps = real.user_namespace.root() == Some(real.uid);
            real.effective = if keeps {
                real.permitted
            } else {
                fs::Capabilities::empty()
            };
            this.real = Some(try_arc(real)?);
        }
        Ok(this)
    }

    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller {
            fs: self.fs,
            credentials: self.credentials(),
        }
    }

    pub(crate) fn fs(&self) -> &'a FsContext {
        self.fs
    }

    pub(crate) fn credentials(&self) -> &Arc<Credentials> {
        self.real.as_ref().unwrap_or(self.credentials)
    }

    /// Where a path relative to `dirfd` starts. What `dirfd` is does not matter for an absolute path.
    pub(crate) fn base<'c>(
        &self,
        cx: &'c Context<'_>,
        dirfd: i32,
        path: &[u8],
    ) -> Result<Start<'c>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if dirfd == AT_FDCWD || path.first() == Some(&b'/') {
            return Ok(Start::Cwd);
        }
        let file = file(cx, dirfd)?;
        let at = file.path().ok_or(Errno::ENOTDIR)?;
        if !at.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(Start::Directory(file))
    }

    /// The place that `dirfd` and the string at `path` name.
    pub(crate) fn lookup(
        &self,
        cx: &Context<'_>,
        dirfd: i32,
        path: UserAddr,
        flags: LookupFlags,
    ) -> Result<Path> {
        let path = read_path(path)?;
        let base = self.base(cx, dirfd, &path)?;
        self.caller().lookup(&base, &path, flags)
    }
}

/// Where the walk of an *at call starts.
pub(crate) enum Start<'a> {
    Cwd,
    /// An open directory.
    Directory(FdRef<'a>),
}

impl<'s> From<&'s Start<'_>> for Base<'s> {
    fn from(start: &'s Start<'_>) -> Self {
        match start {
            Start::Cwd => Base::Cwd,
            Start::Directory(file) => file.path().map_or(Base::Cwd, Base::Place),
        }
    }
}

/// What an *at call with `AT_EMPTY_PATH` names.
pub(crate) enum Target<'a> {
    Place(Path),
    Open(FdRef<'a>),
}

/// The place or, for an empty path with `AT_EMPTY_PATH`, the open file that `dirfd` and `path` name.
/// `AT_SYMLINK_NOFOLLOW` is honoured.
pub(crate) fn target<'a>(
    cx: &'a Context<'_>,
    names: &Names<'_>,
    dirfd: i32,
    path: UserAddr,
    at_flags: u32,
) -> Result<Target<'a>> {
    let has_empty = at_flags & AT_EMPTY_PATH != 0;
    // Linux 6.11 and later take a null path as an empty one here.
    let path = if has_empty && path.0 == 0 {
        Vec::new()
    } else {
        read_path(path)?
    };
    if path.is_empty() && has_empty {
        if dirfd == AT_FDCWD {
            return Ok(Target::Place(names.fs().cwd()));
        }
        return Ok(Target::Open(file(cx, dirfd)?));
    }
    let base = names.base(cx, dirfd, &path)?;
    let follow = lookup_flags(at_flags & AT_SYMLINK_NOFOLLOW == 0);
    names
        .caller()
        .lookup(&base, &path, follow)
        .map(Target::Place)
}

/// `FOLLOW`, or nothing.
pub(crate) fn lookup_flags(follow: bool) -> LookupFlags {
    if follow {
        LookupFlags::FOLLOW
    } else {
        LookupFlags::empty()
    }
}

/// The open file behind a descriptor, `O_PATH` ones included.
#[inline]
pub(crate) fn file<'a>(cx: &'a Context<'_>, fd: i32) -> Result<FdRef<'a>> {
    cx.own.files.get(fd)
}

/// The open file behind argument `index`.
#[inline]
pub(crate) fn file_arg<'a>(cx: &'a Context<'_>, index: usize) -> Result<FdRef<'a>> {
    file(cx, cx.int(index))
}

/// As [`file`], refusing `O_PATH` files.
pub(crate) fn usable_file<'a>(cx: &'a Context<'_>, fd: i32) -> Result<FdRef<'a>> {
    let file = file(cx, fd)?;
    if file.is_path_only() {
        Err(Errno::EBADF)
    } else {
        Ok(file)
    }
}

/// Gives `file` the lowest free descriptor.
pub(crate) fn install(cx: &mut Context<'_>, file: Arc<File>, close_on_exec: bool) -> Result<u64> {
    let limit = descriptor_limit(cx);
    let fd = cx.own.files.insert(file, close_on_exec, limit)?;
    Ok(u64::from(fd.unsigned_abs()))
}

/// `RLIMIT_NOFILE`.
pub(crate) fn descriptor_limit(cx: &Context<'_>) -> usize {
    let soft = cx.process().limits().soft(Resource::OpenFiles);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// The path name at `addr`.
pub(crate) fn read_path(addr: UserAddr) -> Result<Vec<u8>> {
    user::read_c_string(addr, PATH_MAX)
}

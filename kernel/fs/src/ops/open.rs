//! open(2) and openat2(2).
//!
//! Steps in their order: the walk, perhaps the making of the file; then permission, the right to write, truncation, and
//! the inode's own open. What can refuse comes before what changes something: a file that must not be written, or that
//! runs as a program, is not emptied by an open that fails.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{try_arc, try_format};
use memory::pressure;

use crate::anonymous::AnonymousInode;
use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::device;
use crate::file::File;
use crate::file_ops::FileOps;
use crate::flags::{LookupFlags, MountFlags, OpenFlags};
use crate::inode::{Inode, InodeAccess, NewKind};
use crate::metadata::FileKind;
use crate::path::Path;
use crate::permission::{self, Access};
use crate::pipe;
use crate::poll::{Events, PollTable};
use crate::tmpfs::with_space;
use crate::walk::{Base, Caller, Last, Walk, current_child, find_or_absent_locked};

/// What to open and how (openat2(2), `struct open_how`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: OpenFlags,
    /// Permission bits for a new file.
    pub mode: u32,
    /// `RESOLVE_*`; `FOLLOW` and `DIRECTORY` are derived from `flags`.
    pub resolve: LookupFlags,
}

/// What the walk found for open: an existing place, or a file made for it.
#[derive(Clone)]
struct Found {
    path: Path,
    is_new: bool,
}

impl Caller<'_> {
    /// Opens `path`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open<'b>(
        &self,
        base: impl Into<Base<'b>>,
        path: &[u8],
        how: &OpenHow,
    ) -> Result<Arc<File>> {
        let (base, flags) = (base.into(), how.flags);
        let mut lookup = how.resolve;
        lookup.set(LookupFlags::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW));
        if flags.contains(OpenFlags::PATH) {
            lookup.set(LookupFlags::DIRECTORY, flags.contains(OpenFlags::DIRECTORY));
            return self.path_only(self.lookup(base, path, lookup)?, flags);
        }
        let unnamed = OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY | OpenFlags::CREAT;
        if flags.contains(OpenFlags::TMPFILE_BIT)
            && flags & unnamed != OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY
        {
            return Err(Errno::EINVAL);
        }
        if flags.is_tmpfile() {
            return self.open_unnamed(base, path, how, lookup);
        }
        if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        let found = if flags.contains(OpenFlags::CREAT) {
            self.find_or_create(base, path, how, lookup)?
        } else {
            Found {
                path: self.lookup(base, path, lookup)?,
                is_new: false,
            }
        };
        if found.is_new {
            // Made again as a whole, the call would find the file there. No lock is held here.
            return pressure::persist(|| self.open_found(found.clone(), flags));
        }
        self.open_found(found, flags)
    }

    /// Opens a place that was found already (exec, `/proc/PID/fd` reopening, tests).
    ///
    /// # Errors
    /// As open(2).
    pub fn open_path(&self, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
        self.open_found(
            Found {
                path,
                is_new: false,
            },
            flags,
        )
    }

    /// Opens an executable: regular, executable, not on a `noexec` mount. Nobody can open it for writing or
    /// truncate it until the file is closed or [`File::allow_writers`] is called.
    ///
    /// # Errors
    /// `EACCES`; `ETXTBSY` while somebody has it open for writing.
    pub fn open_exec(&self, path: Path) -> Result<Arc<File>> {
        let inode = path.inode()?;
        let is_noexec = path.mount.flags().contains(MountFlags::NOEXEC);
        if inode.kind() != FileKind::Regular || is_noexec {
            return Err(Errno::EACCES);
        }
        permission::check(inode.as_ref(), self.credentials, Access::EXEC)?;
        // Before its first byte is read, so that it is one program from beginning to end.
        let access = InodeAccess::deny_write(inode)?;
        let ops = inode.clone().open(OpenFlags::empty())?;
        let flags = OpenFlags::empty();
        File::with_access(path, ops, flags, self.credentials, Some(access))
    }

    fn path_only(&self, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
        let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
        File::new(path, try_arc(PathOnly)?, flags & kept, self.credentials)
    }

    fn open_unnamed(
        &self,
        base: Base<'_>,
        path: &[u8],
        how: &OpenHow,
        lookup: LookupFlags,
    ) -> Result<Arc<File>> {
        if !how.flags.is_writable() {
            return Err(Errno::EINVAL);
        }
        let directory = self.lookup(base, path, lookup | LookupFlags::DIRECTORY)?;
        permission::check_path(&directory, self.credentials, Access::WRITE | Access::EXEC)?;
        let inode = directory.inode()?;
        let new = self.new_inode(inode.as_ref(), NewKind::Regular, how.mode & 0o7777)?;
        let linkable = !how.flags.contains(OpenFlags::EXCL);
        let made = with_space(|| inode.create_unnamed(&new, linkable))?;
        let name = try_format!("#{}", made.metadata()?.ino)?;
        let dentry = directory
            .dentry
            .new_unlisted(made.clone(), name.as_bytes())?;
        let flags = how.flags - OpenFlags::TMPFILE_BIT - OpenFlags::DIRECTORY;
        let access = write_access(&made, flags)?;
        let ops = made.open(flags)?;
        File::with_access(
            Path {
                mount: directory.mount,
                dentry,
            },
            ops,
            flags,
            self.credentials,
            access,
        )
    }

    fn find_or_create(
        &self,
        base: Base<'_>,
        path: &[u8],
        how: &OpenHow,
        lookup: LookupFlags,
    ) -> Result<Found> {
        let mut walk = Walk::new(self, base, path, lookup)?;
        loop {
            let (name, slash) = match walk.walk_to_last()? {
                Last::Here if how.flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST),
                Last::Here => {
                    return Ok(Found {
                        path: walk.at,
                        is_new: false,
                    });
                }
                Last::Name { name, slash } => (name, slash),
            };
            if slash {
                return Err(Errno::EISDIR);
            }
            let found = self.child_or_create(&walk, &name, how)?;
            if found.is_new {
                return Ok(found);
            }
            let child = found.path;
            if how.flags.contains(OpenFlags::EXCL) {
                return Err(Errno::EEXIST);
            }
            if child.dentry.kind() == Some(FileKind::Symlink)
                && lookup.contains(LookupFlags::FOLLOW)
            {
                walk.follow(&child, false)?;
                continue;
            }
            // Who means to make a file in a sticky directory must not be led to one that somebody else has put there.
            if let Some(existing) = child.dentry.inode() {
                let directory = walk.at.metadata()?;
                permission::check_create_over(&directory, existing.as_ref(), self.credentials)?;
            }
            return Ok(Found {
                path: child,
                is_new: false,
            });
        }
    }

    /// The child, made if need be. What was made is known by its dentry: its name may mean another's file by now.
    fn child_or_create(&self, walk: &Walk<'_>, name: &[u8], how: &OpenHow) -> Result<Found> {
        let directory = &walk.at;
        let existing = |path| Found {
            path,
            is_new: false,
        };
        let exists = |child: &Arc<Dentry>| child.inode().is_some();
        // Nearly always it is there: that needs no lock.
        if let Some(child) = current_child(&directory.dentry, name).filter(exists) {
            directory.dentry.keep_child(&child, name);
            return walk.on_top(child).map(existing);
        }
        // Under the lock that whoever makes or removes an entry has: this look decides.
        let guard = directory.dentry.dir_lock().write();
        if let Some(child) = find_or_absent_locked(&directory.dentry, name)? {
            drop(guard);
            return walk.on_top(child).map(existing);
        }
        if directory.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        permission::check_path(directory, self.credentials, Access::WRITE | Access::EXEC)?;
        let dentry = self.make_locked(directory, name, NewKind::Regular, how.mode & 0o7777)?;
        Ok(Found {
            path: Path {
                mount: directory.mount.clone(),
                dentry,
            },
            is_new: true,
        })
    }

    fn open_found(&self, found: Found, flags: OpenFlags) -> Result<Arc<File>> {
        let Found { path, is_new } = found;
        let inode = path.inode()?;
        let kind = inode.kind();
        let changes = OpenFlags::CREAT | OpenFlags::TRUNC;
        match kind {
            FileKind::Directory if flags.asks_to_write() || flags.intersects(changes) => {
                return Err(Errno::EISDIR);
            }
            // Nothing is transferred past a cache there.
            FileKind::Directory if flags.contains(OpenFlags::DIRECT) => return Err(Errno::EINVAL),
            FileKind::Directory => {}
            _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR),
            FileKind::Symlink => return Err(Errno::ELOOP),
            _ => {}
        }
        // Who made it may use it as asked for, whatever mode it was given (open(2)).
        if !is_new {
            self.check_open(&path, flags)?;
        }
        // Also for the truncation alone (`O_RDONLY | O_TRUNC`), and then not kept any longer than that takes.
        let access = write_access(inode, flags)?;
        if flags.contains(OpenFlags::TRUNC) && kind == FileKind::Regular && !is_new {
            self.truncate_inode(inode.as_ref(), 0)?;
        }
        let ops = self.open_kind(&path, flags)?;
        // A FIFO takes the flag for packets, which there are none of.
        if flags.contains(OpenFlags::DIRECT) && kind != FileKind::Fifo && !ops.allows_direct() {
            return Err(Errno::EINVAL);
        }
        let access = access.filter(|_| flags.asks_to_write());
        File::with_access(path, ops, flags, self.credentials, access)
    }

    fn open_kind(&self, path: &Path, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let inode = path.inode()?;
        match inode.kind() {
            FileKind::CharDevice | FileKind::BlockDevice => {
                if path.mount.flags().contains(MountFlags::NODEV) {
                    return Err(Errno::EACCES);
                }
                device::open(inode.metadata()?, path, flags, self.credentials)
            }
            FileKind::Fifo => match AnonymousInode::pipe_of(inode) {
                Some(pipe) => pipe::reopen(pipe, flags),
                None => pipe::open_fifo(path.key()?, flags),
            },
            FileKind::Socket => Err(Errno::ENXIO),
            FileKind::Regular | FileKind::Directory | FileKind::Symlink => {
                inode.clone().open(flags)
            }
        }
    }

    /// Permission to open an existing file.
    fn check_open(&self, path: &Path, flags: OpenFlags) -> Result<()> {
        let mut access = Access::empty();
        access.set(Access::READ, flags.asks_to_read());
        access.set(
            Access::WRITE,
            flags.asks_to_write() || flags.contains(OpenFlags::TRUNC),
        );
        permission::check_path(path, self.credentials, access)?;
        if flags.contains(OpenFlags::NOATIME) {
            check_noatime(path, self.credentials)?;
        }
        Ok(())
    }
}

/// The right to write, as opening with `flags` takes it: to regular files only.
fn write_access(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Option<InodeAccess>> {
    let writes = flags.asks_to_write() || flags.contains(OpenFlags::TRUNC);
    if writes && inode.kind() == FileKind::Regular {
        InodeAccess::write(inode).map(Some)
    } else {
        Ok(None)
    }
}

fn check_noatime(path: &Path, credentials: &Credentials) -> Result<()> {
    let is_allowed = permission::is_owner_or_capable(&path.metadata()?, credentials);
    if is_allowed {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// An `O_PATH` file: a place and nothing else.
#[derive(Debug)]
struct PathOnly;

impl FileOps for PathOnly {
    fn poll(&self, _: Option<&mut PollTable>) -> Events {
        Events::NVAL
    }
}

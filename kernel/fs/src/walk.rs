//! Walking a path: components, `..`, mounts, symbolic links, `RESOLVE_*`.
//!
//! [`Walk`] holds the state and stops before the last component, because what the last component is
//! for (open, create, remove, follow or not) is the caller's business. [`Caller::lookup`] is the
//! common case. As much of the way as possible is gone without locks and references ([`cached`]); what stands behind a
//! symbolic link is in [`follow`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;

use crate::context::FsContext;
use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::flags::LookupFlags;
use crate::metadata::FileKind;
use crate::path::{NAME_MAX, PATH_MAX, Path};
use crate::permission::{self, Access};

mod cached;
mod entry;
mod follow;
mod links;
mod part;

pub use cached::Base;
use cached::{Reached, end_of_name, skip_slashes};

pub(crate) use entry::{current_child, find_child, find_child_locked, find_or_absent_locked};
pub(crate) use part::{Last, Part};

/// Symbolic links followed at most in one walk.
const LINKS_MAX: u32 = 40;

/// On whose behalf, and from where, files are named.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Root, working directory, umask.
    pub fs: &'a FsContext,
    /// Who.
    pub credentials: &'a Arc<Credentials>,
}

impl Caller<'_> {
    /// Finds `path`, starting at `base` when it is relative.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG` as path_resolution(7); `EXDEV`, `ELOOP` and
    /// `EAGAIN` for `RESOLVE_*` flags.
    pub fn lookup<'b>(
        &self,
        base: impl Into<Base<'b>>,
        path: &[u8],
        flags: LookupFlags,
    ) -> Result<Path> {
        let base = base.into();
        if path.is_empty() && flags.contains(LookupFlags::EMPTY_PATH) {
            return Ok(self.place_of(base));
        }
        check_len(path)?;
        let mut links = 0;
        let found = match self.walk_cached(base, path, flags, true, &mut links) {
            Some(Reached::End(found)) => found,
            Some(Reached::Missing) => return Err(Errno::ENOENT),
            Some(Reached::Until(at, done)) => {
                let mut walk = Walk::from(self, at, path, done, flags);
                walk.links = links;
                self.walk_rest(walk, flags)?
            }
            None => self.walk_rest(Walk::slow(self, base, path, flags)?, flags)?,
        };
        if flags.contains(LookupFlags::DIRECTORY) && !found.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(found)
    }

    fn place_of(&self, base: Base<'_>) -> Path {
        match base {
            Base::Cwd => self.fs.cwd(),
            Base::Place(place) => place.clone(),
        }
    }

    fn walk_rest(&self, mut walk: Walk<'_>, flags: LookupFlags) -> Result<Path> {
        loop {
            let (name, slash) = match walk.walk_to_last()? {
                Last::Here => return Ok(walk.at),
                Last::Name { name, slash } => (name, slash),
            };
            let child = walk.child(&name)?;
            let follow = slash || flags.contains(LookupFlags::FOLLOW);
            if child.dentry.kind() == Some(FileKind::Symlink) && follow {
                walk.follow(&child, slash)?;
                continue;
            }
            if slash && !child.dentry.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            return Ok(child);
        }
    }
}

/// A walk on its way.
#[derive(Debug)]
pub(crate) struct Walk<'p> {
    caller: Caller<'p>,
    /// The directory reached.
    pub(crate) at: Path,
    /// Where `/` leads and what `..` does not leave; asked for when it is needed.
    root: Option<Path>,
    /// What `RESOLVE_BENEATH` and `RESOLVE_IN_ROOT` do not leave.
    scope: Option<Path>,
    rest: Part<'p>,
    /// How much of `rest` is done.
    done: usize,
    links: u32,
    flags: LookupFlags,
}

impl<'p> Walk<'p> {
    pub(crate) fn new(
        caller: &Caller<'p>,
        base: Base<'_>,
        path: &'p [u8],
        flags: LookupFlags,
    ) -> Result<Self> {
        check_len(path)?;
        let mut links = 0;
        let mut walk = match caller.walk_cached(base, path, flags, false, &mut links) {
            Some(Reached::End(at)) => Self::from(caller, at, path, path.len(), flags),
            Some(Reached::Until(at, done)) => Self::from(caller, at, path, done, flags),
            Some(Reached::Missing) => return Err(Errno::ENOENT),
            None => return Self::slow(caller, base, path, flags),
        };
        walk.links = links;
        Ok(walk)
    }

    /// A walk that has come to `at`, with the first `done` bytes of `path`.
    fn from(
        caller: &Caller<'p>,
        at: Path,
        path: &'p [u8],
        done: usize,
        flags: LookupFlags,
    ) -> Self {
        Self {
            caller: *caller,
            at,
            root: None,
            scope: None,
            rest: Part::Given(path),
            done,
            links: 0,
            flags,
        }
    }

    /// A walk that begins with references.
    fn slow(
        caller: &Caller<'p>,
        base: Base<'_>,
        path: &'p [u8],
        flags: LookupFlags,
    ) -> Result<Self> {
        let base = caller.place_of(base);
        let in_root = flags.contains(LookupFlags::IN_ROOT);
        let scoped = in_root || flags.contains(LookupFlags::BENEATH);
        let mut walk = Self {
            root: in_root.then(|| base.clone()),
            scope: scoped.then(|| base.clone()),
            ..Self::from(caller, base, path, 0, flags)
        };
        if path[0] == b'/' {
            walk.go_to_root()?;
        }
        Ok(walk)
    }

    fn root(&mut self) -> &Path {
        let fs = self.caller.fs;
        self.root.get_or_insert_with(|| fs.root())
    }

    /// Walks on until one component is left.
    pub(crate) fn walk_to_last(&mut self) -> Result<Last<'p>> {
        loop {
            let Some((name, slash, is_last)) = self.next_name()? else {
                return Ok(Last::Here);
            };
            if !self.at.dentry.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            self.check_search()?;
            match &*name {
                b"." => {}
                b".." => self.go_up()?,
                _ if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                _ if is_last => return Ok(Last::Name { name, slash }),
                _ => self.go_down(&name)?,
            }
        }
    }

    /// The next component, whether a slash follows it, and whether it is the last one.
    fn next_name(&mut self) -> Result<Option<(Part<'p>, bool, bool)>> {
        let Some(start) = skip_slashes(&self.rest, self.done) else {
            return Ok(None);
        };
        let end = end_of_name(&self.rest, start);
        let next = skip_slashes(&self.rest, end);
        self.done = next.unwrap_or(self.rest.len());
        let name = match &self.rest {
            Part::Given(rest) => Part::Given(&rest[start..end]),
            Part::Linked(rest) => Part::Linked(Vec::try_from_slice(&rest[start..end])?),
        };
        Ok(Some((name, end < self.rest.len(), next.is_none())))
    }

    fn check_search(&self) -> Result<()> {
        permission::check(
            self.at.inode()?.as_ref(),
            self.caller.credentials,
            Access::EXEC,
        )
    }

    fn go_to_root(&mut self) -> Result<()> {
        if self.flags.contains(LookupFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = self.root().clone();
        self.cross_to(root)
    }

    fn go_up(&mut self) -> Result<()> {
        if self.flags.contains(LookupFlags::BENEATH) && self.scope.as_ref() == Some(&self.at) {
            return Err(Errno::EXDEV);
        }
        self.root();
        let above = match &self.root {
            Some(root) => self.at.parent(root)?.top(),
            None => return Err(Errno::ENOENT),
        };
        self.cross_to(above)?;
        // Who moves the directory reached out of the scope meanwhile must not let the walk out.
        match &self.scope {
            Some(scope) if !self.at.is_below(scope) => Err(Errno::EXDEV),
            _ => Ok(()),
        }
    }

    /// Goes to `to`, unless that is another mount and `RESOLVE_NO_XDEV` forbids it.
    fn cross_to(&mut self, to: Path) -> Result<()> {
        self.check_mount(&to)?;
        self.at = to;
        Ok(())
    }

    fn check_mount(&self, to: &Path) -> Result<()> {
        if self.flags.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&to.mount, &self.at.mount) {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    /// Goes to the directory `name`, or through the symbolic link.
    fn go_down(&mut self, name: &[u8]) -> Result<()> {
        let cached_only = self.flags.contains(LookupFlags::CACHED);
        let dentry = find_child(&self.at.dentry, name, cached_only)?;
        if dentry.is_directory() && !dentry.is_mount_point() {
            // The mount stays: the common case counts no references to it.
            self.at.dentry = dentry;
            return Ok(());
        }
        let child = self.on_top(dentry)?;
        match child.dentry.kind() {
            Some(FileKind::Directory) => {
                self.at = child;
                Ok(())
            }
            Some(FileKind::Symlink) => self.follow(&child, false),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The entry `name` of the directory reached, at the top of what is mounted on it.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Path> {
        let cached_only = self.flags.contains(LookupFlags::CACHED);
        let dentry = find_child(&self.at.dentry, name, cached_only)?;
        self.on_top(dentry)
    }

    /// `dentry` of the directory reached, at the top of what is mounted on it.
    pub(crate) fn on_top(&self, dentry: Arc<Dentry>) -> Result<Path> {
        let path = Path {
            mount: self.at.mount.clone(),
            dentry,
        }
        .top();
        self.check_mount(&path)?;
        Ok(path)
    }
}

fn check_len(path: &[u8]) -> Result<()> {
    match path.len() {
        0 => Err(Errno::ENOENT),
        PATH_MAX.. => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

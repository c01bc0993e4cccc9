//! Walking a path: components, `..`, mounts, symbolic links, `RESOLVE_*`.
//!
//! [`Walk`] holds the state and stops before the last component, because what the last component is
//! for (open, create, remove, follow or not) is the caller's business. [`Caller::lookup`] is the
//! common case. As much of the way as possible is gone without locks and references ([`cached`]).

use alloc::sync::Arc;
use core::ops::Deref;

use abi::{Errno, Result};
use collections::Vec;

use crate::context::FsContext;
use crate::cred::Credentials;
use crate::dentry::Dentry;
use crate::flags::LookupFlags;
use crate::inode::Link;
use crate::metadata::FileKind;
use crate::path::{NAME_MAX, PATH_MAX, Path};
use crate::permission::{self, Access};

mod cached;
mod entry;
mod links;

pub use cached::Base;
use cached::{Reached, end_of_name, skip_slashes};

pub(crate) use entry::{current_child, find_child, find_child_locked, find_or_absent_locked};

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

/// Part of a path: of the caller's, or of a symbolic link's target.
#[derive(Debug)]
pub(crate) enum Part<'p> {
    Given(&'p [u8]),
    Linked(Vec<u8>),
}

impl Part<'_> {
    /// A copy that outlives the walk.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn into_owned(self) -> Result<Vec<u8>> {
        match self {
            Part::Given(bytes) => Ok(Vec::try_from_slice(bytes)?),
            Part::Linked(bytes) => Ok(bytes),
        }
    }
}

impl Deref for Part<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Part::Given(bytes) => bytes,
            Part::Linked(bytes) => bytes,
        }
    }
}

/// The last component of a path.
#[derive(Debug)]
pub(crate) enum Last<'p> {
    /// A name to look up in the directory reached.
    Name {
        name: Part<'p>,
        /// A slash follows: it must be a directory.
        slash: bool,
    },
    /// The path ends in the directory reached: `/`, `.`, `..`, a magic link.
    Here,
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

    /// Goes as far as possible without references.
    fn hurry(&mut self) -> Result<()> {
        if self.done >= self.rest.len() || self.scope.is_some() {
            return Ok(());
        }
        let (rest, base) = (&self.rest[self.done..], Base::Place(&self.at));
        let links = &mut self.links;
        match self
            .caller
            .walk_cached(base, rest, self.flags, false, links)
        {
            Some(Reached::Until(at, more)) => {
                self.at = at;
                self.done += more;
            }
            Some(Reached::End(at)) => {
                self.at = at;
                self.done = self.rest.len();
            }
            Some(Reached::Missing) => return Err(Errno::ENOENT),
            None => {}
        }
        Ok(())
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

    /// Goes on behind the symbolic link `link`, found in the directory reached.
    pub(crate) fn follow(&mut self, link: &Path, slash: bool) -> Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX || self.flags.contains(LookupFlags::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if self.done >= self.rest.len() {
            let directory = self.at.inode()?.as_ref();
            permission::check_follow(directory, link.inode()?.as_ref(), self.caller.credentials)?;
        }
        match link.inode()?.follow()? {
            Link::Target(target) => self.go_through(target, slash)?,
            Link::Jump(path) => self.jump(path, slash)?,
        }
        self.hurry()
    }

    fn go_through(&mut self, mut target: Vec<u8>, slash: bool) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target[0] == b'/' {
            self.go_to_root()?;
        }
        if self.done < self.rest.len() || slash {
            target.try_push(b'/')?;
            target.try_extend_from_slice(&self.rest[self.done..])?;
        }
        self.rest = Part::Linked(target);
        self.done = 0;
        // Forty links of two thousand components each are a long way.
        sched::cond_resched();
        Ok(())
    }

    fn jump(&mut self, path: Path, slash: bool) -> Result<()> {
        if self.flags.contains(LookupFlags::NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        if self
            .flags
            .intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT)
        {
            return Err(Errno::EXDEV);
        }
        if slash && !path.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.cross_to(path)
    }
}

fn check_len(path: &[u8]) -> Result<()> {
    match path.len() {
        0 => Err(Errno::ENOENT),
        PATH_MAX.. => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

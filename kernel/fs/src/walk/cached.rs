//! The part of a walk that takes no locks and counts no references (Linux's rcu-walk): through names that the table
//! of names knows, in file systems whose entries only the VFS changes. It stops before whatever is in doubt
//! (a symbolic link, an unknown name, a directory that may not be searched), and [`Walk`](super::Walk) goes on from
//! there with references.
//!
//! It is one RCU read section, so nothing here sleeps; the mounts that it has counted are let go of behind it, because
//! the last drop of one may sleep. `..` is gone between two such walks. Each step is true at some moment of the walk, as with
//! references: a name that is moved or removed meanwhile is found as it was before or as it is after.

use alloc::sync::Arc;

use sched::rcu::ReadGuard;

use super::Caller;
use crate::cred::{Capabilities, Credentials};
use crate::dentry::{Dentry, find_cached};
use crate::file_system::FsFlags;
use crate::flags::LookupFlags;
use crate::metadata::FileKind;
use crate::mount::Mount;
use crate::path::{NAME_MAX, Path};
use crate::permission::{self, Access};

/// Where a relative path starts.
#[derive(Debug, Clone, Copy)]
pub enum Base<'a> {
    /// The caller's working directory.
    Cwd,
    /// A place that somebody holds.
    Place(&'a Path),
}

impl<'a> From<&'a Path> for Base<'a> {
    fn from(place: &'a Path) -> Self {
        Base::Place(place)
    }
}

/// How far a walk came.
pub(super) enum Reached {
    /// A directory on the way; what is left of the path begins at this byte.
    Until(Path, usize),
    /// The end.
    End(Path),
    /// A name that is known not to be there.
    Missing,
}

/// Flags that change nothing on the way.
const SIMPLE: LookupFlags = LookupFlags::FOLLOW
    .union(LookupFlags::DIRECTORY)
    .union(LookupFlags::EMPTY_PATH)
    .union(LookupFlags::CACHED);

/// Mounts that a walk has come through, in order. One with more is gone with references.
type Crossed = [Option<Arc<Mount>>; 4];

/// The place reached.
struct At<'g, 'c> {
    /// The mount, as long as none was crossed.
    first: &'g Arc<Mount>,
    crossed: &'c mut Crossed,
    /// `None`: the top of the mount.
    dentry: Option<&'g Arc<Dentry>>,
}

impl<'g> At<'g, '_> {
    fn mount(&self) -> &Arc<Mount> {
        self.crossed.iter().flatten().last().unwrap_or(self.first)
    }

    fn dentry(&self) -> &Arc<Dentry> {
        match self.dentry {
            Some(dentry) => dentry,
            None => self.mount().root(),
        }
    }

    /// The place, counted.
    fn into_path(self) -> Path {
        let crossed = self.crossed.iter_mut().rev().find_map(Option::take);
        let mount = crossed.unwrap_or_else(|| self.first.clone());
        let dentry = self.dentry.unwrap_or(mount.root()).clone();
        Path { mount, dentry }
    }

    /// Goes to `child`, at the top of what is mounted on it. `None`: there is too much.
    fn go_down(&mut self, child: &'g Arc<Dentry>) -> Option<()> {
        self.dentry = Some(child);
        while self.dentry().is_mount_point() {
            let free = self.crossed.iter().position(Option::is_none)?;
            let Some(mount) = self.mount().child_on(self.dentry()) else {
                break;
            };
            self.crossed[free] = Some(mount);
            self.dentry = None;
        }
        Some(())
    }
}

impl Caller<'_> {
    /// Walks as much of `path` as can be walked so; the last name only if `to_end`. `None`: nothing.
    pub(super) fn walk_cached(
        &self,
        base: Base<'_>,
        path: &[u8],
        flags: LookupFlags,
        to_end: bool,
    ) -> Option<Reached> {
        let mut reached = self.walk_down(base, path, flags, to_end)?;
        let mut done = 0;
        loop {
            let Reached::Until(at, more) = reached else {
                return Some(reached);
            };
            done += more;
            let goes_up = path[done..end_of_name(path, done)] == *b"..";
            if !goes_up || !self.may_search(&at.dentry) {
                return Some(Reached::Until(at, done));
            }
            let Ok(above) = at.parent(&self.fs.root()).map(Path::top) else {
                return Some(Reached::Until(at, done));
            };
            done += b"..".len();
            let Some(next) = skip_slashes(path, done) else {
                return Some(Reached::End(above));
            };
            done = next;
            let rest = &path[done..];
            match self.walk_down(Base::Place(&above), rest, flags, to_end) {
                Some(next) => reached = next,
                None => return Some(Reached::Until(above, done)),
            }
            sched::cond_resched();
        }
    }

    /// As [`Self::walk_cached`], up to a `..`.
    fn walk_down(
        &self,
        base: Base<'_>,
        path: &[u8],
        flags: LookupFlags,
        to_end: bool,
    ) -> Option<Reached> {
        if !SIMPLE.contains(flags) {
            return None;
        }
        // Dropped after the guard.
        let mut crossed = Crossed::default();
        let guard = ReadGuard::new();
        let places = self.fs.places(&guard);
        let start = match base {
            _ if path.first() == Some(&b'/') => &places.root,
            Base::Cwd => &places.cwd,
            Base::Place(place) => place,
        };
        let mut at = At {
            first: &start.mount,
            crossed: &mut crossed,
            dentry: Some(&start.dentry),
        };
        let mut rest = skip_slashes(path, 0);
        while let Some(start) = rest {
            let end = end_of_name(path, start);
            let next = skip_slashes(path, end);
            let name = &path[start..end];
            if !self.may_search(at.dentry()) {
                return Some(Reached::Until(at.into_path(), start));
            }
            match name {
                b"." => {}
                b".." => return Some(Reached::Until(at.into_path(), start)),
                _ if next.is_none() && !to_end => {
                    return Some(Reached::Until(at.into_path(), start));
                }
                _ => {
                    let goes_on = next.is_some() || end < path.len();
                    let follows = goes_on || flags.contains(LookupFlags::FOLLOW);
                    match step(&guard, at.dentry(), name, goes_on, follows) {
                        Step::To(child) => at.go_down(child)?,
                        Step::Missing => return Some(Reached::Missing),
                        Step::Unknown => return Some(Reached::Until(at.into_path(), start)),
                    }
                }
            }
            rest = next;
        }
        Some(Reached::End(at.into_path()))
    }

    /// Whether the caller may search `directory` for sure, and its entries are the VFS's own.
    fn may_search(&self, directory: &Dentry) -> bool {
        let flags = directory.super_block().flags();
        directory.is_directory()
            && !flags.contains(FsFlags::REVALIDATE)
            && may_pass(directory, self.credentials)
    }
}

fn may_pass(directory: &Dentry, credentials: &Credentials) -> bool {
    credentials.capable_over_all(Capabilities::DAC_OVERRIDE)
        || directory.inode().is_some_and(|inode| {
            inode.answers_at_once()
                && permission::check(inode.as_ref(), credentials, Access::EXEC).is_ok()
        })
}

enum Step<'g> {
    To(&'g Arc<Dentry>),
    Missing,
    Unknown,
}

/// What `name` in `directory` leads to: a directory, or anything else if the walk does not go on behind it.
fn step<'g>(
    guard: &'g ReadGuard,
    directory: &Dentry,
    name: &[u8],
    goes_on: bool,
    follows: bool,
) -> Step<'g> {
    if name.len() > NAME_MAX {
        return Step::Unknown;
    }
    let Some(child) = find_cached(guard, directory, name) else {
        return Step::Unknown;
    };
    match child.kind() {
        None => Step::Missing,
        Some(FileKind::Directory) => Step::To(child),
        Some(FileKind::Symlink) if follows => Step::Unknown,
        Some(_) if goes_on => Step::Unknown,
        Some(_) => Step::To(child),
    }
}

/// Where the next name begins, from `from` on.
pub(super) fn skip_slashes(path: &[u8], from: usize) -> Option<usize> {
    let more = path[from..].iter().position(|byte| *byte != b'/')?;
    Some(from + more)
}

/// Where the name that begins at `start` ends.
pub(super) fn end_of_name(path: &[u8], start: usize) -> usize {
    let len = path[start..].iter().position(|byte| *byte == b'/');
    len.map_or(path.len(), |len| start + len)
}

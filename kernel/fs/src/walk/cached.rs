//! The part of a walk that takes no locks and counts no references (Linux's rcu-walk): through names that the table
//! of names knows, in file systems whose entries only the VFS changes. It stops before whatever is in doubt
//! (an unknown name, a directory that may not be searched), and [`Walk`](super::Walk) goes on from
//! there with references.
//!
//! A symbolic link is followed where its target is at hand ([`crate::Inode::target_at_hand`]): what stands behind the link waits
//! in [`super::links`] until the target is gone through. Where that leads into doubt the walk stops before the first of the
//! links that it is in, so that who goes on has a rest of the caller's own path before it.
//!
//! It is one RCU read section, so nothing here sleeps; the mounts that it has counted are let go of behind it, because
//! the last drop of one may sleep. `..` is gone between two such walks. Each step is true at some moment of the walk, as with
//! references: a name that is moved or removed meanwhile is found as it was before or as it is after.

use alloc::sync::Arc;

use sched::rcu::ReadGuard;

use super::Caller;
use super::links::{Links, Mark};
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

    fn mark(&self, start: usize) -> Mark<'g> {
        Mark {
            first: self.first,
            crossed: self.crossed.iter().flatten().count(),
            dentry: self.dentry,
            start,
        }
    }

    /// What is left of the path from here on, at `start`; in the target of a link, from before the link on. Counts the
    /// links that were gone through to `followed`.
    fn stop(self, links: &Links<'g>, start: usize, followed: &mut u32) -> Reached {
        *followed += links.done();
        if let Some(before) = links.before {
            let last = before.crossed.checked_sub(1);
            let mount = last.and_then(|last| self.crossed[last].clone());
            let mount = mount.unwrap_or_else(|| before.first.clone());
            let dentry = before.dentry.unwrap_or(mount.root()).clone();
            return Reached::Until(Path { mount, dentry }, before.start);
        }
        Reached::Until(self.into_path(), start)
    }

    /// Goes to `place`. `None`: too many mounts were crossed.
    fn go_to(&mut self, place: &'g Path) -> Option<()> {
        match self.crossed.iter().position(Option::is_none)? {
            0 => self.first = &place.mount,
            free => self.crossed[free] = Some(place.mount.clone()),
        }
        self.dentry = Some(&place.dentry);
        Some(())
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
    /// Walks as much of `path` as can be walked so; the last name only if `to_end`. `None`: nothing. `links` counts the
    /// symbolic links that were followed.
    pub(super) fn walk_cached(
        &self,
        base: Base<'_>,
        path: &[u8],
        flags: LookupFlags,
        to_end: bool,
        links: &mut u32,
    ) -> Option<Reached> {
        let mut reached = self.walk_down(base, path, flags, to_end, links)?;
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
            match self.walk_down(Base::Place(&above), rest, flags, to_end, links) {
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
        followed: &mut u32,
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
        let mut links = Links::new(*followed);
        let (mut path, mut rest) = (path, skip_slashes(path, 0));
        loop {
            let Some(start) = rest else {
                if let Some((part, done)) = links.leave() {
                    (path, rest) = (part, skip_slashes(part, done));
                    continue;
                }
                *followed += links.done();
                return Some(Reached::End(at.into_path()));
            };
            let end = end_of_name(path, start);
            rest = skip_slashes(path, end);
            if !self.may_search(at.dentry()) {
                return Some(at.stop(&links, start, followed));
            }
            let name = match &path[start..end] {
                b"." => continue,
                b".." => return Some(at.stop(&links, start, followed)),
                _ if rest.is_none() && !to_end && links.depth == 0 => {
                    return Some(at.stop(&links, start, followed));
                }
                name => name,
            };
            let Some(child) = known(&guard, at.dentry(), name) else {
                return Some(at.stop(&links, start, followed));
            };
            let kind = match child.kind() {
                None => return Some(Reached::Missing),
                Some(FileKind::Directory) => {
                    at.go_down(child)?;
                    continue;
                }
                Some(kind) => kind,
            };
            let goes_on = end < path.len() || links.go_on();
            let is_followed = goes_on || flags.contains(LookupFlags::FOLLOW);
            if kind != FileKind::Symlink || !is_followed {
                if goes_on {
                    return Some(at.stop(&links, start, followed));
                }
                at.go_down(child)?;
                continue;
            }
            let may_follow = rest.is_some() || self.may_follow(at.dentry(), child);
            let target = target_of(child).filter(|_| may_follow);
            let enter = |target| links.enter((path, end), at.mark(start)).map(|()| target);
            let Some(target) = target.and_then(enter) else {
                return Some(at.stop(&links, start, followed));
            };
            if target.first() == Some(&b'/') {
                at.go_to(&places.root)?;
            }
            (path, rest) = (target, skip_slashes(target, 0));
        }
    }

    /// Whether the caller may follow `link` at the end of a path for sure.
    fn may_follow(&self, directory: &Dentry, link: &Dentry) -> bool {
        match (directory.inode(), link.inode()) {
            (Some(directory), Some(link)) => {
                directory.answers_at_once()
                    && link.answers_at_once()
                    && permission::check_follow(directory.as_ref(), link.as_ref(), self.credentials)
                        .is_ok()
            }
            _ => false,
        }
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

/// What the table knows as `name` in `directory`.
fn known<'g>(guard: &'g ReadGuard, directory: &Dentry, name: &[u8]) -> Option<&'g Arc<Dentry>> {
    if name.len() > NAME_MAX {
        return None;
    }
    find_cached(guard, directory, name)
}

/// Where a symbolic link leads, if that is at hand.
fn target_of(link: &Dentry) -> Option<&[u8]> {
    let target = link.inode()?.target_at_hand()?;
    (!target.is_empty()).then_some(target)
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

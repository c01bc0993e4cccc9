//! Behind a symbolic link: what its target puts before the rest of the path, what may be followed at all.

use abi::{Errno, Result};
use collections::Vec;

use super::cached::{Base, Reached};
use super::part::Part;
use super::{LINKS_MAX, Walk};
use crate::flags::LookupFlags;
use crate::inode::Link;
use crate::path::Path;
use crate::permission;

impl Walk<'_> {
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
}

//! The symbolic links that a walk without references is in, with what is left of the path behind each.
//!
//! The stack has a fixed size, as nothing is allocated in an RCU read section: deeper chains are gone with references.

use alloc::sync::Arc;

use super::LINKS_MAX;
use crate::dentry::Dentry;
use crate::mount::Mount;

/// How deep links in the targets of links are followed here.
const NESTED_MAX: usize = 4;
/// Links followed in one such walk.
const MOST: u32 = 8;

/// The symbolic links whose targets a walk is in.
pub(super) struct Links<'g> {
    /// What is left behind each: a part of a path, and how much of it is done.
    behind: [(&'g [u8], usize); NESTED_MAX],
    pub(super) depth: usize,
    /// Followed so far.
    count: u32,
    /// Those of them whose targets are gone through.
    done: u32,
    /// May be followed.
    most: u32,
    /// Where the first of them is.
    pub(super) before: Option<Mark<'g>>,
}

/// A place that a walk can go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark<'g> {
    pub(super) first: &'g Arc<Mount>,
    /// Mounts crossed on the way there.
    pub(super) crossed: usize,
    pub(super) dentry: Option<&'g Arc<Dentry>>,
    /// Where the rest of the path begins.
    pub(super) start: usize,
}

impl<'g> Links<'g> {
    /// `followed`: of the links that a path may have, as many were followed before.
    pub(super) fn new(followed: u32) -> Self {
        Self {
            behind: [(&[], 0); NESTED_MAX],
            depth: 0,
            count: 0,
            done: 0,
            most: MOST.min(LINKS_MAX.saturating_sub(followed)),
            before: None,
        }
    }

    /// How many were gone through: what is gone again with references is not among them.
    pub(super) const fn done(&self) -> u32 {
        self.done
    }

    /// Whether something stands behind one of them, a slash or a name.
    pub(super) fn go_on(&self) -> bool {
        let behind = &self.behind[..self.depth];
        behind.iter().any(|(part, done)| *done < part.len())
    }

    /// A target is to be gone through, and `behind` after that. `None`: that is too deep, or there were too many.
    pub(super) fn enter(&mut self, behind: (&'g [u8], usize), mark: Mark<'g>) -> Option<()> {
        if self.count >= self.most {
            return None;
        }
        *self.behind.get_mut(self.depth)? = behind;
        if self.depth == 0 {
            self.before = Some(mark);
        }
        self.depth += 1;
        self.count += 1;
        Some(())
    }

    /// A target is gone through: where to go on.
    pub(super) fn leave(&mut self) -> Option<(&'g [u8], usize)> {
        self.depth = self.depth.checked_sub(1)?;
        if self.depth == 0 {
            self.before = None;
            self.done = self.count;
        }
        Some(self.behind[self.depth])
    }
}

//! Instances that watch each other: neither in a circle nor deeper than [`NESTING_MAX`], nor on more than [`PATHS_MAX`]
//! ways. One instance can watch another by any number of descriptors, and a wake-up goes all the ways: with a hundred at
//! each of four levels it would take a CPU for hours, in an interrupt handler perhaps.
//!
//! Looked at with [`super::NESTING`] held, so that two that are added to each other at once do not both pass.

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use collections::Vec;

use super::Epoll;
use super::items::Ready;
use crate::file::File;

/// How deep instances may watch each other.
const NESTING_MAX: usize = 4;
/// On how many ways a wake-up of an instance may go on to others (Linux has 500, 100, 50, 10, by their lengths).
const PATHS_MAX: usize = 100;

/// A program can make a million instances for these walks to look at.
fn give_way() -> Result<()> {
    sched::cond_resched();
    if sched::killed() {
        return Err(Errno::EINTR);
    }
    Ok(())
}

impl Ready {
    /// On how many ways a wake-up goes on from here, itself counted, up to some more than `most`.
    fn paths(&self, most: usize) -> Result<usize> {
        let mut count = 1;
        for ready in self.outer()? {
            if count > most {
                break;
            }
            count += ready.paths(most - count.min(most))?;
            give_way()?;
        }
        Ok(count)
    }

    /// The instances that watch this one, each as often as it does.
    fn outer(&self) -> Result<Vec<Arc<Ready>>> {
        let mut outer = Vec::new();
        for ready in self.outer.lock().iter().filter_map(Weak::upgrade) {
            outer.try_push(ready)?;
        }
        Ok(outer)
    }

    /// How many instances watch each other above this one.
    pub(super) fn height(&self) -> Result<usize> {
        let mut highest = 0;
        for ready in &self.outer()? {
            highest = highest.max(ready.height()? + 1);
            give_way()?;
        }
        Ok(highest)
    }
}

impl Epoll {
    /// Whether this instance may watch `inner`.
    ///
    /// # Errors
    /// `EINVAL` for itself, `ELOOP`.
    pub(super) fn check_nesting(&self, inner: &Epoll) -> Result<()> {
        if core::ptr::eq(self, inner) {
            return Err(Errno::EINVAL);
        }
        if inner.depth_without(self, 1)? + self.ready.height()? > NESTING_MAX {
            Err(Errno::ELOOP)
        } else {
            Ok(())
        }
    }

    /// Whether there are not too many ways up from here and from the instances below.
    ///
    /// # Errors
    /// `EINVAL`.
    pub(super) fn check_paths(&self) -> Result<()> {
        if self.ready.paths(PATHS_MAX)? > PATHS_MAX {
            return Err(Errno::EINVAL);
        }
        for file in &self.inner()? {
            if let Some(inner) = file.downcast::<Epoll>() {
                inner.check_paths()?;
            }
            give_way()?;
        }
        Ok(())
    }

    /// The instances that this one watches, each as often as it does.
    fn inner(&self) -> Result<Vec<Arc<File>>> {
        let mut inner = Vec::new();
        for item in self.items.lock().by_number.values() {
            sched::cond_resched();
            if let Some(file) = item.file.upgrade()
                && file.downcast::<Epoll>().is_some()
            {
                inner.try_push(file)?;
            }
        }
        Ok(inner)
    }

    /// How deep instances are nested below this one, which must not contain `forbidden`.
    fn depth_without(&self, forbidden: &Epoll, depth: usize) -> Result<usize> {
        if core::ptr::eq(self, forbidden) || depth > NESTING_MAX {
            return Err(Errno::ELOOP);
        }
        let mut deepest = depth;
        for file in &self.inner()? {
            if let Some(inner) = file.downcast::<Epoll>() {
                deepest = deepest.max(inner.depth_without(forbidden, depth + 1)?);
            }
            give_way()?;
        }
        Ok(deepest)
    }
}

//! Instances that watch each other: neither in a circle nor deeper than [`NESTING_MAX`].
//!
//! Looked at with [`super::NESTING`] held, so that two that are added to each other at once do not both pass.

use alloc::sync::Weak;

use abi::{Errno, Result};
use collections::Vec;

use super::Epoll;
use super::items::Ready;

/// How deep instances may watch each other.
const NESTING_MAX: usize = 4;

impl Ready {
    /// How many instances watch each other above this one.
    pub(super) fn height(&self) -> Result<usize> {
        let mut outer = Vec::new();
        for ready in self.outer.lock().iter().filter_map(Weak::upgrade) {
            outer.try_push(ready)?;
        }
        let mut highest = 0;
        for ready in &outer {
            highest = highest.max(ready.height()? + 1);
            sched::cond_resched();
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

    /// How deep instances are nested below this one, which must not contain `forbidden`.
    fn depth_without(&self, forbidden: &Epoll, depth: usize) -> Result<usize> {
        if core::ptr::eq(self, forbidden) || depth > NESTING_MAX {
            return Err(Errno::ELOOP);
        }
        let mut inner = Vec::new();
        for item in self.items.lock().by_number.values() {
            if let Some(file) = item.file.upgrade()
                && file.downcast::<Epoll>().is_some()
            {
                inner.try_push(file)?;
            }
        }
        let mut deepest = depth;
        for file in &inner {
            if let Some(inner) = file.downcast::<Epoll>() {
                deepest = deepest.max(inner.depth_without(forbidden, depth + 1)?);
            }
            sched::cond_resched();
        }
        Ok(deepest)
    }
}

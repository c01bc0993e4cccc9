//! Attachments: mappings that something else counts, and that end together (shmat(2), shmdt(2)).
//!
//! Each area of one holds an [`Attachment`]. So who is attached to knows of each that is made, split or copied by fork,
//! and of each that goes. It is told of new ones under the area lock, and of their end under none.

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::UserAddr;

use super::tree::Removed;
use super::{AddressSpace, PAGE};

/// What counts the areas that are attached to it. Its lock is a leaf.
pub trait Attach: Send + Sync {
    /// There is one more.
    fn attached(&self);

    /// There is one less. May sleep.
    fn detached(&self);
}

/// One area's part in what is attached to.
pub struct Attachment(Arc<dyn Attach>);

impl Attachment {
    /// Counts one more.
    #[must_use]
    pub fn new(to: Arc<dyn Attach>) -> Self {
        to.attached();
        Self(to)
    }

    fn is_same(&self, other: &Arc<dyn Attach>) -> bool {
        core::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(other))
    }
}

impl Clone for Attachment {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.detached();
    }
}

impl core::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Attachment")
    }
}

impl AddressSpace {
    /// Unmaps what was attached at `addr`, as much as is left of it: its first area at or above there that has its
    /// place, and those of the same attachment that follow.
    ///
    /// # Errors
    /// `EINVAL` when there is none; `ENOMEM`.
    pub fn detach(&self, addr: UserAddr) -> Result<()> {
        if !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let mut removed = Removed::new();
        let mut areas = self.areas.write();
        let mut end = u64::MAX;
        let mut found: Option<Arc<dyn Attach>> = None;
        let mut at = addr.0;
        while at < end {
            let Some((start, area)) = areas.tree.next_above(at) else {
                break;
            };
            if start >= end {
                break;
            }
            at = area.end;
            let is_placed = start.checked_sub(addr.0) == Some(area.offset);
            let is_meant = area.attachment.as_ref().is_some_and(|attachment| {
                is_placed && found.as_ref().is_none_or(|found| attachment.is_same(found))
            });
            if !is_meant {
                continue;
            }
            if found.is_none() {
                let size = area.source.as_ref().map_or(0, |source| source.size_bytes());
                end = addr.0.saturating_add(size.next_multiple_of(PAGE));
                found = area
                    .attachment
                    .as_ref()
                    .map(|attachment| attachment.0.clone());
            }
            let range = start..area.end;
            self.take_out(&mut areas, range, &mut removed)?;
            sched::cond_resched();
        }
        drop(areas);
        drop(removed);
        found.map(drop).ok_or(Errno::EINVAL)
    }
}

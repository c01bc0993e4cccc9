//! fork(2): a copy that costs page tables only where there are private pages.
//!
//! Shared mappings, and private file mappings nobody has stored to, are left to faults in the child: their
//! pages are at hand at the source, and most children exec before they touch them.

use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use abi::{Errno, Result};

use super::area::{Area, AreaFlags};
use super::tree::AreaTree;
use super::{AddressSpace, Areas, by_parts, new_mapper};

impl AddressSpace {
    /// A copy for fork(2): private memory is shared until either side stores to it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        let mut areas = self.areas.write();
        let child = Self::with(Areas {
            tree: AreaTree::default(),
            pages: new_mapper()?,
            bases: areas.bases.clone(),
            layout: areas.layout,
            limits: areas.limits,
            locks_future: false,
            peak: areas.tree.total(),
            peak_resident: 0,
        })?;
        child.set_denies_large(self.denies_large());
        let outcome = copy_areas(&mut areas, &child);
        drop(areas);
        outcome?;
        Ok(child)
    }
}

fn copy_areas(areas: &mut Areas, child: &AddressSpace) -> Result<()> {
    let theirs = &mut *child.areas.write();
    theirs.tree.reserve_appends(areas.tree.len())?;
    for (start, area) in areas.tree.iter() {
        if area.flags.contains(AreaFlags::DONT_FORK) {
            continue;
        }
        if let Some(mappings) = area.source.as_deref().and_then(|source| source.mappings()) {
            mappings.add(&child.me)?;
        }
        let mut copy = area.clone();
        // Locks are not inherited (mlock(2)).
        copy.flags.remove(AreaFlags::LOCKED);
        let is_wiped = area.flags.contains(AreaFlags::WIPE_ON_FORK);
        copy.is_copied = AtomicBool::new(area.is_copied() && !is_wiped);
        theirs.tree.append(start, copy)?;
        if !is_wiped && has_private_pages(area) {
            by_parts(start..area.end, |part| {
                areas.pages.share_with(&mut theirs.pages, part)
            })
            .map_err(|_| Errno::ENOMEM)?;
        }
        sched::cond_resched();
    }
    Ok(())
}

fn has_private_pages(area: &Area) -> bool {
    !area.is_shared() && area.is_copied()
}

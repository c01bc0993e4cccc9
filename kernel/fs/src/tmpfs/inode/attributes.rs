//! Attributes of a [`TmpInode`], and its access control lists, which are part of the mode.
//!
//! Locking: the lists change with the lock of the attributes held. Both are leaf spin locks, so a list is made before
//! the locks are taken, and made again if it is no longer what it was made from.

use alloc::sync::Arc;

use abi::Result;
use collections::try_arc;

use super::{Contents, TmpInode, takes_page};
use crate::acl::{Acl, AclKind};
use crate::metadata::{Metadata, S_ISGID, SetAttr, Timestamp};

impl TmpInode {
    pub(super) fn attributes(&self) -> Metadata {
        let mut meta = *self.meta.lock();
        match &self.contents {
            Contents::Regular(regular) => {
                meta.size = regular.mapping.size_bytes();
                meta.blocks = regular.mapping.pages_cached() * 8;
            }
            Contents::Directory(directory) => meta.size = directory.lock().size(),
            Contents::Symlink(target) => meta.blocks = if takes_page(target) { 8 } else { 0 },
            Contents::Node => {}
        }
        meta
    }

    pub(super) fn change_attributes(&self, change: &SetAttr) -> Result<()> {
        if let Some(size) = change.size {
            self.regular()?.set_len(size)?;
        }
        loop {
            let before = match change.mode {
                Some(_) => self.acls.get(AclKind::Access),
                None => None,
            };
            let after = match (&before, change.mode) {
                (Some(acl), Some(mode)) => Some(try_arc(acl.with_mode(mode)?)?),
                _ => None,
            };
            let mut meta = self.meta.lock();
            if change.mode.is_some() {
                let now = self.acls.get(AclKind::Access);
                if now.as_ref().map(Arc::as_ptr) != before.as_ref().map(Arc::as_ptr) {
                    continue;
                }
                // It takes as much as the one before.
                let old = after.map(|acl| self.acls.replace(AclKind::Access, Some(acl)));
                meta.apply(change);
                drop(meta);
                drop((old, before, now));
                return Ok(());
            }
            meta.apply(change);
            return Ok(());
        }
    }

    pub(super) fn change_acl(
        &self,
        kind: AclKind,
        acl: Option<Acl>,
        keeps_set_gid: bool,
    ) -> Result<()> {
        let says = acl.as_ref().map(Acl::as_mode);
        let acl = acl.filter(|_| kind == AclKind::Default || !says.is_some_and(|(_, all)| all));
        let acl = acl.map(try_arc).transpose()?;
        let space = acl.as_ref().map_or(0, |acl| acl.space());
        self.usage.take_space(space)?;
        let mut meta = self.meta.lock();
        if kind == AclKind::Access {
            let mode = says.map_or(meta.mode & 0o777, |(mode, _)| mode);
            meta.mode = meta.mode & !0o777 | mode;
            if !keeps_set_gid {
                meta.mode &= !S_ISGID;
            }
        }
        meta.ctime = Timestamp::now();
        let old = self.acls.replace(kind, acl);
        drop(meta);
        let freed = old.map_or(0, |acl| acl.space());
        self.usage.give_space(freed);
        Ok(())
    }

    /// It was read.
    pub(super) fn note_access(&self) {
        let now = Timestamp::now();
        let mut meta = self.meta.lock();
        // Once after each change, and once a day.
        let changed = meta.mtime.max(meta.ctime);
        if meta.atime <= changed || now.is_a_day_after(meta.atime) {
            meta.atime = now;
        }
    }
}

//! [`Acls`]: where an inode of a file system in memory keeps its access control lists.
//!
//! Locking: a leaf spin lock. Most inodes have no list: an atomic tells so.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use machine::sync::SpinLock;

use super::{Acl, AclKind, NewAcls};

/// The lists of one inode.
#[derive(Debug, Default)]
pub struct Acls {
    has_any: AtomicBool,
    lists: SpinLock<NewAcls>,
}

impl Acls {
    /// With the lists that a new inode starts with.
    #[must_use]
    pub fn new(lists: NewAcls) -> Self {
        Self {
            has_any: AtomicBool::new(lists.access.is_some() || lists.default.is_some()),
            lists: SpinLock::new(lists),
        }
    }

    /// The list of a kind.
    #[must_use]
    pub fn get(&self, kind: AclKind) -> Option<Arc<Acl>> {
        if !self.has_any.load(Ordering::Acquire) {
            return None;
        }
        let lists = self.lists.lock();
        match kind {
            AclKind::Access => lists.access.clone(),
            AclKind::Default => lists.default.clone(),
        }
    }

    /// Puts a list, or none, in the place of another; what was there.
    pub fn replace(&self, kind: AclKind, acl: Option<Arc<Acl>>) -> Option<Arc<Acl>> {
        let mut lists = self.lists.lock();
        let place = match kind {
            AclKind::Access => &mut lists.access,
            AclKind::Default => &mut lists.default,
        };
        let old = core::mem::replace(place, acl);
        let has_any = lists.access.is_some() || lists.default.is_some();
        self.has_any.store(has_any, Ordering::Release);
        old
    }

    /// What the lists take, in bytes.
    pub(crate) fn space(&mut self) -> u64 {
        let lists = self.lists.get_mut();
        let all = [&lists.access, &lists.default];
        all.into_iter().flatten().map(|acl| acl.space()).sum()
    }
}

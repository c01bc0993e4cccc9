//! Cgroup namespaces: from which group on their threads see the hierarchy (cgroup_namespaces(7)).
//!
//! A thread without is in the initial one, which begins at the root.

use alloc::sync::Arc;

use abi::Result;
use collections::try_arc;
use fs::{UserNamespace, next_namespace_id};

use crate::task::cgroup::Cgroup;
use crate::task::thread::Thread;

/// A namespace.
#[derive(Debug)]
pub struct CgroupNamespace {
    ino: u32,
    owner: UserNamespace,
    root: Arc<Cgroup>,
}

impl CgroupNamespace {
    /// One that begins where `thread` is.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn at(thread: &Thread, owner: &UserNamespace) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            ino: next_namespace_id(),
            owner: owner.clone(),
            root: thread.cgroup().map_or_else(Cgroup::root, Ok)?,
        })?)
    }

    /// Its number: that of its file.
    #[must_use]
    pub fn ino(&self) -> u32 {
        self.ino
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// The group that its threads see as the root.
    #[must_use]
    pub fn root(&self) -> &Arc<Cgroup> {
        &self.root
    }
}

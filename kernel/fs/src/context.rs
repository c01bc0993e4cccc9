//! [`FsContext`]: root, working directory, umask and mount namespace of a process, shared with `CLONE_FS`.
//!
//! Locking: the places are read under RCU and replaced as a whole, with `changing` (sleeping) held. They do not
//! change, so a copy for fork shares them.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Result;
use collections::try_arc;
use sched::Mutex;
use sched::rcu::{self, Rcu, ReadGuard};

use crate::mount::MountNamespace;
use crate::path::Path;
use crate::user_namespace::UserNamespace;

/// Where path walks of a process start and end.
#[derive(Debug)]
pub struct FsContext {
    /// Never empty.
    places: Rcu<Places>,
    changing: Mutex<()>,
    umask: AtomicU32,
}

#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) root: Path,
    pub(crate) cwd: Path,
    namespace: Arc<MountNamespace>,
}

impl FsContext {
    /// A context at the root of `namespace`, umask 022.
    ///
    /// # Errors
    /// As [`MountNamespace::root`], `ENOMEM`.
    pub fn new(namespace: &Arc<MountNamespace>) -> Result<Arc<Self>> {
        let root = namespace.root()?;
        let places = try_arc(Places {
            cwd: root.clone(),
            root,
            namespace: namespace.clone(),
        })?;
        Self::with(places, 0o022)
    }

    fn with(places: Arc<Places>, umask: u32) -> Result<Arc<Self>> {
        let new = try_arc(Self {
            places: Rcu::new(places),
            changing: Mutex::new(()),
            umask: AtomicU32::new(umask),
        })?;
        Ok(new)
    }

    /// A copy for fork without `CLONE_FS`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self) -> Result<Arc<Self>> {
        let Some(places) = self.places.load() else {
            unreachable!("a context has places");
        };
        Self::with(places, self.umask())
    }

    /// Root, working directory and namespace, for the time of a read section.
    #[inline]
    pub(crate) fn places<'g>(&'g self, guard: &'g ReadGuard) -> &'g Places {
        match self.places.get(guard) {
            Some(places) => places,
            None => unreachable!("a context has places"),
        }
    }

    /// Changes the places.
    fn change(&self, change: impl FnOnce(&mut Places) -> Result<()>) -> Result<()> {
        let held = self.changing.lock();
        let mut places = self.places(&ReadGuard::new()).clone();
        change(&mut places)?;
        let old = self.places.swap(Some(try_arc(places)?));
        drop(held);
        old.into_iter().for_each(rcu::retire);
        Ok(())
    }

    /// Gives this context a copy of its mount namespace (`CLONE_NEWNS`), owned by `owner`.
    ///
    /// # Errors
    /// As [`MountNamespace::duplicate`], `ENOMEM`.
    pub fn unshare_namespace(&self, owner: &UserNamespace) -> Result<()> {
        self.change(|places| {
            let (root, cwd) = (&mut places.root, &mut places.cwd);
            places.namespace = places.namespace.duplicate(owner, &mut [root, cwd])?;
            Ok(())
        })
    }

    /// A context at the root of another mount namespace, with this one's umask (setns(2)).
    ///
    /// # Errors
    /// As [`MountNamespace::root`], `ENOMEM`.
    pub fn in_namespace(&self, namespace: &Arc<MountNamespace>) -> Result<Arc<Self>> {
        let new = Self::new(namespace)?;
        new.umask.store(self.umask(), Ordering::Relaxed);
        Ok(new)
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Path {
        self.places(&ReadGuard::new()).root.clone()
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(&self) -> Path {
        self.places(&ReadGuard::new()).cwd.clone()
    }

    /// The mount namespace.
    #[must_use]
    pub fn namespace(&self) -> Arc<MountNamespace> {
        self.places(&ReadGuard::new()).namespace.clone()
    }

    /// Changes the root directory (chroot(2)).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_root(&self, path: Path) -> Result<()> {
        self.change(|places| {
            places.root = path;
            Ok(())
        })
    }

    /// Changes the working directory (chdir(2)).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_cwd(&self, path: Path) -> Result<()> {
        self.change(|places| {
            places.cwd = path;
            Ok(())
        })
    }

    /// After pivot_root(2): whoever stood at `from` stands at `to` now.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn replace(&self, from: &Path, to: &Path) -> Result<()> {
        let is_concerned = {
            let guard = ReadGuard::new();
            let places = self.places(&guard);
            places.root == *from || places.cwd == *from
        };
        if !is_concerned {
            return Ok(());
        }
        self.change(|places| {
            for place in [&mut places.root, &mut places.cwd] {
                if *place == *from {
                    *place = to.clone();
                }
            }
            Ok(())
        })
    }

    /// The file creation mask.
    #[must_use]
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the mask's permission bits and returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }
}

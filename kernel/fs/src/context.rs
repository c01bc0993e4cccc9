//! [`FsContext`]: root, working directory, umask and mount namespace of a process, shared with `CLONE_FS`.

use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Result;
use machine::sync::SpinLock;

use crate::mount::MountNamespace;
use crate::path::Path;

/// Where path walks of a process start and end.
#[derive(Debug)]
pub struct FsContext {
    places: SpinLock<Places>,
    umask: AtomicU32,
}

#[derive(Debug, Clone)]
struct Places {
    root: Path,
    cwd: Path,
    namespace: Arc<MountNamespace>,
}

impl FsContext {
    /// A context at the root of `namespace`, umask 022.
    ///
    /// # Errors
    /// As [`MountNamespace::root`].
    pub fn new(namespace: &Arc<MountNamespace>) -> Result<Arc<Self>> {
        let root = namespace.root()?;
        let places = Places {
            cwd: root.clone(),
            root,
            namespace: namespace.clone(),
        };
        Ok(Arc::new(Self {
            places: SpinLock::new(places),
            umask: AtomicU32::new(0o022),
        }))
    }

    /// A copy for fork without `CLONE_FS`.
    #[must_use]
    pub fn duplicate(&self) -> Arc<Self> {
        let places = self.places.lock().clone();
        Arc::new(Self {
            places: SpinLock::new(places),
            umask: AtomicU32::new(self.umask()),
        })
    }

    /// Gives this context a copy of its mount namespace (`CLONE_NEWNS`).
    ///
    /// # Errors
    /// As [`MountNamespace::duplicate`].
    pub fn unshare_namespace(&self) -> Result<()> {
        let mut places = self.places.lock().clone();
        let Places {
            root,
            cwd,
            namespace,
        } = &mut places;
        *namespace = namespace.duplicate(&mut [root, cwd])?;
        let old = mem::replace(&mut *self.places.lock(), places);
        drop(old);
        Ok(())
    }

    /// A context at the root of another mount namespace, with this one's umask (setns(2)).
    ///
    /// # Errors
    /// As [`MountNamespace::root`].
    pub fn in_namespace(&self, namespace: &Arc<MountNamespace>) -> Result<Arc<Self>> {
        let new = Self::new(namespace)?;
        new.umask.store(self.umask(), Ordering::Relaxed);
        Ok(new)
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Path {
        self.places.lock().root.clone()
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(&self) -> Path {
        self.places.lock().cwd.clone()
    }

    /// The mount namespace.
    #[must_use]
    pub fn namespace(&self) -> Arc<MountNamespace> {
        self.places.lock().namespace.clone()
    }

    /// Changes the root directory (chroot(2)).
    pub fn set_root(&self, path: Path) {
        let old = mem::replace(&mut self.places.lock().root, path);
        drop(old);
    }

    /// Changes the working directory (chdir(2)).
    pub fn set_cwd(&self, path: Path) {
        let old = mem::replace(&mut self.places.lock().cwd, path);
        drop(old);
    }

    /// After pivot_root(2): whoever stood at `from` stands at `to` now.
    pub fn replace(&self, from: &Path, to: &Path) {
        if self.root() == *from {
            self.set_root(to.clone());
        }
        if self.cwd() == *from {
            self.set_cwd(to.clone());
        }
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

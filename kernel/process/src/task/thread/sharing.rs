//! What a thread shares by flags of clone(2), as it and others reach it; what exec has to know of who shares it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use fs::{FdView, FsContext};

use super::Thread;
use super::resources::{Resources, SharedFs};

impl Thread {
    /// Its descriptors, unless it has let go of them. The thread itself has them in its [`Own`](crate::own::Own).
    #[must_use]
    pub fn files_if_alive(&self) -> Option<FdView> {
        self.resources.lock().files.clone()
    }

    /// Its root, working directory, umask and mounts.
    ///
    /// # Panics
    /// When it has exited: only the thread itself may ask. Others use [`Self::fs_if_alive`].
    #[must_use]
    pub fn fs(&self) -> Arc<FsContext> {
        self.fs_if_alive()
            .expect("a running thread has a file system context")
    }

    /// As [`Self::fs`], unless it has let go of it.
    #[must_use]
    pub fn fs_if_alive(&self) -> Option<Arc<FsContext>> {
        let shared = self.resources.lock();
        shared.fs.as_ref().map(|shared| shared.context.clone())
    }

    pub(crate) fn set_files(&self, files: FdView) {
        let old = self.resources.lock().files.replace(files);
        drop(old);
    }

    pub(crate) fn set_fs(&self, new: Arc<SharedFs>) {
        let old = self.resources.lock().fs.replace(new);
        drop(old);
    }

    /// Keeps its file system context from being shared any further until [`Self::leave_exec`]; whether another
    /// process has it (LSM_UNSAFE_SHARE: that could change the root under a program with privileges).
    pub(crate) fn enter_exec(&self) -> bool {
        let Some(own) = self.resources.lock().fs.clone() else {
            return false;
        };
        own.in_exec.store(true, Ordering::SeqCst);
        let has_it = |thread: &Thread| {
            let theirs = thread.resources.lock();
            theirs.fs.as_ref().is_some_and(|fs| Arc::ptr_eq(fs, &own))
        };
        let state = self.process.signals.lock();
        let threads = state.threads.iter().filter(|thread| has_it(thread)).count();
        // One reference is ours.
        Arc::strong_count(&own) > threads + 1
    }

    /// The end of [`Self::enter_exec`].
    pub(crate) fn leave_exec(&self) {
        if let Some(own) = &self.resources.lock().fs {
            own.in_exec.store(false, Ordering::SeqCst);
        }
    }

    pub(crate) fn shared_fs(&self) -> Option<Arc<SharedFs>> {
        self.resources.lock().fs.clone()
    }

    /// Lets go of descriptors and file system context; the caller drops them without a lock.
    pub(crate) fn take_resources(&self) -> Resources {
        core::mem::take(&mut *self.resources.lock())
    }
}

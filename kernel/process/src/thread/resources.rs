//! What a thread may share with others by flags of clone(2): descriptors, and root, working directory, umask.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use fs::{FdView, FsContext};

use super::Thread;

/// What clone(2) shares or copies by flags of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resources {
    pub(crate) files: Option<FdView>,
    pub(crate) fs: Option<Arc<SharedFs>>,
}

/// A file system context and who has it: each thread that shares it holds a reference to this, whoever only
/// looks at it one to the context, so that the references to this count the threads.
#[derive(Debug)]
pub(crate) struct SharedFs {
    pub(crate) context: Arc<FsContext>,
    /// A thread that has it is in exec and has counted those that share it: no more may (`in_exec`).
    in_exec: AtomicBool,
}

impl SharedFs {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(context: Arc<FsContext>) -> Result<Arc<Self>> {
        let new = try_arc(Self {
            context,
            in_exec: AtomicBool::new(false),
        })?;
        Ok(new)
    }

    /// One more thread has it (CLONE_FS).
    ///
    /// # Errors
    /// `EAGAIN` while one that has it is in exec.
    pub(crate) fn share(self: &Arc<Self>) -> Result<Arc<Self>> {
        // Counted before the look, as exec looks before it counts.
        let shared = self.clone();
        if self.in_exec.load(Ordering::SeqCst) {
            return Err(Errno::EAGAIN);
        }
        Ok(shared)
    }
}

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

//! What a thread may share with others by flags of clone(2): descriptors, and root, working directory, umask.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use fs::{FdView, FsContext};

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
    pub(super) in_exec: AtomicBool,
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

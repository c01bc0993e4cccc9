//! [`Own`]: what a thread alone changes and looks at in nearly every system call, at hand without a lock: its
//! descriptors, its file system context, its credentials, its newest filter of system calls. It lives with the user loop and goes through a system
//! call by reference; others see what is in the [`Thread`], which is kept the same here.

use alloc::sync::Arc;

use abi::Result;
use fs::{Credentials, FdTable, FsContext};

use crate::seccomp::Filter;
use crate::task::thread::{SharedFs, Thread};

/// What its thread alone changes.
#[derive(Debug)]
pub struct Own {
    /// The descriptors.
    pub files: FdTable,
    fs: Arc<FsContext>,
    credentials: Arc<Credentials>,
    newest_filter: Option<Arc<Filter>>,
}

impl Own {
    /// Of `thread`, which is about to run, and whose descriptors are `files`.
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn new(thread: &Thread, files: FdTable) -> Self {
        Self {
            files,
            fs: thread.fs(),
            credentials: thread.credentials(),
            // Looked up before the first call, if there is one.
            newest_filter: None,
        }
    }

    /// Root, working directory, umask and mounts.
    #[inline]
    #[must_use]
    pub fn fs(&self) -> &Arc<FsContext> {
        &self.fs
    }

    /// Who the thread is: for permission checks.
    #[inline]
    #[must_use]
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// The newest of its filters of system calls, as far as it has looked them up ([`Self::settle_seccomp`]).
    #[inline]
    pub(crate) fn newest_filter(&self) -> Option<&Arc<Filter>> {
        self.newest_filter.as_ref()
    }

    /// Looks its filters up, if somebody has changed them.
    pub(crate) fn settle_seccomp(&mut self, thread: &Thread) {
        if !thread.seccomp.is_settled() {
            self.newest_filter = thread.seccomp.settle();
        }
    }

    /// Replaces the descriptor table (unshare, exec).
    pub fn set_files(&mut self, thread: &Thread, files: FdTable) {
        thread.set_files(files.view());
        self.files = files;
    }

    /// Replaces the file system context (unshare, setns).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_fs(&mut self, thread: &Thread, fs: Arc<FsContext>) -> Result<()> {
        thread.set_fs(SharedFs::new(fs.clone())?);
        self.fs = fs;
        Ok(())
    }

    /// Makes the thread someone else.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_credentials(&mut self, thread: &Thread, credentials: Credentials) -> Result<()> {
        thread.set_credentials(credentials)?;
        self.credentials = thread.credentials();
        Ok(())
    }

    /// As [`Self::set_credentials`], with the same real user id.
    pub(crate) fn put_credentials(&mut self, thread: &Thread, credentials: Arc<Credentials>) {
        thread.put_credentials(credentials.clone());
        self.credentials = credentials;
    }
}

//! A guest's shared directory: the file system device, and the [`Gofer`] that opens files for it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::fs::Fs;
use host_machine::far_end::Directories;

use crate::gofer::Gofer;

/// The device, which has a thread of its own, as the owner's requests see it.
#[derive(Debug, Clone)]
pub struct SharedFiles<S>(Arc<Mutex<Fs<S>>>);

impl<S> SharedFiles<S> {
    /// Starts a gofer for a directory, which the guest mounts by this tag. Prepares the process for a guest's files, so
    /// before it has threads.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn start(tag: &str, directory: &OwnedFd) -> io::Result<(Self, Gofer)> {
        let (gofer, link) = Gofer::start(directory)?;
        devices::fs::prepare_process();
        link.wait_ready()?;
        let device = Arc::new(Mutex::new(Fs::remote(tag, link)));
        Ok((Self(device), gofer))
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> Arc<Mutex<Fs<S>>> {
        Arc::clone(&self.0)
    }

    fn lock(&self) -> MutexGuard<'_, Fs<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Directories for SharedFiles<S> {
    fn attach(&self, name: &str, directory: OwnedFd, read_only: bool) -> io::Result<()> {
        self.lock().attach(name, directory, read_only)
    }

    fn detach(&self, name: &str) -> io::Result<()> {
        self.lock().detach(name)
    }
}

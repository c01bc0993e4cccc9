//! virtio-fs (virtio 1.2, section 5.11): FUSE requests of the guest, answered from one directory.
//!
//! [`server`] is what answers. It runs in a process of its own, the gofer, to which the device hands the requests
//! over a [`gofer::Link`], so that the device's process can open no file; or beside the device. The device works on
//! a thread of its own, since its requests wait for the host's disks.

pub mod gofer;
pub mod server;

use std::io;

use super::state::{Saved, StateError};
use super::{Active, Chain, Space, VirtioDevice};
use gofer::Link;
use server::FileServer;
#[cfg(any(test, feature = "testing"))]
pub(crate) use server::{BIG_WRITES, MAX_PAGES};

/// Bytes of the tag in the configuration space.
pub const TAG_LEN: usize = 36;
/// The version of what a device is saved as.
const SAVED_VERSION: u32 = 1;

/// Who answers.
#[derive(Debug)]
enum Files {
    Here(FileServer),
    There(Link),
}

/// The file system device.
#[derive(Debug)]
pub struct Fs<S> {
    /// What the guest mounts it by, at most [`TAG_LEN`] bytes.
    tag: String,
    files: Files,
    active: Option<Active<S>>,
    /// Whether the guest has ever asked for anything: then the server holds what it has open.
    was_used: bool,
}

impl<S> Fs<S> {
    /// A device that serves files by itself, for the guest to mount by `tag`.
    ///
    /// # Errors
    /// As [`FileServer::new`] for what `root` is now.
    pub fn new(tag: &str, root: &str) -> io::Result<Self> {
        let server = FileServer::new(root)?;
        Ok(Self::with(tag, Files::Here(server)))
    }

    /// A device whose files a gofer serves.
    #[must_use]
    pub fn remote(tag: &str, link: Link) -> Self {
        Self::with(tag, Files::There(link))
    }

    fn with(tag: &str, files: Files) -> Self {
        Self {
            tag: tag.to_owned(),
            files,
            active: None,
            was_used: false,
        }
    }

    /// Opens the root, if it is this device that serves it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<()> {
        match &self.files {
            Files::Here(server) => server.open(),
            Files::There(_) => Ok(()),
        }
    }
}

/// Lets this process open as many files as it may: the server holds a descriptor for every inode that the guest knows.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A low limit only makes the guest see EMFILE earlier.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

impl<S: Space> VirtioDevice<S> for Fs<S> {
    fn id(&self) -> u32 {
        26
    }

    fn name(&self) -> &'static str {
        "fs"
    }

    /// High-priority requests (forgets), then requests.
    fn queue_sizes(&self) -> &'static [u16] {
        &[128, 256]
    }

    /// The tag, padded to 36 bytes, and the number of request queues.
    fn config(&self) -> Vec<u8> {
        let mut config = self.tag.clone().into_bytes();
        config.resize(TAG_LEN, 0);
        config.extend_from_slice(&1u32.to_le_bytes());
        config
    }

    fn activate(&mut self, active: Active<S>) {
        let queues = 0..self.queue_sizes().len();
        let left: Vec<usize> = queues.filter(|queue| !active.kick(*queue)).collect();
        self.active = Some(active);
        left.into_iter().for_each(|queue| self.kicked(queue));
    }

    fn kicked(&mut self, queue: usize) {
        let Self {
            files,
            active: Some(active),
            was_used,
            ..
        } = self
        else {
            return;
        };
        active.drain(queue, |memory, chain| {
            *was_used = true;
            answer::<S>(files, memory, chain)
        });
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }

    fn save(&self) -> Result<Saved, StateError> {
        match self.was_used {
            true => Err(StateError::Held {
                of: "fs".to_owned(),
                why: "the files that the guest has open are the server's, which no state holds yet",
            }),
            false => Saved::new("fs", SAVED_VERSION, &self.tag),
        }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), StateError> {
        let tag: String = saved.fields("fs", SAVED_VERSION)?;
        if tag == self.tag {
            return Ok(());
        }
        Err(StateError::Unfit {
            of: "fs".to_owned(),
            what: format!("its tag is {tag}"),
        })
    }
}

fn answer<S: Space>(files: &Files, memory: &S::M, chain: Chain<S>) -> u32 {
    match files {
        Files::Here(server) => server.serve::<S>(memory, chain),
        Files::There(link) => link.pass_on::<S>(memory, &chain),
    }
}

#[cfg(test)]
mod tests;

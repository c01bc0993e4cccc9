//! virtio-fs (virtio 1.2, section 5.11): FUSE requests of the guest, answered from one directory.
//!
//! The requests are of two kinds. Whatever names a file or changes the tree is for [`server`], in a process of its own,
//! the gofer, to which the device hands it over a [`gofer::Link`]; or beside the device. What that opens comes back as a
//! descriptor, and what is about an open file's data the device does itself with it ([`open_files`]): so data takes
//! neither a copy nor a third process, and the device's process can open no file. The device works on a thread of its
//! own, since its requests wait for the host's disks.

pub mod gofer;
mod open_files;
pub mod server;
mod tree;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuse_backend_rs::api::server::Server;
use rustix::io::Errno;

use super::state::{Saved, StateError};
use super::{Active, Chain, Space, VirtioDevice};
use gofer::Link;
use open_files::OpenFiles;
use server::{Answer, FileServer};

/// Bytes of the tag in the configuration space.
pub const TAG_LEN: usize = 36;
/// The version of what a device is saved as.
const SAVED_VERSION: u32 = 1;

/// The requests that are about an open file alone, and those that open one.
mod opcode {
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const GETLK: u32 = 31;
    pub(super) const SETLK: u32 = 32;
    pub(super) const CREATE: u32 = 35;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const FALLOCATE: u32 = 43;
    pub(super) const LSEEK: u32 = 46;
    pub(super) const TMPFILE: u32 = 51;
}

/// Who answers what names files.
#[derive(Debug)]
enum Names {
    Here(FileServer),
    There(Link),
}

/// The file system device.
#[derive(Debug)]
pub struct Fs<S> {
    /// What the guest mounts it by, at most [`TAG_LEN`] bytes.
    tag: String,
    names: Names,
    open: OpenServer,
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
        Ok(Self::with(tag, Names::Here(server)))
    }

    /// A device whose files a gofer serves.
    #[must_use]
    pub fn remote(tag: &str, link: Link) -> Self {
        Self::with(tag, Names::There(link))
    }

    fn with(tag: &str, names: Names) -> Self {
        Self {
            tag: tag.to_owned(),
            names,
            open: OpenServer::new(),
            active: None,
            was_used: false,
        }
    }

    /// Lets the guest mount another directory, as `TAG/NAME`; it may change nothing in one that is `read_only`.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken, `ENOTDIR`, `EINVAL` for what is no name.
    pub fn attach(&self, name: &str, directory: OwnedFd, read_only: bool) -> io::Result<()> {
        match &self.names {
            Names::Here(server) => server.attach(name.as_bytes(), directory, read_only),
            Names::There(link) => link.attach(name, &directory, read_only),
        }
    }

    /// Takes a directory back. What the guest has open there is closed, and what it does with it is `ESTALE` from now on.
    ///
    /// # Errors
    /// `ENOENT` for a name that is not known.
    pub fn detach(&self, name: &str) -> io::Result<()> {
        let share = match &self.names {
            Names::Here(server) => server.detach(name.as_bytes()),
            Names::There(link) => link.detach(name),
        }?;
        self.open.files.close_share(share);
        Ok(())
    }

    /// Lets no more than this many files be open.
    #[cfg(test)]
    fn limit_open(&self, most: u64) {
        self.open.files.limit(most);
    }

    /// Opens the root, if it is this device that serves it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<()> {
        match &self.names {
            Names::Here(server) => server.open(),
            Names::There(_) => Ok(()),
        }
    }
}

/// Prepares this process for a guest's files, before it has threads: it may have as many descriptors as possible, one
/// for every inode that the guest knows, or for every file that it has open; and a write beyond its limit of file
/// sizes is the guest's error (`EFBIG`), not this process's end.
pub fn prepare_process() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A low limit only makes the guest see ENFILE or EMFILE earlier.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    // It fails where the signal is blocked already.
    let _ = vmm_sys_util::signal::block_signal(libc::SIGXFSZ);
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
            names,
            open,
            active: Some(active),
            was_used,
            ..
        } = self
        else {
            return;
        };
        active.drain(queue, |memory, chain| {
            *was_used = true;
            serve::<S>(names, open, memory, chain)
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

/// The open files, with what takes requests about them apart.
struct OpenServer {
    files: Arc<OpenFiles>,
    server: Server<Arc<OpenFiles>>,
}

impl OpenServer {
    fn new() -> Self {
        let files = Arc::new(OpenFiles::new());
        let server = Server::new(Arc::clone(&files));
        Self { files, server }
    }
}

impl fmt::Debug for OpenServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

/// Has one request answered, and says how long the answer is.
fn serve<S: Space>(names: &Names, open: &OpenServer, memory: &S::M, chain: Chain<S>) -> u32 {
    let Some(header) = server::header::<S>(memory, chain.clone()) else {
        return 0;
    };
    let refuse = |errno: Errno| {
        let answer = server::answer(&header, Err(errno.into()));
        server::reply::<S>(memory, chain.clone(), &answer)
    };
    match header.opcode {
        opcode::READ
        | opcode::WRITE
        | opcode::RELEASE
        | opcode::FSYNC
        | opcode::FLUSH
        | opcode::GETLK
        | opcode::SETLK
        | opcode::FALLOCATE
        | opcode::LSEEK => {
            return server::handle::<S, _>(&open.server, memory, chain);
        }
        // As for a system whose table of open files is full.
        opcode::OPEN | opcode::CREATE | opcode::TMPFILE if !open.files.has_room() => {
            return refuse(Errno::NFILE);
        }
        opcode::DESTROY => open.files.clear(),
        _ => {}
    }
    let Answer { length, opened } = match names {
        Names::Here(server) => server.serve::<S>(memory, &chain),
        Names::There(link) => link.pass_on::<S>(memory, &chain),
    };
    match opened.map(|opened| open.files.add(opened)) {
        None | Some(Ok(())) => length,
        Some(Err(errno)) => refuse(errno),
    }
}

#[cfg(test)]
mod tests;

//! virtio-fs (virtio 1.2, section 5.11): FUSE requests of the guest, served by `fuse-backend-rs` from
//! one directory.
//!
//! The server opens every inode relative to its parent's descriptor without following links and refuses
//! names with a slash; `..` at the root is the root. The device works on a thread of its own, since
//! its requests wait for the host's disks.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use fuse_backend_rs::api::server::{MAX_REQ_PAGES, Server};
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter, Writer};

use super::{Active, Chain, Space, VirtioDevice};

/// Bytes of the tag in the configuration space.
pub const TAG_LEN: usize = 36;
/// The number of FUSE_INIT, the length of its request with header, and of its answer up to the last
/// field that is changed here.
const OPCODE_INIT: u32 = 26;
const INIT_REQUEST: usize = 56;
const INIT_ANSWER: usize = 46;
/// FUSE_INIT features: writes over a page, more than 32 pages a request, lookups side by side, and
/// attributes in directory listings.
pub(crate) const BIG_WRITES: u32 = 1 << 5;
pub(crate) const MAX_PAGES: u32 = 1 << 22;
const PARALLEL_DIROPS: u32 = 1 << 18;
const READDIR_PLUS: u32 = 0b11 << 13;
/// How long the guest may rely on names and attributes it has seen.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The file system device.
pub struct Fs<S> {
    /// What the guest mounts it by, at most [`TAG_LEN`] bytes.
    tag: String,
    server: Server<Arc<PassthroughFs>>,
    fs: Arc<PassthroughFs>,
    active: Option<Active<S>>,
}

impl<S> Fs<S> {
    /// A server of what `root` will be when [`open`](Self::open) is called, for the guest to mount by `tag`.
    ///
    /// It opens `/proc/self/fd` here, and keeps that for as long as it lives.
    ///
    /// # Errors
    /// When there is no procfs.
    pub fn new(tag: &str, root: &str) -> io::Result<Self> {
        let config = Config {
            root_dir: root.to_owned(),
            entry_timeout: CACHE_TIME,
            attr_timeout: CACHE_TIME,
            cache_policy: CachePolicy::Auto,
            // The server reaches extended attributes by paths, which the jail's root has not.
            xattr: false,
            // Also what makes the server check the names it is given.
            do_import: true,
            ..Config::default()
        };
        let fs = Arc::new(PassthroughFs::new(config)?);
        Ok(Self {
            tag: tag.to_owned(),
            server: Server::new(Arc::clone(&fs)),
            fs,
            active: None,
        })
    }

    /// Opens the root.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<()> {
        self.fs.import()
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

impl<S: fmt::Debug> fmt::Debug for Fs<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
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
        self.active = Some(active);
        for queue in 0..self.queue_sizes().len() {
            self.kicked(queue);
        }
    }

    fn kicked(&mut self, queue: usize) {
        let Self { server, active, .. } = self;
        if let Some(active) = active {
            active.drain(queue, |memory, chain| serve::<S>(server, memory, chain));
        }
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }
}

/// Answers one request; a request that makes no sense gets an empty answer.
fn serve<S: Space>(server: &Server<Arc<PassthroughFs>>, memory: &S::M, chain: Chain<S>) -> u32 {
    let Ok(reader) = Reader::from_descriptor_chain::<S::T>(memory, chain.clone()) else {
        return 0;
    };
    let Ok(writer) = VirtioFsWriter::new::<S::T>(memory, chain.clone()) else {
        return 0;
    };
    let offered = init_flags::<S>(memory, chain.clone());
    let written = server.handle_message(reader, Writer::VirtioFs(writer), None, None);
    let written = written.unwrap_or(0);
    if let (Some(offered), true) = (offered, written >= INIT_ANSWER) {
        // An answer that could not be changed is right as it is.
        let _ = widen::<S>(memory, chain, offered);
    }
    u32::try_from(written).unwrap_or(0)
}

/// The features that a FUSE_INIT request offers; `None` for any other request.
fn init_flags<S: Space>(memory: &S::M, chain: Chain<S>) -> Option<u32> {
    let mut request = [0; INIT_REQUEST];
    chain.reader(memory).ok()?.read_exact(&mut request).ok()?;
    let word = |at: usize| Some(u32::from_le_bytes(*request.get(at..)?.first_chunk()?));
    (word(4)? == OPCODE_INIT).then(|| word(52)).flatten()
}

/// Lets requests be as large as the server takes them.
///
/// `PassthroughFs` by itself does not accept the features that say so, which leaves a page a request.
fn widen<S: Space>(memory: &S::M, chain: Chain<S>, offered: u32) -> Option<()> {
    let flags = offered & (BIG_WRITES | MAX_PAGES | PARALLEL_DIROPS | READDIR_PLUS);
    let mut answer = chain.writer(memory).ok()?;
    let mut from_flags = answer.split_at(28).ok()?;
    let mut from_max_write = from_flags.split_at(8).ok()?;
    let mut from_max_pages = from_max_write.split_at(8).ok()?;
    from_flags.write_all(&flags.to_le_bytes()).ok()?;
    if flags & BIG_WRITES != 0 {
        let bytes = u32::from(MAX_REQ_PAGES) * 4096;
        from_max_write.write_all(&bytes.to_le_bytes()).ok()?;
    }
    if flags & MAX_PAGES != 0 {
        let pages = MAX_REQ_PAGES.to_le_bytes();
        from_max_pages.write_all(&pages).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests;

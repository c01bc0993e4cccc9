//! The file server: FUSE requests served by `fuse-backend-rs` from one directory.
//!
//! It opens every inode relative to its parent's descriptor without following links and refuses names with a
//! slash; `..` at the root is the root. It runs in the gofer ([`super::gofer`]), or beside a device in one process.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use fuse_backend_rs::api::server::{MAX_REQ_PAGES, Server};
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter, Writer};

use crate::{Chain, Space};

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
/// The most bytes of data in a request or an answer.
pub(crate) const MOST_DATA: usize = MAX_REQ_PAGES as usize * 4096;
/// How long the guest may rely on names and attributes it has seen.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// A directory that is served.
pub struct FileServer {
    server: Server<Arc<PassthroughFs>>,
    fs: Arc<PassthroughFs>,
}

impl fmt::Debug for FileServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileServer").finish_non_exhaustive()
    }
}

impl FileServer {
    /// A server of what `root` will be when [`open`](Self::open) is called.
    ///
    /// It opens `/proc/self/fd` here, and keeps that for as long as it lives.
    ///
    /// # Errors
    /// When there is no procfs.
    pub fn new(root: &str) -> io::Result<Self> {
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
        let server = Server::new(Arc::clone(&fs));
        Ok(Self { server, fs })
    }

    /// Opens the root.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<()> {
        self.fs.import()
    }

    /// Answers one request, and says how long the answer is; a request that makes no sense gets an empty one.
    pub fn serve<S: Space>(&self, memory: &S::M, chain: Chain<S>) -> u32 {
        let Ok(reader) = Reader::from_descriptor_chain::<S::T>(memory, chain.clone()) else {
            return 0;
        };
        let Ok(writer) = VirtioFsWriter::new::<S::T>(memory, chain.clone()) else {
            return 0;
        };
        let offered = init_flags::<S>(memory, chain.clone());
        let writer = Writer::VirtioFs(writer);
        let written = self.server.handle_message(reader, writer, None, None);
        let written = written.unwrap_or(0);
        if let (Some(offered), true) = (offered, written >= INIT_ANSWER) {
            // An answer that could not be changed is right as it is.
            let _ = widen::<S>(memory, chain, offered);
        }
        u32::try_from(written).unwrap_or(0)
    }
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

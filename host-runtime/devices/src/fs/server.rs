//! The file server: FUSE requests that name files, answered from one directory.
//!
//! `fuse-backend-rs` takes them apart and [`super::tree`] answers. What is opened goes to who reads and writes it,
//! [`super::open_files`]. It runs in the gofer ([`super::gofer`]), or beside a device in one process.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, EntryOut, InHeader, Kstatfs, OpenOut, OutHeader};
use fuse_backend_rs::api::filesystem::Context;
use fuse_backend_rs::api::server::{MAX_REQ_PAGES, Server};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter, Writer};
use rustix::io::Errno;
use vm_memory::ByteValued;

pub use super::tree::Opened;
use super::tree::Tree;
use crate::{Chain, Space};

/// The requests that `fuse-backend-rs` does not know, or whose answers it cannot be given safely.
const OPCODE_STATFS: u32 = 17;
const OPCODE_SYNCFS: u32 = 50;
const OPCODE_TMPFILE: u32 = 51;
/// The most bytes of data in a request or an answer.
pub(crate) const MOST_DATA: usize = MAX_REQ_PAGES as usize * 4096;

/// A directory that is served.
pub struct FileServer {
    server: Server<Arc<Tree>>,
    tree: Arc<Tree>,
}

impl fmt::Debug for FileServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileServer").finish_non_exhaustive()
    }
}

/// What came of a request.
#[derive(Debug, Default)]
pub struct Answer {
    /// How long the answer is; 0 for none.
    pub length: u32,
    /// The file that was opened.
    pub opened: Option<Opened>,
}

impl FileServer {
    /// A server of what `root` will be when [`open`](Self::open) is called.
    ///
    /// It opens `/proc/self/fd` here, and keeps that for as long as it lives.
    ///
    /// # Errors
    /// When there is no procfs.
    pub fn new(root: &str) -> io::Result<Self> {
        let tree = Arc::new(Tree::new(root)?);
        let server = Server::new(Arc::clone(&tree));
        Ok(Self { server, tree })
    }

    /// Opens the root.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<()> {
        self.tree.open_root()
    }

    /// Shares another directory, by this name.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken, `ENOTDIR`, `EINVAL` for what is no name.
    pub fn attach(&self, name: &[u8], directory: OwnedFd, read_only: bool) -> io::Result<()> {
        self.tree.attach(name, directory, read_only)
    }

    /// Takes a directory back; gives the number of its share.
    ///
    /// # Errors
    /// `ENOENT` for a name that is not known.
    pub fn detach(&self, name: &[u8]) -> io::Result<u64> {
        self.tree.detach(name)
    }

    /// Answers one request; one that makes no sense gets an empty answer.
    pub fn serve<S: Space>(&self, memory: &S::M, chain: &Chain<S>) -> Answer {
        let Some(header) = header::<S>(memory, chain.clone()) else {
            return Answer::default();
        };
        let by_hand = |made: Result<Vec<u8>, io::Error>| {
            let answer = answer(&header, made);
            reply::<S>(memory, chain.clone(), &answer)
        };
        let length = match header.opcode {
            OPCODE_STATFS => by_hand(self.statfs(&header)),
            OPCODE_SYNCFS => by_hand(self.tree.sync(header.nodeid).map(|()| Vec::new())),
            OPCODE_TMPFILE => by_hand(self.make_unnamed::<S>(memory, chain.clone(), &header)),
            _ => self.pass_on::<S>(memory, chain.clone()),
        };
        let opened = self.tree.take_opened();
        Answer { length, opened }
    }

    fn pass_on<S: Space>(&self, memory: &S::M, chain: Chain<S>) -> u32 {
        handle::<S, _>(&self.server, memory, chain)
    }

    fn statfs(&self, header: &InHeader) -> io::Result<Vec<u8>> {
        let found = self.tree.statfs(header.nodeid)?;
        let cut = |long: u64| u32::try_from(long).unwrap_or(u32::MAX);
        let answer = Kstatfs {
            blocks: found.f_blocks,
            bfree: found.f_bfree,
            bavail: found.f_bavail,
            files: found.f_files,
            ffree: found.f_ffree,
            bsize: cut(found.f_bsize),
            namelen: cut(found.f_namemax),
            frsize: cut(found.f_frsize),
            ..Kstatfs::default()
        };
        Ok(answer.as_slice().to_vec())
    }

    /// `O_TMPFILE`: a file without a name, open already.
    fn make_unnamed<S: Space>(
        &self,
        memory: &S::M,
        chain: Chain<S>,
        header: &InHeader,
    ) -> io::Result<Vec<u8>> {
        let mut request = chain.reader(memory).map_err(|_| Errno::INVAL)?;
        let read = |_| io::Error::from(Errno::INVAL);
        request.read_obj::<InHeader>().map_err(read)?;
        let args = request.read_obj::<CreateIn>().map_err(read)?;
        let context = Context::from(header);
        let (entry, handle) = self.tree.make_unnamed(&context, header.nodeid, &args)?;
        let open = OpenOut {
            fh: handle,
            ..OpenOut::default()
        };
        Ok([EntryOut::from(entry).as_slice(), open.as_slice()].concat())
    }
}

/// Has one of `fuse-backend-rs`'s servers answer a request; the answer's length.
pub(super) fn handle<S: Space, F>(server: &Server<F>, memory: &S::M, chain: Chain<S>) -> u32
where
    F: fuse_backend_rs::api::filesystem::FileSystem + Sync,
{
    let Ok(reader) = Reader::from_descriptor_chain::<S::T>(memory, chain.clone()) else {
        return 0;
    };
    let Ok(writer) = VirtioFsWriter::new::<S::T>(memory, chain) else {
        return 0;
    };
    let written = server.handle_message(reader, Writer::VirtioFs(writer), None, None);
    u32::try_from(written.unwrap_or(0)).unwrap_or(0)
}

/// What a request begins with.
pub(super) fn header<S: Space>(memory: &S::M, chain: Chain<S>) -> Option<InHeader> {
    chain.reader(memory).ok()?.read_obj().ok()
}

/// An answer: what is to be told, or why there is nothing.
pub(super) fn answer(header: &InHeader, made: Result<Vec<u8>, io::Error>) -> Vec<u8> {
    let (error, body) = match made {
        Ok(body) => (0, body),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            (-errno, Vec::new())
        }
    };
    let length = size_of::<OutHeader>() + body.len();
    let header = OutHeader {
        len: u32::try_from(length).unwrap_or(0),
        error,
        unique: header.unique,
    };
    [header.as_slice(), &body].concat()
}

/// Writes an answer where the guest has room for it; its length.
pub(super) fn reply<S: Space>(memory: &S::M, chain: Chain<S>, answer: &[u8]) -> u32 {
    let written = chain
        .writer(memory)
        .map_err(io::Error::other)
        .and_then(|mut to| io::Write::write_all(&mut to, answer));
    match written {
        Ok(()) => u32::try_from(answer.len()).unwrap_or(0),
        Err(_) => 0,
    }
}

//! A mounted server: what was agreed with it, and the table of nodes it knows by number.
//!
//! Locking: `nodes` is a leaf; inodes are never dropped with it held.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Map, String, try_arc};
use machine::PAGE_SIZE;
use machine::sync::SpinLock;
use zerocopy::IntoBytes;

use super::connection::Connection;
use super::convert;
use super::inode::FuseInode;
use super::message::Request;
use super::wire::{
    self, AttrOut, EntryOut, GetAttrIn, InitIn, InitOut, Op, StatFsOut, SyncFsIn, init,
};
use crate::file_system::{FileSystem, FsFlags};
use crate::inode::Inode;
use crate::lock::LockFamily;
use crate::metadata::StatFs;

/// Pages in one request when the server does not say.
const DEFAULT_PAGES: usize = 32;
/// `FUSE_SUPER_MAGIC`.
const MAGIC: u64 = 0x6573_5546;

/// One mounted server.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Arc<Connection>,
    /// Most pages of data in one READ or WRITE.
    pub(super) max_pages: usize,
    /// The server gives record locks.
    has_record_locks: bool,
    /// The server gives locks of flock(2).
    has_flock: bool,
    root: SpinLock<Option<Arc<FuseInode>>>,
    /// The root's number.
    pub(super) root_node: u64,
    nodes: SpinLock<Map<u64, Weak<FuseInode>>>,
    /// Changes made here so far; see [`super::attributes`].
    changes: AtomicU64,
    /// Requests that the server does not know, a bit for each [`Op`].
    unknown: AtomicU64,
}

impl Session {
    /// Says hello and asks for the attributes of the root: the server's own, or the directory that it has attached by
    /// a name.
    ///
    /// # Errors
    /// `EPROTO` for a server that is too old, `EIO` for one that answers nonsense, `ENOENT` for a name it does not know.
    pub(super) fn open(
        connection: Arc<Connection>,
        attached: Option<&[u8]>,
    ) -> Result<Arc<Session>> {
        let wanted = init::ASYNC_READ
            | init::ATOMIC_O_TRUNC
            | init::BIG_WRITES
            | init::DONT_MASK
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES
            | init::POSIX_LOCKS
            | init::FLOCK_LOCKS;
        let hello = InitIn {
            major: wire::MAJOR,
            minor: wire::MINOR,
            max_readahead: 128 * 1024,
            flags: wanted,
        };
        let args = [hello.as_bytes()];
        let reply = connection.call(Request::new(Op::Init, 0, &args, size_of::<InitOut>()))?;
        let agreed: InitOut = reply.parse()?;
        if agreed.major != wire::MAJOR || agreed.minor < wire::OLDEST_MINOR {
            machine::log!(
                "virtiofs: the server speaks FUSE {}.{}",
                agreed.major,
                agreed.minor
            );
            return Err(Errno::EPROTO);
        }
        let entry = match attached {
            None => own_root(&connection)?,
            Some(name) => attached_root(&connection, name)?,
        };
        let session = try_arc(Session {
            root_node: entry.nodeid,
            max_pages: max_pages(&agreed, connection.max_pages()),
            connection,
            has_record_locks: agreed.flags & init::POSIX_LOCKS != 0,
            has_flock: agreed.flags & init::FLOCK_LOCKS != 0,
            root: SpinLock::new(None),
            nodes: SpinLock::new(Map::new()),
            changes: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        })?;
        let root = session.node(&entry, 0)?;
        *session.root.lock() = Some(root);
        Ok(session)
    }

    /// Whether the server still has the root.
    pub(super) fn is_there(&self) -> bool {
        let root = self.root.lock().clone();
        root.is_some_and(|root| root.refresh(None).is_ok())
    }

    /// Lets the root go, which keeps the session as long as it has it: nothing is to be mounted from it any more.
    pub(super) fn close(&self) {
        let root = self.root.lock().take();
        drop(root);
    }

    /// Whether the server gives locks of a family.
    pub(super) fn gives_locks(&self, family: LockFamily) -> bool {
        match family {
            LockFamily::Flock => self.has_flock,
            LockFamily::Record => self.has_record_locks,
        }
    }

    /// Refuses a request that the server has said it does not know.
    ///
    /// # Errors
    /// `ENOSYS`.
    pub(super) fn check_known(&self, op: Op) -> Result<()> {
        if self.unknown.load(Ordering::Relaxed) & bit(op) == 0 {
            Ok(())
        } else {
            Err(Errno::ENOSYS)
        }
    }

    /// Remembers an answer that says that `op` is not known.
    pub(super) fn note_answer(&self, op: Op, errno: Errno) {
        if errno == Errno::ENOSYS {
            self.unknown.fetch_or(bit(op), Ordering::Relaxed);
        }
    }

    /// What it has counted to: to be asked before a request whose answer tells of attributes.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The number of a change made here.
    pub(super) fn count_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The inode of an entry that a reply carries, which counts as one lookup. `asked_at`: what the session had
    /// counted to before the request.
    ///
    /// # Errors
    /// `EIO` for an entry that cannot be.
    pub(super) fn node(
        self: &Arc<Self>,
        entry: &EntryOut,
        asked_at: u64,
    ) -> Result<Arc<FuseInode>> {
        let meta = convert::metadata(&entry.attr);
        let Ok(meta) = meta else {
            self.forget(entry.nodeid, 1);
            return Err(Errno::EIO);
        };
        let same = |nodes: &Map<u64, Weak<FuseInode>>| {
            let known = nodes.get(&entry.nodeid).and_then(Weak::upgrade);
            let is_same = |known: &Arc<FuseInode>| known.is_same(entry, meta.kind);
            (known.clone().filter(is_same), known)
        };
        let (found, other) = same(&self.nodes.lock());
        drop(other);
        if let Some(found) = found {
            found.lookups.fetch_add(1, Ordering::Relaxed);
            found.learn(entry, &meta, asked_at);
            return Ok(found);
        }
        // Made without the lock: where it comes to nothing, it forgets its lookup as it goes.
        let new = FuseInode::new(self.clone(), entry, &meta)?;
        let mut nodes = self.nodes.lock();
        let (faster, stale) = same(&nodes);
        let outcome = match faster {
            Some(faster) => Ok(faster),
            None => nodes
                .try_insert(entry.nodeid, Arc::downgrade(&new))
                .map(|_| new.clone())
                .map_err(Errno::from),
        };
        drop(nodes);
        drop(stale);
        outcome
    }

    /// Tells the server that `lookups` references to `node` are gone.
    pub(super) fn forget(&self, node: u64, lookups: u64) {
        // The root is never forgotten, and 0 is no node.
        if node > wire::ROOT_ID {
            self.connection.forget(node, lookups);
        }
    }

    /// Called by an inode that goes away.
    pub(super) fn remove(&self, inode: &FuseInode) {
        let mut nodes = self.nodes.lock();
        // The number may have been given to a newer inode already.
        let is_it = nodes
            .get(&inode.node)
            .is_some_and(|known| core::ptr::eq(known.as_ptr(), inode));
        let removed = if is_it {
            nodes.remove(&inode.node)
        } else {
            None
        };
        drop(nodes);
        drop(removed);
    }
}

/// The server's own root. It has not been looked up, and is not forgotten.
fn own_root(connection: &Connection) -> Result<EntryOut> {
    let args = GetAttrIn::default();
    let args = [args.as_bytes()];
    let request = Request::new(Op::GetAttr, wire::ROOT_ID, &args, size_of::<AttrOut>());
    let root: AttrOut = connection.call(request)?.parse()?;
    Ok(EntryOut {
        nodeid: wire::ROOT_ID,
        attr_valid: root.attr_valid,
        attr_valid_nsec: root.attr_valid_nsec,
        attr: root.attr,
        ..EntryOut::default()
    })
}

/// The directory that the server has attached by this name: a name in [`wire::NOWHERE`].
fn attached_root(connection: &Connection, name: &[u8]) -> Result<EntryOut> {
    let args = [name, b"\0"];
    let request = Request::new(Op::Lookup, wire::NOWHERE, &args, size_of::<EntryOut>());
    let entry: EntryOut = connection.call(request)?.parse()?;
    match entry.nodeid {
        0 => Err(Errno::ENOENT),
        // It would never be forgotten.
        wire::ROOT_ID => Err(Errno::EIO),
        _ => Ok(entry),
    }
}

const fn bit(op: Op) -> u64 {
    1 << op as u32
}

fn max_pages(agreed: &InitOut, fits: usize) -> usize {
    let by_flag = match agreed.flags & init::MAX_PAGES {
        0 => DEFAULT_PAGES,
        _ => usize::from(agreed.max_pages),
    };
    let by_write = agreed.max_write as usize / PAGE_SIZE;
    by_flag.min(by_write).min(fits).max(1)
}

impl Session {
    /// The next inode of a regular file from number `from` on, and where to go on.
    fn next_file(&self, mut from: u64) -> Option<(u64, Arc<FuseInode>)> {
        loop {
            let (node, inode) = {
                let nodes = self.nodes.lock();
                let (node, inode) = nodes.first_from(&from)?;
                (*node, inode.upgrade())
            };
            from = node.checked_add(1)?;
            sched::cond_resched();
            if let Some(inode) = inode.filter(|inode| inode.mapping().is_ok()) {
                return Some((from, inode));
            }
        }
    }

    /// Asks the server to write out what it holds; one that does not know the request needs no asking.
    fn sync_server(&self) -> Result<()> {
        let arg = SyncFsIn::default();
        let args = [arg.as_bytes()];
        if self.check_known(Op::SyncFs).is_err() {
            return Ok(());
        }
        let request = Request::new(Op::SyncFs, self.root_node, &args, 0);
        match self.connection.call(request) {
            Ok(_) => Ok(()),
            Err(errno @ (Errno::ENOSYS | Errno::EOPNOTSUPP)) => {
                self.note_answer(Op::SyncFs, errno);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }
}

impl FileSystem for Session {
    fn name(&self) -> &'static str {
        "virtiofs"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        // Set before the session is handed out.
        match &*self.root.lock() {
            Some(root) => Ok(root.clone()),
            None => Err(Errno::ESTALE),
        }
    }

    fn flags(&self) -> FsFlags {
        FsFlags::REVALIDATE | FsFlags::NODEV
    }

    fn options(&self) -> Result<String> {
        // As NFS says it: locks that the server does not give exclude nobody on the host.
        let name = match (self.has_record_locks, self.has_flock) {
            (true, true) => "",
            (true, false) => ",local_lock=flock",
            (false, true) => ",local_lock=posix",
            (false, false) => ",local_lock=all",
        };
        Ok(String::try_from_str(name)?)
    }

    fn sync(&self) -> Result<()> {
        let mut outcome = Ok(());
        let mut from = 0;
        while let Some((next, inode)) = self.next_file(from) {
            from = next;
            outcome = outcome.and(inode.write_back(0..u64::MAX));
        }
        outcome.and(self.sync_server())
    }

    fn statfs(&self) -> Result<StatFs> {
        let request = Request::new(Op::StatFs, self.root_node, &[], size_of::<StatFsOut>());
        let stat: StatFsOut = self.connection.call(request)?.parse()?;
        Ok(StatFs {
            magic: MAGIC,
            block_size: stat.frsize.max(512).into(),
            blocks: stat.blocks,
            blocks_free: stat.bfree,
            blocks_available: stat.bavail,
            files: stat.files,
            files_free: stat.ffree,
            name_max: stat.namelen.into(),
        })
    }
}

//! A mounted server: what was agreed with it, and the table of nodes it knows by number.
//!
//! Locking: `nodes` is a leaf; inodes are never dropped with it held.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use machine::PAGE_SIZE;
use machine::sync::SpinLock;
use memory::pressure::{self, Shrink};
use zerocopy::IntoBytes;

use super::connection::{Connection, Request};
use super::convert;
use super::inode::FuseInode;
use super::wire::{self, AttrOut, EntryOut, GetAttrIn, InitIn, InitOut, Op, StatFsOut, init};
use crate::file_system::{FileSystem, FsFlags};
use crate::inode::Inode;
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
    root: SpinLock<Option<Arc<FuseInode>>>,
    nodes: SpinLock<BTreeMap<u64, Weak<FuseInode>>>,
}

impl Session {
    /// Says hello and asks for the root's attributes.
    ///
    /// # Errors
    /// `EPROTO` for a server that is too old, `EIO` for one that answers nonsense.
    pub(super) fn open(connection: Arc<Connection>) -> Result<Arc<Session>> {
        let wanted = init::ASYNC_READ
            | init::ATOMIC_O_TRUNC
            | init::BIG_WRITES
            | init::DONT_MASK
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES;
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
        let session = Arc::new(Session {
            max_pages: max_pages(&agreed, connection.max_pages()),
            connection,
            root: SpinLock::new(None),
            nodes: SpinLock::new(BTreeMap::new()),
        });
        let args = GetAttrIn::default();
        let args = [args.as_bytes()];
        let request = Request::new(Op::GetAttr, wire::ROOT_ID, &args, size_of::<AttrOut>());
        let root: AttrOut = session.connection.call(request)?.parse()?;
        let entry = EntryOut {
            nodeid: wire::ROOT_ID,
            attr_valid: root.attr_valid,
            attr_valid_nsec: root.attr_valid_nsec,
            attr: root.attr,
            ..EntryOut::default()
        };
        let root = session.node(&entry)?;
        *session.root.lock() = Some(root);
        let shrinker: Arc<dyn Shrink> = session.clone();
        pressure::register(Arc::downgrade(&shrinker))?;
        Ok(session)
    }

    /// The inode of an entry that a reply carries, which counts as one lookup.
    ///
    /// # Errors
    /// `EIO` for an entry that cannot be.
    pub(super) fn node(self: &Arc<Self>, entry: &EntryOut) -> Result<Arc<FuseInode>> {
        let meta = convert::metadata(&entry.attr);
        let Ok(meta) = meta else {
            self.forget(entry.nodeid, 1);
            return Err(Errno::EIO);
        };
        let mut made = None;
        let (found, stale) = {
            let mut nodes = self.nodes.lock();
            let known = nodes.get(&entry.nodeid).and_then(Weak::upgrade);
            match known {
                Some(known) if known.is_same(entry, meta.kind) => (known, None),
                stale => {
                    let new = Arc::new(FuseInode::new(self.clone(), entry, &meta));
                    nodes.insert(entry.nodeid, Arc::downgrade(&new));
                    made = Some(new.clone());
                    (new, stale)
                }
            }
        };
        drop(stale);
        if made.is_none() {
            found.lookups.fetch_add(1, Ordering::Relaxed);
            found.learn(entry, &meta);
        }
        Ok(found)
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

fn max_pages(agreed: &InitOut, fits: usize) -> usize {
    let by_flag = match agreed.flags & init::MAX_PAGES {
        0 => DEFAULT_PAGES,
        _ => usize::from(agreed.max_pages),
    };
    let by_write = agreed.max_write as usize / PAGE_SIZE;
    by_flag.min(by_write).min(fits).max(1)
}

impl Shrink for Session {
    fn shrink(&self, wanted: usize) -> usize {
        let mut freed = 0;
        let mut next = 0;
        while freed < wanted {
            let found = {
                // Whoever holds the lock may be who runs short.
                let Some(nodes) = self.nodes.try_lock() else {
                    break;
                };
                let found = nodes.range(next..).next();
                found.map(|(node, inode)| (*node, inode.upgrade()))
            };
            let Some((node, inode)) = found else { break };
            next = node.saturating_add(1);
            freed += inode.map_or(0, |inode| inode.pages.shrink());
        }
        freed
    }
}

impl FileSystem for Session {
    fn name(&self) -> &'static str {
        "virtiofs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        // Set before the session is handed out.
        match &*self.root.lock() {
            Some(root) => root.clone(),
            None => unreachable!("a session has a root"),
        }
    }

    fn flags(&self) -> FsFlags {
        FsFlags::REVALIDATE | FsFlags::NO_NEGATIVE | FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        let request = Request::new(Op::StatFs, wire::ROOT_ID, &[], size_of::<StatFsOut>());
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

//! The inodes that the guest knows, by number and by what they are on the host.
//!
//! A number is given once. An inode stays as long as the guest counts lookups of it, and its descriptor keeps the
//! host from giving its identity to another. Locking: the table is behind a mutex of [`Tree`]; inodes are shared.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::{CACHE_TIME, ROOT, Tree, lock};

/// What tells an inode from all others: its device, its number there, and the mount and the share that it was found
/// in, since two of one file system may differ in what they allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Id {
    device: u64,
    inode: u64,
    mount: u64,
    share: u64,
}

/// A directory that is shared, as its inodes know it.
#[derive(Debug)]
pub(super) struct Share {
    /// Its number, which is given once; the root's is 0.
    pub(super) number: u64,
    /// The guest may change nothing.
    pub(super) read_only: bool,
    /// It was taken back.
    pub(super) is_gone: AtomicBool,
}

/// An inode.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u64,
    /// Opened with `O_PATH`.
    pub(super) file: OwnedFd,
    pub(super) kind: FileType,
    pub(super) share: Arc<Share>,
    id: Id,
}

impl Node {
    /// Its name in the directory of this process's descriptors.
    pub(super) fn name(&self) -> String {
        self.file.as_raw_fd().to_string()
    }
}

#[derive(Debug)]
struct Known {
    node: Arc<Node>,
    lookups: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_number: HashMap<u64, Known>,
    by_id: HashMap<Id, u64>,
    /// The last number given.
    last: u64,
    /// Host devices in the order in which they were met; the root's is the first.
    devices: Vec<u64>,
}

impl Nodes {
    /// Makes this directory the root, in place of the one before.
    pub(super) fn put_root(&mut self, file: OwnedFd) -> io::Result<()> {
        let (id, kind) = identify(&file, 0)?;
        let share = Arc::new(Share {
            number: 0,
            read_only: false,
            is_gone: AtomicBool::new(false),
        });
        let node = Arc::new(Node {
            number: ROOT,
            file,
            kind,
            share,
            id,
        });
        // It is not forgotten.
        let lookups = u64::MAX;
        self.by_number.insert(ROOT, Known { node, lookups });
        self.by_id.insert(id, ROOT);
        self.last = self.last.max(ROOT);
        self.place_of(id.device);
        Ok(())
    }

    /// The inode that this is a descriptor of, found once more.
    fn enter(&mut self, file: OwnedFd, share: &Arc<Share>) -> io::Result<Arc<Node>> {
        let (id, kind) = identify(&file, share.number)?;
        if share.is_gone.load(Ordering::Acquire) {
            return Err(Errno::STALE.into());
        }
        let known = self.by_id.get(&id);
        if let Some(known) = known.and_then(|number| self.by_number.get_mut(number)) {
            known.lookups = known.lookups.saturating_add(1);
            return Ok(Arc::clone(&known.node));
        }
        self.last += 1;
        let number = self.last;
        let node = Arc::new(Node {
            number,
            file,
            kind,
            share: Arc::clone(share),
            id,
        });
        self.by_id.insert(id, number);
        let known = Known {
            node: Arc::clone(&node),
            lookups: 1,
        };
        self.by_number.insert(number, known);
        self.place_of(id.device);
        Ok(node)
    }

    /// Takes lookups back.
    pub(super) fn forget(&mut self, number: u64, count: u64) {
        let Some(known) = self.by_number.get_mut(&number).filter(|_| number != ROOT) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 {
            let id = known.node.id;
            self.by_number.remove(&number);
            self.by_id.remove(&id);
        }
    }

    /// Whether this inode is of another share than this.
    pub(super) fn is_of_other(&self, number: u64, share: &Share) -> bool {
        let known = self.by_number.get(&number);
        known.is_none_or(|known| known.node.id.share != share.number)
    }

    /// Takes a share's inodes away from the guest.
    pub(super) fn drop_share(&mut self, share: &Share) {
        share.is_gone.store(true, Ordering::Release);
        self.by_id.retain(|id, _| id.share != share.number);
        self.by_number
            .retain(|_, known| known.node.id.share != share.number);
    }

    /// Takes all lookups back.
    pub(super) fn forget_all(&mut self) {
        self.by_number.retain(|number, _| *number == ROOT);
        self.by_id.retain(|_, number| *number == ROOT);
    }

    /// Which of the host's devices this is, in the order in which they were met.
    fn place_of(&mut self, device: u64) -> u64 {
        let known = self.devices.iter().position(|known| *known == device);
        let place = known.unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        });
        place as u64
    }

    /// A number for an inode that the guest can tell from all others.
    ///
    /// It sees one file system where the host may have mounted several, so those beside the root's have numbers of their
    /// own in the upper bits, which hardly any file system uses.
    pub(super) fn shown(&mut self, device: u64, inode: u64) -> u64 {
        inode ^ (self.place_of(device) << 48)
    }
}

impl Tree {
    /// The inode of a number.
    ///
    /// # Errors
    /// `ESTALE` for one that the guest does not know, or does not any more.
    pub(super) fn node(&self, number: u64) -> io::Result<Arc<Node>> {
        let nodes = lock(&self.nodes);
        let known = nodes.by_number.get(&number).ok_or(Errno::STALE)?;
        Ok(Arc::clone(&known.node))
    }

    /// As [`node`](Self::node), for one that is to be changed.
    ///
    /// # Errors
    /// `EROFS` for one of a share that is only to be read.
    pub(super) fn changeable(&self, number: u64) -> io::Result<Arc<Node>> {
        let node = self.node(number)?;
        match node.share.read_only {
            true => Err(Errno::ROFS.into()),
            false => Ok(node),
        }
    }

    /// The entry of what this is a descriptor of, which counts as one lookup.
    pub(super) fn enter(&self, file: OwnedFd, share: &Arc<Share>) -> io::Result<Entry> {
        let node = lock(&self.nodes).enter(file, share)?;
        let attr = self.attributes(&node).inspect_err(|_| {
            lock(&self.nodes).forget(node.number, 1);
        })?;
        Ok(Entry {
            inode: node.number,
            generation: 0,
            attr,
            attr_flags: 0,
            attr_timeout: CACHE_TIME,
            entry_timeout: CACHE_TIME,
        })
    }

    /// The entry of an open file, which counts as one lookup.
    pub(super) fn enter_open(&self, file: &OwnedFd, share: &Arc<Share>) -> io::Result<Entry> {
        let name = file.as_raw_fd().to_string();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&self.descriptors, name, flags, Mode::empty())?;
        self.enter(found, share)
    }
}

fn identify(file: &OwnedFd, share: u64) -> io::Result<(Id, FileType)> {
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted)?;
    let id = Id {
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        mount: stat.stx_mnt_id,
        share,
    };
    Ok((id, FileType::from_raw_mode(stat.stx_mode.into())))
}

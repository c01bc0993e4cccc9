//! Files that the server holds open: [`Handle`], and the ones an inode can use.
//!
//! Write-back and faults are about the inode, not about a description, so they take any handle that fits. A handle
//! is released when the last user is done with it, a request in flight included.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{Map, try_arc};
use machine::sync::SpinLock;
use zerocopy::IntoBytes;

use super::inode::FuseInode;
use super::session::Session;
use super::wire::{Op, OpenIn, OpenOut, ReleaseIn, fopen};
use crate::flags::OpenFlags;

/// A file that the server holds open; dropping it releases it.
#[derive(Debug)]
pub(super) struct Handle {
    session: Arc<Session>,
    node: u64,
    pub(super) number: u64,
    /// The flags it was opened with, as READ, WRITE and RELEASE repeat them.
    pub(super) flags: u32,
    /// The server wants no cache on it.
    pub(super) is_direct: bool,
    /// Its pages from before it was opened count no more.
    pub(super) drops_cache: bool,
}

impl Handle {
    /// Opens `inode` at the server.
    pub(super) fn open(inode: &FuseInode, flags: OpenFlags) -> Result<Arc<Handle>> {
        let sent = flags
            & (OpenFlags::WRONLY
                | OpenFlags::RDWR
                | OpenFlags::APPEND
                | OpenFlags::DSYNC
                | OpenFlags::SYNC_BIT);
        let arg = OpenIn {
            flags: sent.bits(),
            open_flags: 0,
        };
        let out: OpenOut = inode
            .ask(Op::Open, &[arg.as_bytes()], size_of::<OpenOut>())?
            .parse()?;
        Self::of(inode, out, sent.bits())
    }

    /// What the server answered to OPEN or CREATE with `flags`.
    pub(super) fn of(inode: &FuseInode, out: OpenOut, flags: u32) -> Result<Arc<Handle>> {
        let handle = try_arc(Handle {
            session: inode.session.clone(),
            node: inode.node,
            number: out.fh,
            flags,
            is_direct: out.open_flags & fopen::DIRECT_IO != 0,
            drops_cache: out.open_flags & fopen::KEEP_CACHE == 0,
        })?;
        Ok(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let arg = ReleaseIn {
            fh: self.number,
            flags: self.flags,
            ..ReleaseIn::default()
        };
        let args = [arg.as_bytes()];
        self.session.connection.send(Op::Release, self.node, &args);
    }
}

/// The open handles of one inode, by what they are good for.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: SpinLock<Open>,
    last: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    readers: Map<u64, Arc<Handle>>,
    writers: Map<u64, Arc<Handle>>,
}

/// A handle's place among an inode's, until [`Handles::remove`].
#[derive(Debug, Clone, Copy)]
pub(super) struct HandleKey(u64);

impl Handles {
    /// Adds a handle that can be read from, or written to at any offset, or both.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn add(&self, handle: &Arc<Handle>, reads: bool, writes: bool) -> Result<HandleKey> {
        let key = self.last.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        if reads {
            open.readers.try_insert(key, handle.clone())?;
        }
        if writes && let Err(error) = open.writers.try_insert(key, handle.clone()) {
            let _ = open.readers.remove(&key);
            return Err(error.into());
        }
        Ok(HandleKey(key))
    }

    pub(super) fn remove(&self, key: HandleKey) {
        let mut open = self.open.lock();
        let gone = (open.readers.remove(&key.0), open.writers.remove(&key.0));
        drop(open);
        drop(gone);
    }

    /// Some handle to read with.
    pub(super) fn reader(&self) -> Result<Arc<Handle>> {
        let open = self.open.lock();
        open.readers.values().next().cloned().ok_or(Errno::EIO)
    }

    /// Some handle to write with, at any offset.
    pub(super) fn writer(&self) -> Result<Arc<Handle>> {
        let open = self.open.lock();
        open.writers.values().next().cloned().ok_or(Errno::EIO)
    }
}

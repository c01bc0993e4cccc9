//! Inodes without a name: what fstat(2) and /proc/PID/fd show for pipes, sockets, eventfds and the like.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::Result;
use machine::sync::SpinLock;

use crate::inode::Inode;
use crate::metadata::{DeviceId, FileKind, Metadata, SetAttr, Timestamp};

/// `st_dev` of all of them.
pub(crate) const ANONYMOUS_DEVICE: DeviceId = DeviceId::new(0, 0xF_FFFF);

static NEXT_INO: AtomicU64 = AtomicU64::new(1);

/// An inode that no directory knows.
#[derive(Debug)]
pub struct AnonymousInode {
    label: &'static str,
    meta: SpinLock<Metadata>,
}

impl AnonymousInode {
    /// A pipe or socket: shown as `label:[ino]`, with mode `mode`, owned by `uid` and `gid`.
    #[must_use]
    pub fn new(kind: FileKind, label: &'static str, mode: u32, uid: u32, gid: u32) -> Arc<Self> {
        let now = Timestamp::now();
        let ino = NEXT_INO.fetch_add(1, Ordering::Relaxed);
        let meta = Metadata {
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::new(ino, kind, mode)
        };
        Arc::new(Self {
            label,
            meta: SpinLock::new(meta),
        })
    }

    /// An eventfd, epoll instance and so on: shown as `anon_inode:label`, with Linux's brackets in the label.
    #[must_use]
    pub fn file_like(label: &'static str) -> Arc<Self> {
        Self::new(FileKind::Regular, label, 0o600, 0, 0)
    }

    /// Its number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.meta.lock().ino
    }
}

impl Inode for AnonymousInode {
    fn kind(&self) -> FileKind {
        self.meta.lock().kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(*self.meta.lock())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let mut meta = self.meta.lock();
        meta.mode = change.mode.unwrap_or(meta.mode);
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        meta.atime = change.atime.unwrap_or(meta.atime);
        meta.mtime = change.mtime.unwrap_or(meta.mtime);
        meta.ctime = change.ctime.unwrap_or(meta.ctime);
        if change.size.is_some() {
            return Err(abi::Errno::EINVAL);
        }
        Ok(())
    }

    fn anonymous_name(&self) -> Option<String> {
        let meta = self.meta.lock();
        Some(match meta.kind {
            FileKind::Regular => format!("anon_inode:{}", self.label),
            _ => format!("{}:[{}]", self.label, meta.ino),
        })
    }
}

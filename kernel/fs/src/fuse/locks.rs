//! File locks that the server gives (`FUSE_POSIX_LOCKS`, `FUSE_FLOCK_LOCKS`).
//!
//! A lock of flock(2) belongs to the handle that the description has at the server, a record lock to the owner whose
//! number goes with each request.

use abi::{Errno, Result};
use zerocopy::IntoBytes;

use super::file::FuseFile;
use super::wire::{FileLk, LkIn, LkOut, Op};
use crate::lock::{FileLock, LockFamily, LockKind, LockOwner, RemoteLocks};

/// `FUSE_LK_FLOCK`.
const FLOCK: u32 = 1;
const READ_LOCK: u32 = 0;
const WRITE_LOCK: u32 = 1;
const UNLOCK: u32 = 2;

impl FuseFile {
    fn request(&self, family: LockFamily, lock: &FileLock, kind: u32) -> Result<LkIn> {
        let owner = match lock.owner {
            LockOwner::Description(number) => number << 1,
            LockOwner::Table(number) => (number << 1) | 1,
        };
        Ok(LkIn {
            fh: self.first_handle()?.number,
            owner,
            lk: FileLk {
                start: lock.start,
                // The last byte, where `i64::MAX` is as far as a file can go.
                end: (lock.end - 1).min(i64::MAX.cast_unsigned()),
                kind,
                pid: lock.pid,
            },
            lk_flags: match family {
                LockFamily::Flock => FLOCK,
                LockFamily::Record => 0,
            },
            padding: 0,
        })
    }

    fn set_lock(&self, family: LockFamily, lock: &FileLock, kind: u32) -> Result<()> {
        let request = self.request(family, lock, kind)?;
        self.inode
            .ask(Op::SetLk, &[request.as_bytes()], 0)
            .map(drop)
    }
}

fn number(kind: LockKind) -> u32 {
    match kind {
        LockKind::Shared => READ_LOCK,
        LockKind::Exclusive => WRITE_LOCK,
    }
}

impl RemoteLocks for FuseFile {
    fn try_set(&self, family: LockFamily, wanted: &FileLock) -> Result<()> {
        self.set_lock(family, wanted, number(wanted.kind))
    }

    fn unlock(&self, family: LockFamily, range: &FileLock) -> Result<()> {
        self.set_lock(family, range, UNLOCK)
    }

    fn conflict(&self, wanted: &FileLock) -> Result<Option<FileLock>> {
        let request = self.request(LockFamily::Record, wanted, number(wanted.kind))?;
        let reply = self
            .inode
            .ask(Op::GetLk, &[request.as_bytes()], size_of::<LkOut>())?;
        let LkOut { lk } = reply.parse()?;
        let kind = match lk.kind {
            UNLOCK => return Ok(None),
            READ_LOCK => LockKind::Shared,
            WRITE_LOCK => LockKind::Exclusive,
            _ => return Err(Errno::EIO),
        };
        let is_ordered = lk.start <= lk.end && i64::try_from(lk.end).is_ok();
        if !is_ordered {
            return Err(Errno::EIO);
        }
        Ok(Some(FileLock {
            kind,
            owner: LockOwner::Table(0),
            start: lk.start,
            end: if lk.end == i64::MAX.cast_unsigned() {
                u64::MAX
            } else {
                lk.end + 1
            },
            // A process of the host's, which has no number here.
            pid: 0,
        }))
    }
}

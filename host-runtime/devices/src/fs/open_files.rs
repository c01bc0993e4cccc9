//! The guest's open files: their data is read, written and synced here, from descriptors that were handed over.
//!
//! [`OpenFiles`] has the descriptors by the numbers that the guest knows them by. Nothing here names a file, so the
//! thread that does this can be kept from opening any. What a descriptor allows was decided when it was opened, and no
//! request changes it; the flags that come with reads and writes are the guest's own affair.
//!
//! Locking: the table, then one file; the device's lock is held already.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuse_backend_rs::api::filesystem::{
    Context, FileLock, FileSystem, ZeroCopyReader, ZeroCopyWriter,
};
use rustix::fs::{FallocateFlags, FileType, FlockOperation, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::tree::Opened;

/// Descriptors that are left to everything else that this process does.
const SPARE: u64 = 128;
/// The fewest files that may be open all the same.
const FEWEST: u64 = 16;
/// `FUSE_LK_FLOCK`, and the kinds of locks (fcntl(2)).
const FLOCK: u32 = 1;
const READ_LOCK: u32 = 0;
const WRITE_LOCK: u32 = 1;
const UNLOCK: u32 = 2;

/// An open file.
#[derive(Debug)]
struct OpenFile {
    node: u64,
    share: u64,
    file: Mutex<File>,
}

/// What a number stands for.
#[derive(Debug)]
enum Slot {
    Open(Arc<OpenFile>),
    /// A file that was taken away with its share.
    Stale,
}

/// The files that are open.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Mutex<HashMap<u64, Slot>>,
    most: AtomicU64,
}

impl OpenFiles {
    /// None, and room for as many as this process may have descriptors, but for a few.
    pub(super) fn new() -> Self {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            files: Mutex::default(),
            most: AtomicU64::new(most.saturating_sub(SPARE).max(FEWEST)),
        }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        (lock(&self.files).len() as u64) < self.most.load(Ordering::Relaxed)
    }

    /// Lets no more than this many be open.
    #[cfg(test)]
    pub(super) fn limit(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes a file that was opened.
    ///
    /// # Errors
    /// `EIO` for what is no regular file: another could make this thread wait.
    pub(super) fn add(&self, opened: Opened) -> Result<(), Errno> {
        let Opened {
            handle,
            node,
            share,
            file,
        } = opened;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::IO);
        }
        let file = Mutex::new(File::from(file));
        let open = Arc::new(OpenFile { node, share, file });
        let replaced = lock(&self.files).insert(handle, Slot::Open(open));
        drop(replaced);
        Ok(())
    }

    /// Closes the files of a share; the guest finds their numbers stale until it gives them back.
    pub(super) fn close_share(&self, share: u64) {
        for slot in lock(&self.files).values_mut() {
            if matches!(slot, Slot::Open(open) if open.share == share) {
                *slot = Slot::Stale;
            }
        }
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        let closed = std::mem::take(&mut *lock(&self.files));
        drop(closed);
    }

    /// The file of a number, which is one of this inode.
    fn get(&self, node: u64, handle: u64) -> io::Result<Arc<OpenFile>> {
        match lock(&self.files).get(&handle) {
            Some(Slot::Open(open)) if open.node == node => Ok(Arc::clone(open)),
            Some(Slot::Stale) => Err(Errno::STALE.into()),
            Some(Slot::Open(_)) | None => Err(Errno::BADF.into()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSystem for OpenFiles {
    type Inode = u64;
    type Handle = u64;

    fn read(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        to: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        let open = self.get(inode, handle)?;
        to.write_from(&mut *lock(&open.file), size as usize, offset)
    }

    fn write(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        from: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        let open = self.get(inode, handle)?;
        from.read_to(&mut *lock(&open.file), size as usize, offset)
    }

    fn flush(&self, _: &Context, inode: u64, handle: u64, _: u64) -> io::Result<()> {
        let open = self.get(inode, handle)?;
        // What a file system does when a file is closed it does for each descriptor, and this is one.
        lock(&open.file).try_clone().map(drop)
    }

    fn fsync(&self, _: &Context, inode: u64, data_only: bool, handle: u64) -> io::Result<()> {
        let open = self.get(inode, handle)?;
        let file = lock(&open.file);
        if data_only {
            file.sync_data()
        } else {
            file.sync_all()
        }
    }

    fn fallocate(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        let open = self.get(inode, handle)?;
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        Ok(rustix::fs::fallocate(
            &*lock(&open.file),
            mode,
            offset,
            length,
        )?)
    }

    fn lseek(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        offset: u64,
        whence: u32,
    ) -> io::Result<u64> {
        let open = self.get(inode, handle)?;
        if i64::try_from(offset).is_err() {
            return Err(Errno::NXIO.into());
        }
        let to = match i32::try_from(whence) {
            Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
            Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(rustix::fs::seek(&*lock(&open.file), to)?)
    }

    fn release(
        &self,
        _: &Context,
        inode: u64,
        _: u32,
        handle: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        match self.get(inode, handle) {
            Err(error) if error.raw_os_error() != Some(libc::ESTALE) => return Err(error),
            _ => {}
        }
        let closed = lock(&self.files).remove(&handle);
        drop(closed);
        Ok(())
    }

    /// Locks of flock(2), which belong to the description that each number has; never waits.
    fn setlk(
        &self,
        _: &Context,
        inode: u64,
        handle: u64,
        _: u64,
        wanted: FileLock,
        flags: u32,
    ) -> io::Result<()> {
        if flags & FLOCK == 0 {
            return Err(Errno::NOSYS.into());
        }
        let open = self.get(inode, handle)?;
        let operation = match wanted.lock_type {
            READ_LOCK => FlockOperation::NonBlockingLockShared,
            WRITE_LOCK => FlockOperation::NonBlockingLockExclusive,
            UNLOCK => FlockOperation::Unlock,
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(rustix::fs::flock(&*lock(&open.file), operation)?)
    }
}

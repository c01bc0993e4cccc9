//! Open directories: their entries, from any position on, with attributes or without.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::{DirEntry, Entry};
use rustix::fs::{OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::nodes::Share;
use super::{Tree, lock};

/// The most bytes that the host is asked for at a time.
const BATCH: usize = 32 * 1024;

/// An open directory.
#[derive(Debug)]
pub(super) struct Listing {
    node: u64,
    /// The host's device that it is on.
    device: u64,
    file: OwnedFd,
}

/// The open directories by handle.
pub(super) type Listings = HashMap<u64, Arc<Listing>>;

impl Tree {
    pub(super) fn open_listing(&self, inode: u64) -> io::Result<u64> {
        let node = self.node(inode)?;
        let file = self.reopen(&node, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let device = rustix::fs::fstat(&file)?.st_dev;
        let listing = Listing {
            node: inode,
            device,
            file,
        };
        let handle = self.next_handle();
        lock(&self.listings).insert(handle, Arc::new(listing));
        Ok(handle)
    }

    fn listing(&self, handle: u64) -> io::Result<Arc<Listing>> {
        let listings = lock(&self.listings);
        Ok(Arc::clone(listings.get(&handle).ok_or(Errno::BADF)?))
    }

    pub(super) fn close_listing(&self, handle: u64) -> io::Result<()> {
        let closed = lock(&self.listings).remove(&handle).ok_or(Errno::BADF)?;
        drop(closed);
        Ok(())
    }

    pub(super) fn sync_listing(&self, handle: u64, data_only: bool) -> io::Result<()> {
        let listing = self.listing(handle)?;
        if data_only {
            rustix::fs::fdatasync(&listing.file)?;
        } else {
            rustix::fs::fsync(&listing.file)?;
        }
        Ok(())
    }

    /// Closes what is open of a share.
    pub(super) fn close_share(&self, share: &Share) {
        let nodes = lock(&self.nodes);
        lock(&self.listings).retain(|_, listing| nodes.is_of_other(listing.node, share));
    }

    /// Has `add` take the entries from `offset` on, until it has no room (0).
    pub(super) fn list(
        &self,
        handle: u64,
        size: u32,
        offset: u64,
        mut add: impl FnMut(DirEntry<'_>, &Listing) -> io::Result<usize>,
    ) -> io::Result<()> {
        let listing = self.listing(handle)?;
        rustix::fs::seek(&listing.file, SeekFrom::Start(offset))?;
        let room = usize::try_from(size).unwrap_or(BATCH).clamp(1024, BATCH);
        let mut buffer = Vec::with_capacity(room);
        let mut entries = RawDir::new(&listing.file, buffer.spare_capacity_mut());
        let mut added = false;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // What was added is in the answer, with the lookups that it counts as.
                Err(_) if added => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let shown = DirEntry {
                ino: lock(&self.nodes).shown(listing.device, entry.ino()),
                offset: entry.next_entry_cookie(),
                type_: entry.file_type().as_raw_mode() >> 12,
                name,
            };
            match add(shown, &listing) {
                Ok(0) => return Ok(()),
                Ok(_) => added = true,
                Err(_) if added => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// As [`list`](Self::list), each entry looked up as well.
    pub(super) fn list_found(
        &self,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry<'_>, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.list(handle, size, offset, |entry, listing| {
            let mut name = entry.name.to_vec();
            name.push(0);
            let name = std::ffi::CStr::from_bytes_with_nul(&name).map_err(|_| Errno::IO)?;
            let found = match self.find(listing.node, name) {
                Ok(found) => found,
                // It has gone since; what follows it is listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(1),
                Err(error) => return Err(error),
            };
            let inode = found.inode;
            let added = add(entry, found);
            if !matches!(added, Ok(1..)) {
                lock(&self.nodes).forget(inode, 1);
            }
            added
        })
    }
}

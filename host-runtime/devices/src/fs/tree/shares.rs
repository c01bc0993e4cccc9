//! Directories shared beside the root, attached and detached while the guest runs.
//!
//! The guest finds one by its name in the directory of number 0, which is none: so no path in the root leads there. It
//! comes as a descriptor, and everything in it is found beneath that. Where a share is only to be read the server
//! refuses all that changes it, whatever the guest's own mounts say.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::nodes::Share;
use super::{Tree, lock};

/// The shares by name, each with its directory.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_name: HashMap<Vec<u8>, (Arc<Share>, OwnedFd)>,
    last: u64,
}

impl Tree {
    /// Shares this directory by a name.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken, `ENOTDIR`, `EINVAL` for what is no name.
    pub(crate) fn attach(
        &self,
        name: &[u8],
        directory: OwnedFd,
        read_only: bool,
    ) -> io::Result<()> {
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        let stat = rustix::fs::fstat(&directory)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        let mut shares = lock(&self.shares);
        if shares.by_name.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        shares.last += 1;
        let share = Arc::new(Share {
            number: shares.last,
            read_only,
            is_gone: AtomicBool::new(false),
        });
        shares.by_name.insert(name.to_vec(), (share, directory));
        Ok(())
    }

    /// Takes a share back, whatever the guest has of it; gives its number.
    ///
    /// # Errors
    /// `ENOENT` for a name that is not known.
    pub(crate) fn detach(&self, name: &[u8]) -> io::Result<u64> {
        let taken = lock(&self.shares).by_name.remove(name);
        let (share, directory) = taken.ok_or(Errno::NOENT)?;
        self.close_share(&share);
        lock(&self.nodes).drop_share(&share);
        drop(directory);
        Ok(share.number)
    }

    /// The entry of a share's directory, which counts as one lookup.
    pub(super) fn find_share(&self, name: &CStr) -> io::Result<Entry> {
        let shares = lock(&self.shares);
        let (share, directory) = shares.by_name.get(name.to_bytes()).ok_or(Errno::NOENT)?;
        self.enter(directory.try_clone()?, share)
    }
}

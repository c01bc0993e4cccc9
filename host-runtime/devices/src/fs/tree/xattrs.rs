//! Extended attributes of regular files and directories, which are all that can have ones of users.
//!
//! Those of users (`user.`) are the host's. The capabilities of a program are shown and may be taken away, and cannot be
//! given: the host would heed them, too. All others are the host's own affair: `trusted.` ones are not there and may
//! not be made, as for who has no capabilities, and no other name space is known.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use fuse_backend_rs::api::filesystem::{GetxattrReply, ListxattrReply};
use rustix::fs::{FileType, OFlags, XattrFlags};
use rustix::io::Errno;

use super::Tree;

/// The longest value, and list of names (xattr(7)).
const MOST: usize = 64 * 1024;
const CAPABILITIES: &[u8] = b"security.capability";

/// What a name is to the server.
enum Space {
    User,
    Capabilities,
    Trusted,
}

/// # Errors
/// `EOPNOTSUPP` for a name space that is not served.
fn space(name: &CStr) -> io::Result<Space> {
    match name.to_bytes() {
        CAPABILITIES => Ok(Space::Capabilities),
        name if name.starts_with(b"user.") => Ok(Space::User),
        name if name.starts_with(b"trusted.") => Ok(Space::Trusted),
        _ => Err(Errno::OPNOTSUPP.into()),
    }
}

impl Tree {
    /// The file, opened for its attributes; `None` for what has none.
    fn with_xattrs(&self, inode: u64) -> io::Result<Option<OwnedFd>> {
        let node = self.node(inode)?;
        match node.kind {
            FileType::RegularFile | FileType::Directory => {
                Ok(Some(self.reopen(&node, OFlags::RDONLY | OFlags::NONBLOCK)?))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn xattr(&self, inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply> {
        let readable = !matches!(space(name)?, Space::Trusted);
        let file = self.with_xattrs(inode)?.filter(|_| readable);
        let file = file.ok_or(Errno::NODATA)?;
        if size == 0 {
            let length = rustix::fs::fgetxattr_query(&file, name)?;
            return Ok(GetxattrReply::Count(count(length)));
        }
        let mut value = vec![0; (size as usize).min(MOST)];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..])?;
        value.truncate(length);
        Ok(GetxattrReply::Value(value))
    }

    pub(super) fn list_xattrs(&self, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        let mut all = vec![0; MOST];
        let length = match self.with_xattrs(inode)? {
            Some(file) => rustix::fs::flistxattr(&file, &mut all[..])?,
            None => 0,
        };
        let names = all[..length].split_inclusive(|byte| *byte == 0);
        let shown = |name: &&[u8]| {
            let name = CStr::from_bytes_with_nul(name).map(space);
            matches!(name, Ok(Ok(Space::User | Space::Capabilities)))
        };
        let names: Vec<u8> = names.filter(shown).flatten().copied().collect();
        match size as usize {
            0 => Ok(ListxattrReply::Count(count(names.len()))),
            room if names.len() > room => Err(Errno::RANGE.into()),
            _ => Ok(ListxattrReply::Names(names)),
        }
    }

    pub(super) fn set_xattr(
        &self,
        inode: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> io::Result<()> {
        match space(name)? {
            Space::User => {}
            Space::Capabilities | Space::Trusted => return Err(Errno::PERM.into()),
        }
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.changeable(inode)?;
        let file = self.with_xattrs(inode)?.ok_or(Errno::PERM)?;
        Ok(rustix::fs::fsetxattr(&file, name, value, flags)?)
    }

    pub(super) fn remove_xattr(&self, inode: u64, name: &CStr) -> io::Result<()> {
        match space(name)? {
            Space::User | Space::Capabilities => {}
            Space::Trusted => return Err(Errno::PERM.into()),
        }
        self.changeable(inode)?;
        let file = self.with_xattrs(inode)?.ok_or(Errno::NODATA)?;
        Ok(rustix::fs::fremovexattr(&file, name)?)
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

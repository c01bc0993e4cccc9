//! What changes a directory: files of all kinds made, linked, moved and removed.
//!
//! What is made belongs to the one for whom the guest asks: the host makes it for that user, whose rights count, too.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use fuse_backend_rs::abi::fuse_abi::CreateIn;
use fuse_backend_rs::api::filesystem::{Context, Entry};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::open::opening;
use super::{Tree, beneath, plain};

/// A name in the directory of this number.
type Place<'a> = (u64, &'a CStr);

impl Tree {
    pub(super) fn make_directory(
        &self,
        context: &Context,
        (parent, name): Place<'_>,
        mode: u32,
    ) -> io::Result<Entry> {
        let directory = self.changeable(parent)?;
        let acting = Acting::for_owner(context)?;
        rustix::fs::mkdirat(&directory.file, plain(name)?, permissions(mode))?;
        drop(acting);
        self.find(parent, name)
    }

    pub(super) fn make_node(
        &self,
        context: &Context,
        (parent, name): Place<'_>,
        mode: u32,
        umask: u32,
        device: u32,
    ) -> io::Result<Entry> {
        let directory = self.changeable(parent)?;
        let kind = FileType::from_raw_mode(mode);
        let acting = Acting::for_owner(context)?;
        let permissions = permissions(mode & !umask);
        rustix::fs::mknodat(
            &directory.file,
            plain(name)?,
            kind,
            permissions,
            decoded(device),
        )?;
        drop(acting);
        self.find(parent, name)
    }

    pub(super) fn make_symlink(
        &self,
        context: &Context,
        target: &CStr,
        parent: u64,
        name: &CStr,
    ) -> io::Result<Entry> {
        let directory = self.changeable(parent)?;
        let acting = Acting::for_owner(context)?;
        rustix::fs::symlinkat(target, &directory.file, plain(name)?)?;
        drop(acting);
        self.find(parent, name)
    }

    /// Makes and opens a regular file, or opens the one that is there.
    pub(super) fn create_file(
        &self,
        context: &Context,
        (parent, name): Place<'_>,
        args: &CreateIn,
    ) -> io::Result<(Entry, OwnedFd)> {
        let directory = self.changeable(parent)?;
        let name = plain(name)?;
        let flags = opening(args.flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = permissions(args.mode & !args.umask);
        let acting = Acting::for_owner(context)?;
        let made = rustix::fs::openat2(&directory.file, name, flags, mode, beneath());
        drop(acting);
        match made {
            Ok(file) => Ok((self.enter_open(&file, &directory.share)?, file)),
            Err(Errno::EXIST) if !asks(args.flags, OFlags::EXCL) => {
                let entry = self.find(parent, name)?;
                let opened = self
                    .node(entry.inode)
                    .and_then(|node| self.open_file(&node, args.flags));
                match opened {
                    Ok(file) => Ok((entry, file)),
                    Err(error) => {
                        super::lock(&self.nodes).forget(entry.inode, 1);
                        Err(error)
                    }
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn link_entry(&self, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        let (node, directory) = (self.changeable(inode)?, self.changeable(parent)?);
        // By way of procfs, since linking a descriptor itself takes a capability that not every user has.
        let flags = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(
            &self.descriptors,
            node.name(),
            &directory.file,
            plain(name)?,
            flags,
        )?;
        self.find(parent, name)
    }

    pub(super) fn rename_entry(
        &self,
        (old_dir, old_name): Place<'_>,
        (new_dir, new_name): Place<'_>,
        flags: u32,
    ) -> io::Result<()> {
        let (from, to) = (self.changeable(old_dir)?, self.changeable(new_dir)?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let (old, new) = (plain(old_name)?, plain(new_name)?);
        Ok(rustix::fs::renameat_with(
            &from.file, old, &to.file, new, flags,
        )?)
    }

    pub(super) fn remove(&self, parent: u64, name: &CStr, flags: AtFlags) -> io::Result<()> {
        let directory = self.changeable(parent)?;
        Ok(rustix::fs::unlinkat(&directory.file, plain(name)?, flags)?)
    }
}

fn asks(flags: u32, flag: OFlags) -> bool {
    flags & flag.bits() != 0
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// A device's number from the 32 bits that Linux encodes it in.
fn decoded(device: u32) -> u64 {
    rustix::fs::makedev(
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    )
}

/// The thread acts as another user, or of another group, until this is dropped.
pub(super) struct Acting {
    user: bool,
    group: bool,
}

impl Acting {
    /// # Errors
    /// When this process may not be that user.
    pub(super) fn for_owner(context: &Context) -> io::Result<Self> {
        if context.uid == u32::MAX || context.gid == u32::MAX {
            return Err(Errno::INVAL.into());
        }
        let mut acting = Self {
            user: false,
            group: false,
        };
        // The group first: another user may not change it.
        if context.gid != 0 {
            set_thread_res_gid(None, Gid::from_raw(context.gid), None)?;
            acting.group = true;
        }
        if context.uid != 0 {
            set_thread_res_uid(None, Uid::from_raw(context.uid), None)?;
            acting.user = true;
        }
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // Who was let be somebody else is root, which the real and the saved ids still say.
        if self.user {
            let _ = set_thread_res_uid(None, Uid::ROOT, None);
        }
        if self.group {
            let _ = set_thread_res_gid(None, Gid::ROOT, None);
        }
    }
}

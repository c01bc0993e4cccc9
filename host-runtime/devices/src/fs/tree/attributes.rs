//! What is known of an inode, and changes of it: mode, owner, size and times.

use std::io;

use fuse_backend_rs::abi::fuse_abi::{Attr, SetattrValid, stat64};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;

use super::nodes::Node;
use super::{Tree, lock};

impl Tree {
    /// What the host says of it.
    pub(super) fn attributes(&self, node: &Node) -> io::Result<stat64> {
        let stat = rustix::fs::fstat(&node.file)?;
        let inode = lock(&self.nodes).shown(stat.st_dev, stat.st_ino);
        // FUSE has 32 bits for some of these; what is cut off there is cut off by Linux's own client, too.
        let cut = |long: u64| u32::try_from(long).unwrap_or(u32::MAX);
        let nanoseconds = |long| u32::try_from(long).unwrap_or(0);
        Ok(stat64::from(Attr {
            ino: inode,
            size: stat.st_size.cast_unsigned(),
            blocks: stat.st_blocks.cast_unsigned(),
            atime: stat.st_atime.cast_unsigned(),
            mtime: stat.st_mtime.cast_unsigned(),
            ctime: stat.st_ctime.cast_unsigned(),
            atimensec: nanoseconds(stat.st_atime_nsec),
            mtimensec: nanoseconds(stat.st_mtime_nsec),
            ctimensec: nanoseconds(stat.st_ctime_nsec),
            mode: stat.st_mode,
            nlink: cut(stat.st_nlink),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: encoded(stat.st_rdev),
            blksize: cut(stat.st_blksize.cast_unsigned()),
            flags: 0,
        }))
    }

    /// Changes what `valid` says.
    pub(super) fn change(&self, node: &Node, to: &stat64, valid: SetattrValid) -> io::Result<()> {
        let name = node.name();
        if valid.contains(SetattrValid::MODE) {
            let mode = Mode::from_raw_mode(to.st_mode & 0o7777);
            rustix::fs::chmodat(&self.descriptors, &name, mode, AtFlags::empty())?;
        }
        let user = valid.contains(SetattrValid::UID).then_some(to.st_uid);
        let group = valid.contains(SetattrValid::GID).then_some(to.st_gid);
        if user.is_some() || group.is_some() {
            if user == Some(u32::MAX) || group == Some(u32::MAX) {
                return Err(Errno::INVAL.into());
            }
            let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&node.file, c"", user, group, flags)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            let size = u64::try_from(to.st_size).map_err(|_| Errno::INVAL)?;
            if node.kind != FileType::RegularFile {
                return Err(Errno::INVAL.into());
            }
            rustix::fs::ftruncate(self.reopen(node, OFlags::WRONLY)?, size)?;
        }
        if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
            let seconds = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
            let time = |set, now, at| match (valid.contains(set), valid.contains(now)) {
                (false, _) => seconds(0, UTIME_OMIT),
                (true, true) => seconds(0, UTIME_NOW),
                (true, false) => at,
            };
            let times = Timestamps {
                last_access: time(
                    SetattrValid::ATIME,
                    SetattrValid::ATIME_NOW,
                    seconds(to.st_atime, to.st_atime_nsec),
                ),
                last_modification: time(
                    SetattrValid::MTIME,
                    SetattrValid::MTIME_NOW,
                    seconds(to.st_mtime, to.st_mtime_nsec),
                ),
            };
            rustix::fs::utimensat(&self.descriptors, &name, &times, AtFlags::empty())?;
        }
        Ok(())
    }
}

/// A device's number in 32 bits, as Linux encodes it (`new_encode_dev`).
fn encoded(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

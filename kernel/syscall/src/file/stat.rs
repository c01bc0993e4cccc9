//! stat, lstat, fstat, newfstatat, statx.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::{DeviceId, File, Metadata, Path, Timestamp};
use machine::UserAddr;
use memory::user;
use zerocopy::{Immutable, IntoBytes};

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Names, Target, file_arg, target};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(4, "stat", sys_stat),
    Entry::new(5, "fstat", sys_fstat),
    Entry::new(6, "lstat", sys_lstat),
    Entry::new(262, "newfstatat", sys_newfstatat),
    Entry::new(332, "statx", sys_statx),
];

/// `AT_NO_AUTOMOUNT`: nothing mounts itself here.
const AT_NO_AUTOMOUNT: u32 = raw::AT_NO_AUTOMOUNT;

/// `struct stat` of x86-64.
#[derive(Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
struct UserStat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: u64,
    block_size: u64,
    blocks: u64,
    atime: [u64; 2],
    mtime: [u64; 2],
    ctime: [u64; 2],
    unused: [u64; 3],
}

/// `struct statx`.
#[derive(Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
struct UserStatx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: UserStatxTime,
    btime: UserStatxTime,
    ctime: UserStatxTime,
    mtime: UserStatxTime,
    rdev: [u32; 2],
    dev: [u32; 2],
    mount_id: u64,
    dio: [u32; 2],
    spare: [u64; 12],
}

/// `struct statx_timestamp`.
#[derive(Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
struct UserStatxTime {
    seconds: i64,
    nanoseconds: u32,
    pad: i32,
}

/// What is known of a file for any of the calls.
struct Known {
    meta: Metadata,
    device: u64,
    mount_id: Option<u32>,
    is_mount_root: bool,
}

impl Known {
    fn of_path(path: &Path) -> Result<Self> {
        Ok(Self {
            meta: path.metadata()?,
            device: path.device(),
            mount_id: Some(path.mount.id()),
            is_mount_root: path.is_mount_root(),
        })
    }

    fn of_file(file: &File) -> Result<Self> {
        match file.path() {
            Some(path) => Self::of_path(path),
            None => Ok(Self {
                meta: file.metadata()?,
                device: file.device(),
                mount_id: None,
                is_mount_root: false,
            }),
        }
    }

    fn of_target(target: &Target<'_>) -> Result<Self> {
        match target {
            Target::Place(path) => Self::of_path(path),
            Target::Open(file) => Self::of_file(file),
        }
    }
}

fn sys_stat(cx: &mut Context<'_>) -> Result<u64> {
    stat_at(cx, AT_FDCWD, cx.addr(0), 0, cx.addr(1))
}

fn sys_lstat(cx: &mut Context<'_>) -> Result<u64> {
    stat_at(cx, AT_FDCWD, cx.addr(0), AT_SYMLINK_NOFOLLOW, cx.addr(1))
}

fn sys_fstat(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    write_stat(cx, &Known::of_file(&file)?, cx.addr(1))
}

fn sys_newfstatat(cx: &mut Context<'_>) -> Result<u64> {
    stat_at(cx, cx.int(0), cx.addr(1), cx.uint(3), cx.addr(2))
}

fn stat_at(cx: &Context<'_>, dirfd: i32, path: UserAddr, flags: u32, to: UserAddr) -> Result<u64> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = target(cx, &Names::of(cx), dirfd, path, flags)?;
    write_stat(cx, &Known::of_target(&found)?, to)
}

fn write_stat(cx: &Context<'_>, known: &Known, to: UserAddr) -> Result<u64> {
    let time = |time: Timestamp| {
        [
            time.seconds().cast_unsigned(),
            u64::from(time.nanoseconds()),
        ]
    };
    let meta = &known.meta;
    let stat = UserStat {
        dev: known.device,
        ino: meta.ino,
        nlink: u64::from(meta.nlink),
        mode: meta.st_mode(),
        uid: cx.shown_uid(meta.uid),
        gid: cx.shown_gid(meta.gid),
        rdev: meta.rdev.encode(),
        size: meta.size,
        block_size: u64::from(meta.block_size),
        blocks: meta.blocks,
        atime: time(meta.atime),
        mtime: time(meta.mtime),
        ctime: time(meta.ctime),
        ..UserStat::default()
    };
    user::write(to, &stat)?;
    Ok(0)
}

fn sys_statx(cx: &mut Context<'_>) -> Result<u64> {
    const SYNC: u32 = raw::AT_STATX_FORCE_SYNC | raw::AT_STATX_DONT_SYNC;
    let (flags, mask) = (cx.uint(2), cx.uint(3));
    let known_flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | SYNC;
    if flags & !known_flags != 0 || flags & SYNC == SYNC || mask & raw::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let found = target(cx, &Names::of(cx), cx.int(0), cx.addr(1), flags)?;
    user::write(cx.addr(4), &statx(cx, &Known::of_target(&found)?))?;
    Ok(0)
}

fn statx(cx: &Context<'_>, known: &Known) -> UserStatx {
    let time = |time: Timestamp| UserStatxTime {
        seconds: time.seconds(),
        nanoseconds: time.nanoseconds(),
        pad: 0,
    };
    let device = |id: DeviceId| [id.major, id.minor];
    let meta = &known.meta;
    let has_mount = known.mount_id.is_some();
    UserStatx {
        mask: raw::STATX_BASIC_STATS | if has_mount { raw::STATX_MNT_ID } else { 0 },
        block_size: meta.block_size,
        attributes: if known.is_mount_root {
            u64::from(raw::STATX_ATTR_MOUNT_ROOT)
        } else {
            0
        },
        attributes_mask: u64::from(raw::STATX_ATTR_MOUNT_ROOT),
        nlink: meta.nlink,
        uid: cx.shown_uid(meta.uid),
        gid: cx.shown_gid(meta.gid),
        // Type and permission bits fit.
        mode: u16::try_from(meta.st_mode()).unwrap_or(0),
        ino: meta.ino,
        size: meta.size,
        blocks: meta.blocks,
        atime: time(meta.atime),
        ctime: time(meta.ctime),
        mtime: time(meta.mtime),
        rdev: device(meta.rdev),
        dev: device(DeviceId::decode(known.device)),
        mount_id: u64::from(known.mount_id.unwrap_or(0)),
        ..UserStatx::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_abi() {
        assert_eq!(size_of::<UserStat>(), 144);
        assert_eq!(size_of::<UserStatx>(), 256);
    }
}

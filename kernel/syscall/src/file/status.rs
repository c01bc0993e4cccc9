//! access, faccessat, readlink, statfs: asking about places and file systems.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::permission::Access;
use fs::{FileKind, MountFlags, Path, StatFs};
use machine::UserAddr;
use memory::user;
use zerocopy::{Immutable, IntoBytes};

use super::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Names, Target, file_arg, lookup_flags, target,
};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(21, "access", sys_access),
    Entry::new(89, "readlink", sys_readlink),
    Entry::new(137, "statfs", sys_statfs),
    Entry::new(138, "fstatfs", sys_fstatfs),
    Entry::new(267, "readlinkat", sys_readlinkat),
    Entry::new(269, "faccessat", sys_faccessat),
    Entry::new(439, "faccessat2", sys_faccessat2),
];

/// `AT_EACCESS`: with the effective ids.
const AT_EACCESS: u32 = raw::AT_EACCESS;

fn sys_access(cx: &mut Context<'_>) -> Result<u64> {
    access(cx, AT_FDCWD, cx.addr(0), cx.uint(1), 0)
}

fn sys_faccessat(cx: &mut Context<'_>) -> Result<u64> {
    access(cx, cx.int(0), cx.addr(1), cx.uint(2), 0)
}

fn sys_faccessat2(cx: &mut Context<'_>) -> Result<u64> {
    access(cx, cx.int(0), cx.addr(1), cx.uint(2), cx.uint(3))
}

fn access(cx: &Context<'_>, dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> Result<u64> {
    let wanted = Access::from_bits(mode).ok_or(Errno::EINVAL)?;
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let names = if flags & AT_EACCESS != 0 {
        Names::of(cx)
    } else {
        Names::with_real_ids(cx)?
    };
    match target(cx, &names, dirfd, path, flags)? {
        Target::Place(place) => names.caller().access(&place, wanted)?,
        Target::Open(file) => match file.path() {
            Some(place) => names.caller().access(place, wanted)?,
            None => fs::permission::check(file.inode()?.as_ref(), names.credentials(), wanted)?,
        },
    }
    Ok(0)
}

fn sys_readlink(cx: &mut Context<'_>) -> Result<u64> {
    readlink(cx, AT_FDCWD, cx.addr(0), cx.addr(1), cx.int(2))
}

fn sys_readlinkat(cx: &mut Context<'_>) -> Result<u64> {
    readlink(cx, cx.int(0), cx.addr(1), cx.addr(2), cx.int(3))
}

fn readlink(cx: &Context<'_>, dirfd: i32, path: UserAddr, to: UserAddr, size: i32) -> Result<u64> {
    let size = usize::try_from(size)
        .ok()
        .filter(|size| *size > 0)
        .ok_or(Errno::EINVAL)?;
    // An empty path means the link that was opened with O_PATH and O_NOFOLLOW.
    let names = Names::of(cx);
    let flags = AT_SYMLINK_NOFOLLOW | if dirfd == AT_FDCWD { 0 } else { AT_EMPTY_PATH };
    let link = match target(cx, &names, dirfd, path, flags)? {
        Target::Place(place) => {
            place.accessed();
            place.inode()?.clone()
        }
        Target::Open(file) => file.inode()?.clone(),
    };
    if link.kind() != FileKind::Symlink {
        return Err(Errno::EINVAL);
    }
    let target = link.readlink()?;
    let len = target.len().min(size);
    user::write_bytes(to, &target[..len])?;
    Ok(len as u64)
}

/// `struct statfs` of x86-64.
#[derive(Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
struct UserStatFs {
    magic: u64,
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: u64,
    name_max: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

fn sys_statfs(cx: &mut Context<'_>) -> Result<u64> {
    let names = Names::of(cx);
    let place = names.lookup(cx, AT_FDCWD, cx.addr(0), lookup_flags(true))?;
    statfs(Some(&place), cx.addr(1))
}

fn sys_fstatfs(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    statfs(file.path(), cx.addr(1))
}

/// For pipes and the like: Linux's pipefs, with nothing to count.
const PIPEFS_MAGIC: u64 = 0x5049_5045;

fn statfs(place: Option<&Path>, to: UserAddr) -> Result<u64> {
    let (known, flags, id) = match place {
        Some(place) => {
            let super_block = place.dentry.super_block();
            let read_only = if place.mount.is_read_only() {
                MountFlags::RDONLY
            } else {
                MountFlags::empty()
            };
            (
                super_block.fs().statfs()?,
                place.mount.flags() | read_only,
                place.device(),
            )
        }
        None => {
            let nothing = StatFs {
                magic: PIPEFS_MAGIC,
                block_size: 4096,
                name_max: 255,
                ..StatFs::default()
            };
            (nothing, MountFlags::empty(), 0)
        }
    };
    let out = UserStatFs {
        magic: known.magic,
        block_size: known.block_size,
        blocks: known.blocks,
        blocks_free: known.blocks_free,
        blocks_available: known.blocks_available,
        files: known.files,
        files_free: known.files_free,
        id,
        name_max: known.name_max,
        fragment_size: known.block_size,
        flags: statfs_flags(flags),
        spare: [0; 4],
    };
    user::write(to, &out)?;
    Ok(0)
}

/// `ST_*` bits; `ST_VALID` says that they mean something.
fn statfs_flags(flags: MountFlags) -> u64 {
    const VALID: u64 = 0x20;
    let bits = [
        (MountFlags::RDONLY, 1),
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::RELATIME, 0x1000),
    ];
    bits.iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .fold(VALID, |all, (_, bit)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statfs_has_the_size_of_the_abi() {
        assert_eq!(size_of::<UserStatFs>(), 120);
    }
}

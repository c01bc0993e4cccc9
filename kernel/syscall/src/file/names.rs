//! mkdir, rmdir, unlink, link, symlink, rename, mknod: making and removing names.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::{Capabilities, DeviceId, FileKind, NewKind, RenameFlags, S_IFMT};
use machine::UserAddr;

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Names, Target, read_path, target};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(82, "rename", sys_rename),
    Entry::new(83, "mkdir", sys_mkdir),
    Entry::new(84, "rmdir", sys_rmdir),
    Entry::new(86, "link", sys_link),
    Entry::new(87, "unlink", sys_unlink),
    Entry::new(88, "symlink", sys_symlink),
    Entry::new(133, "mknod", sys_mknod),
    Entry::new(258, "mkdirat", sys_mkdirat),
    Entry::new(259, "mknodat", sys_mknodat),
    Entry::new(263, "unlinkat", sys_unlinkat),
    Entry::new(264, "renameat", sys_renameat),
    Entry::new(265, "linkat", sys_linkat),
    Entry::new(266, "symlinkat", sys_symlinkat),
    Entry::new(316, "renameat2", sys_renameat2),
];

fn sys_mkdir(cx: &mut Context<'_>) -> Result<u64> {
    mkdir(cx, AT_FDCWD, cx.addr(0), cx.uint(1))
}

fn sys_mkdirat(cx: &mut Context<'_>) -> Result<u64> {
    mkdir(cx, cx.int(0), cx.addr(1), cx.uint(2))
}

fn mkdir(cx: &Context<'_>, dirfd: i32, path: UserAddr, mode: u32) -> Result<u64> {
    let (names, path) = (Names::of(cx), read_path(path)?);
    let base = names.base(cx, dirfd, &path)?;
    names.caller().mkdir(&base, &path, mode).map(|()| 0)
}

fn sys_rmdir(cx: &mut Context<'_>) -> Result<u64> {
    unlink(cx, AT_FDCWD, cx.addr(0), raw::AT_REMOVEDIR)
}

fn sys_unlink(cx: &mut Context<'_>) -> Result<u64> {
    unlink(cx, AT_FDCWD, cx.addr(0), 0)
}

fn sys_unlinkat(cx: &mut Context<'_>) -> Result<u64> {
    unlink(cx, cx.int(0), cx.addr(1), cx.uint(2))
}

fn unlink(cx: &Context<'_>, dirfd: i32, path: UserAddr, flags: u32) -> Result<u64> {
    if flags & !raw::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let (names, path) = (Names::of(cx), read_path(path)?);
    let base = names.base(cx, dirfd, &path)?;
    if flags & raw::AT_REMOVEDIR != 0 {
        names.caller().rmdir(&base, &path)?;
    } else {
        names.caller().unlink(&base, &path)?;
    }
    Ok(0)
}

fn sys_symlink(cx: &mut Context<'_>) -> Result<u64> {
    symlink(cx, cx.addr(0), AT_FDCWD, cx.addr(1))
}

fn sys_symlinkat(cx: &mut Context<'_>) -> Result<u64> {
    symlink(cx, cx.addr(0), cx.int(1), cx.addr(2))
}

fn symlink(cx: &Context<'_>, target: UserAddr, dirfd: i32, path: UserAddr) -> Result<u64> {
    let (names, target, path) = (Names::of(cx), read_path(target)?, read_path(path)?);
    let base = names.base(cx, dirfd, &path)?;
    names.caller().symlink(&target, &base, &path).map(|()| 0)
}

fn sys_link(cx: &mut Context<'_>) -> Result<u64> {
    link(cx, (AT_FDCWD, cx.addr(0)), (AT_FDCWD, cx.addr(1)), 0)
}

fn sys_linkat(cx: &mut Context<'_>) -> Result<u64> {
    link(
        cx,
        (cx.int(0), cx.addr(1)),
        (cx.int(2), cx.addr(3)),
        cx.uint(4),
    )
}

fn link(cx: &Context<'_>, old: (i32, UserAddr), new: (i32, UserAddr), flags: u32) -> Result<u64> {
    const AT_SYMLINK_FOLLOW: u32 = raw::AT_SYMLINK_FOLLOW;
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let names = Names::of(cx);
    if flags & AT_EMPTY_PATH != 0 && !names.credentials().capable(Capabilities::DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let follow = if flags & AT_SYMLINK_FOLLOW == 0 {
        AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let old = match target(cx, &names, old.0, old.1, (flags & AT_EMPTY_PATH) | follow)? {
        Target::Place(place) => place,
        Target::Open(file) => file.path().ok_or(Errno::EXDEV)?.clone(),
    };
    let path = read_path(new.1)?;
    let base = names.base(cx, new.0, &path)?;
    names.caller().link(&old, &base, &path).map(|()| 0)
}

fn sys_rename(cx: &mut Context<'_>) -> Result<u64> {
    rename(cx, (AT_FDCWD, cx.addr(0)), (AT_FDCWD, cx.addr(1)), 0)
}

fn sys_renameat(cx: &mut Context<'_>) -> Result<u64> {
    rename(cx, (cx.int(0), cx.addr(1)), (cx.int(2), cx.addr(3)), 0)
}

fn sys_renameat2(cx: &mut Context<'_>) -> Result<u64> {
    rename(
        cx,
        (cx.int(0), cx.addr(1)),
        (cx.int(2), cx.addr(3)),
        cx.uint(4),
    )
}

fn rename(cx: &Context<'_>, from: (i32, UserAddr), to: (i32, UserAddr), flags: u32) -> Result<u64> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let names = Names::of(cx);
    let (from_path, to_path) = (read_path(from.1)?, read_path(to.1)?);
    let from_base = names.base(cx, from.0, &from_path)?;
    let to_base = names.base(cx, to.0, &to_path)?;
    names
        .caller()
        .rename((&from_base, &from_path), (&to_base, &to_path), flags)?;
    Ok(0)
}

fn sys_mknod(cx: &mut Context<'_>) -> Result<u64> {
    mknod(cx, AT_FDCWD, cx.addr(0), cx.uint(1), cx.uint(2))
}

fn sys_mknodat(cx: &mut Context<'_>) -> Result<u64> {
    mknod(cx, cx.int(0), cx.addr(1), cx.uint(2), cx.uint(3))
}

fn mknod(cx: &Context<'_>, dirfd: i32, path: UserAddr, mode: u32, device: u32) -> Result<u64> {
    let id = DeviceId::decode(u64::from(device));
    let kind = match FileKind::from_mode(mode) {
        None if mode & S_IFMT == 0 => NewKind::Regular,
        Some(FileKind::Regular) => NewKind::Regular,
        Some(kind @ (FileKind::CharDevice | FileKind::BlockDevice)) => NewKind::Device(kind, id),
        Some(FileKind::Fifo) => NewKind::Fifo,
        Some(FileKind::Socket) => NewKind::Socket,
        Some(FileKind::Directory) => return Err(Errno::EPERM),
        Some(FileKind::Symlink) | None => return Err(Errno::EINVAL),
    };
    let (names, path) = (Names::of(cx), read_path(path)?);
    let base = names.base(cx, dirfd, &path)?;
    names
        .caller()
        .mknod(&base, &path, kind, mode & 0o7777)
        .map(|()| 0)
}

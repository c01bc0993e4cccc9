//! mount, umount2, pivot_root. The newer mount calls (fsopen and its kin) are not there.

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::Vec;
use fs::{
    BindMode, Capabilities, DetachMode, LookupFlags, MountFlags, MountRequest, Path, find_type,
};
use machine::UserAddr;
use memory::user;

use super::{AT_FDCWD, Names, read_path};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(155, "pivot_root", sys_pivot_root),
    Entry::new(165, "mount", sys_mount),
    Entry::new(166, "umount2", sys_umount2),
];

/// `MS_MGC_VAL`: what old programs put into the upper half of the flags.
const MAGIC: u64 = 0xC0ED_0000;
/// `MS_*` flags that change nothing here: silence, and writing in an order that is kept anyway.
const HINTS: u64 = (raw::MS_SILENT
    | raw::MS_SYNCHRONOUS
    | raw::MS_DIRSYNC
    | raw::MS_LAZYTIME
    | raw::MS_MANDLOCK
    | raw::MS_STRICTATIME
    | raw::MS_POSIXACL
    | raw::MS_I_VERSION) as u64;
const PROPAGATION: u64 =
    (raw::MS_SHARED | raw::MS_PRIVATE | raw::MS_SLAVE | raw::MS_UNBINDABLE) as u64;
const REMOUNT: u64 = raw::MS_REMOUNT as u64;
const BIND: u64 = raw::MS_BIND as u64;
const MOVE: u64 = raw::MS_MOVE as u64;
const RECURSIVE: u64 = raw::MS_REC as u64;

fn require_admin(names: &Names<'_>) -> Result<()> {
    if names
        .credentials()
        .ns_capable(names.fs().namespace().owner(), Capabilities::SYS_ADMIN)
    {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Mount arguments have no `AT_` flags: links are followed.
fn place(cx: &Context<'_>, names: &Names<'_>, addr: UserAddr) -> Result<Path> {
    names.lookup(cx, AT_FDCWD, addr, LookupFlags::FOLLOW)
}

fn sys_mount(cx: &mut Context<'_>) -> Result<u64> {
    let names = Names::of(cx);
    let mut flags = cx.arg(3);
    if flags & 0xffff_0000 == MAGIC {
        flags &= 0xffff;
    }
    let at = place(cx, &names, cx.addr(1))?;
    require_admin(&names)?;
    let mode = if flags & RECURSIVE != 0 {
        BindMode::Recursive
    } else {
        BindMode::One
    };
    let namespace = names.fs().namespace();
    if flags & REMOUNT != 0 {
        return remount(cx, &names, &at, flags);
    }
    if flags & BIND != 0 {
        let from = place(cx, &names, cx.addr(0))?;
        namespace.bind(&from, &at, mode)?;
    } else if flags & PROPAGATION != 0 {
        change_propagation(&names, &at, flags, mode)?;
    } else if flags & MOVE != 0 {
        let from = place(cx, &names, cx.addr(0))?;
        namespace.move_mount(&from, &at)?;
    } else {
        new_mount(cx, &names, &at, flags)?;
    }
    Ok(0)
}

/// The flags that a mount keeps; what is not known or not enforced is refused.
fn mount_flags(flags: u64) -> Result<MountFlags> {
    let known = MountFlags::all();
    let bits =
        u32::try_from(flags & !HINTS & !REMOUNT & !BIND & !RECURSIVE).map_err(|_| Errno::EINVAL)?;
    if bits & !known.bits() != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(MountFlags::from_bits_truncate(bits))
}

fn new_mount(cx: &Context<'_>, names: &Names<'_>, at: &Path, flags: u64) -> Result<()> {
    let flags = mount_flags(flags)?;
    let kind = user::read_c_string(cx.optional_addr(2).ok_or(Errno::EINVAL)?, 4096)?;
    let source = optional_string(cx.optional_addr(0))?;
    let source = source.as_deref().unwrap_or(b"none");
    let data = optional_string(cx.optional_addr(4))?.unwrap_or_default();
    let super_block = find_type(&kind)?.mount(&MountRequest {
        source,
        data: &data,
    })?;
    names
        .fs()
        .namespace()
        .mount(at, &super_block, source, flags)
}

fn optional_string(addr: Option<UserAddr>) -> Result<Option<Vec<u8>>> {
    addr.map(|addr| user::read_c_string(addr, 4096)).transpose()
}

fn remount(cx: &Context<'_>, names: &Names<'_>, at: &Path, flags: u64) -> Result<u64> {
    let new = mount_flags(flags)?;
    // Before anything of the file system is changed, which other namespaces may see.
    names.fs().namespace().check_top(at)?;
    if flags & BIND == 0 {
        let data = optional_string(cx.optional_addr(4))?.unwrap_or_default();
        at.mount.super_block().fs().remount(&data)?;
    }
    names.fs().namespace().remount(at, new).map(|()| 0)
}

/// Everything is private here. A slave of nothing is the same; what is shared cannot be had.
fn change_propagation(names: &Names<'_>, at: &Path, flags: u64, mode: BindMode) -> Result<()> {
    let kind = flags & PROPAGATION;
    let silent = u64::from(raw::MS_SILENT);
    let others = flags & !(PROPAGATION | RECURSIVE | silent);
    if others != 0 || !kind.is_power_of_two() || kind == u64::from(raw::MS_SHARED) {
        return Err(Errno::EINVAL);
    }
    let unbindable = kind == u64::from(raw::MS_UNBINDABLE);
    names.fs().namespace().set_unbindable(at, unbindable, mode)
}

fn sys_umount2(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(1);
    let known = raw::MNT_FORCE | raw::MNT_DETACH | raw::UMOUNT_NOFOLLOW;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let names = Names::of(cx);
    let follow = super::lookup_flags(flags & raw::UMOUNT_NOFOLLOW == 0);
    // What goes is what lies on top, also at ".", which a walk does not leave.
    let at = names.lookup(cx, AT_FDCWD, cx.addr(0), follow)?.top();
    require_admin(&names)?;
    let mode = if flags & raw::MNT_DETACH != 0 {
        DetachMode::Lazy
    } else {
        DetachMode::IfIdle
    };
    names.fs().namespace().unmount(&at, mode).map(|()| 0)
}

fn sys_pivot_root(cx: &mut Context<'_>) -> Result<u64> {
    let names = Names::of(cx);
    require_admin(&names)?;
    let flags = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let (new_root, put_old) = (read_path(cx.addr(0))?, read_path(cx.addr(1))?);
    let cwd = names.fs().cwd();
    let new_root = names.caller().lookup(&cwd, &new_root, flags)?;
    let put_old = names.caller().lookup(&cwd, &put_old, flags)?;
    let root = names.fs().root();
    let namespace = names.fs().namespace();
    namespace.pivot_root(&root, &new_root, &put_old)?;
    for process in process::task::relations::processes() {
        for thread in process.threads() {
            if let Some(fs) = thread.fs_if_alive() {
                // The roots have changed places, so this must be done; only who dies for memory gives up.
                while fs.replace(&root, &new_root).is_err() {
                    memory::pressure::make_room()?;
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_mount_flags_are_refused() {
        assert_eq!(
            mount_flags(1 | 8),
            Ok(MountFlags::RDONLY | MountFlags::NOEXEC)
        );
        assert_eq!(
            mount_flags(u64::from(raw::MS_SILENT)),
            Ok(MountFlags::empty())
        );
        assert_eq!(
            mount_flags(256),
            Err(Errno::EINVAL),
            "MS_NOSYMFOLLOW is not enforced"
        );
    }
}

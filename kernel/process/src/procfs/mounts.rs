//! /proc/PID/mounts and /proc/PID/mountinfo.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use collections::Vec;
use fs::{Dentry, Mount, MountFlags};

use super::scope::Scope;
use super::text::Text;

/// A mount that the process's root reaches, with its path from there.
struct Visible {
    mount: Arc<Mount>,
    at: Vec<u8>,
}

/// Calls `act` for each mount that the process's root reaches.
fn for_each_visible(scope: &Scope, mut act: impl FnMut(&Visible) -> Result<()>) -> Result<()> {
    let context = scope.mount_context()?;
    let root = context.root();
    for mount in context.namespace().mounts()? {
        let (at, is_below) = mount.root_path().spell(&root)?;
        if is_below {
            act(&Visible { mount, at })?;
        }
        sched::cond_resched();
        // With each mounted on another, the time is that of the square of their number.
        if sched::killed() {
            return Err(Errno::EINTR);
        }
    }
    Ok(())
}

pub(super) fn mounts(scope: &Scope, to: &mut Text) -> Result<()> {
    for_each_visible(scope, |Visible { mount, at }| {
        push_escaped(to, mount.source())?;
        to.push(b" ")?;
        push_escaped(to, at)?;
        let fs = mount.super_block().fs();
        write!(to, " {} ", fs.name())?;
        write_flags(mount.flags(), true, to)?;
        writeln!(to, "{} 0 0", fs.options()?)?;
        Ok(())
    })
}

pub(super) fn mountinfo(scope: &Scope, to: &mut Text) -> Result<()> {
    for_each_visible(scope, |Visible { mount, at }| {
        let parent = mount
            .mounted_on()
            .map_or(mount.id(), |path| path.mount.id());
        let device = mount.super_block().device();
        write!(
            to,
            "{} {parent} {}:{} ",
            mount.id(),
            device.major,
            device.minor
        )?;
        push_escaped(to, &path_within(mount.root())?)?;
        to.push(b" ")?;
        push_escaped(to, at)?;
        to.push(b" ")?;
        write_flags(mount.flags(), true, to)?;
        let fs = mount.super_block().fs();
        write!(to, " - {} ", fs.name())?;
        push_escaped(to, mount.source())?;
        to.push(b" ")?;
        write_flags(mount.flags() & MountFlags::RDONLY, false, to)?;
        writeln!(to, "{}", fs.options()?)?;
        Ok(())
    })
}

pub(super) fn mountstats(scope: &Scope, to: &mut Text) -> Result<()> {
    for_each_visible(scope, |Visible { mount, at }| {
        to.push(b"device ")?;
        push_escaped(to, mount.source())?;
        to.push(b" mounted on ")?;
        push_escaped(to, at)?;
        writeln!(to, " with fstype {}", mount.super_block().fs().name())?;
        Ok(())
    })
}

/// Where in its file system a mount's root is.
fn path_within(dentry: &Arc<Dentry>) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    let mut at = dentry.clone();
    while let Some(parent) = at.parent() {
        names.try_push(at.name())?;
        at = parent;
        sched::cond_resched();
    }
    if names.is_empty() {
        return Ok(Vec::try_from_slice(b"/")?);
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.try_push(b'/')?;
        path.try_extend_from_slice(name)?;
    }
    Ok(path)
}

/// Mount flags as options, `rw` or `ro` first.
pub(super) fn write_flags(flags: MountFlags, all: bool, to: &mut dyn Write) -> core::fmt::Result {
    const NAMES: [(MountFlags, &str); 6] = [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::NODIRATIME, "nodiratime"),
        (MountFlags::RELATIME, "relatime"),
    ];
    let is_read_only = flags.contains(MountFlags::RDONLY);
    to.write_str(if is_read_only { "ro" } else { "rw" })?;
    let set = NAMES
        .iter()
        .filter(|(flag, _)| all && flags.contains(*flag));
    for (_, name) in set {
        write!(to, ",{name}")?;
    }
    Ok(())
}

/// Blanks and backslashes in octal, as readers of these files expect.
pub(super) fn push_escaped(to: &mut Text, name: &[u8]) -> Result<()> {
    for byte in name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => write!(to, "\\{byte:03o}")?,
            byte => to.push(core::slice::from_ref(byte))?,
        }
    }
    Ok(())
}

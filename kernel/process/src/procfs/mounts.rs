//! /proc/PID/mounts and /proc/PID/mountinfo.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::{Errno, Result};
use fs::{Dentry, FsContext, Mount, MountFlags, Path};

use super::scope::Scope;

/// A mount that the process's root reaches, with its path from there.
struct Visible {
    mount: Arc<Mount>,
    at: Vec<u8>,
}

fn context(scope: &Scope) -> Result<Arc<FsContext>> {
    scope.thread()?.fs_if_alive().ok_or(Errno::EINVAL)
}

fn visible(scope: &Scope) -> Result<(Vec<Visible>, Path)> {
    let context = context(scope)?;
    let root = context.root();
    let reachable = |mount: Arc<Mount>| {
        let (at, is_below) = mount.root_path().spell(&root);
        is_below.then_some(Visible { mount, at })
    };
    let mounts = context
        .namespace()
        .mounts()
        .into_iter()
        .filter_map(reachable)
        .collect();
    Ok((mounts, root))
}

pub(super) fn mounts(scope: &Scope) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for Visible { mount, at } in visible(scope)?.0 {
        push_escaped(&mut text, mount.source());
        text.push(b' ');
        push_escaped(&mut text, &at);
        let fs = mount.super_block().fs();
        let options = format_flags(mount.flags(), true);
        text.extend_from_slice(
            alloc::format!(" {} {options}{} 0 0\n", fs.name(), fs.options()).as_bytes(),
        );
    }
    Ok(text)
}

pub(super) fn mountinfo(scope: &Scope) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for Visible { mount, at } in visible(scope)?.0 {
        let parent = mount
            .mounted_on()
            .map_or(mount.id(), |path| path.mount.id());
        let device = mount.super_block().device();
        let head = alloc::format!("{} {parent} {}:{} ", mount.id(), device.major, device.minor);
        text.extend_from_slice(head.as_bytes());
        push_escaped(&mut text, &path_within(mount.root()));
        text.push(b' ');
        push_escaped(&mut text, &at);
        text.extend_from_slice(b" ");
        text.extend_from_slice(format_flags(mount.flags(), true).as_bytes());
        let fs = mount.super_block().fs();
        text.extend_from_slice(alloc::format!(" - {} ", fs.name()).as_bytes());
        push_escaped(&mut text, mount.source());
        let access = format_flags(mount.flags() & MountFlags::RDONLY, false);
        text.extend_from_slice(alloc::format!(" {access}{}\n", fs.options()).as_bytes());
    }
    Ok(text)
}

/// Where in its file system a mount's root is.
fn path_within(dentry: &Arc<Dentry>) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = dentry.clone();
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    if names.is_empty() {
        return b"/".to_vec();
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Mount flags as options, `rw` or `ro` first.
pub(super) fn format_flags(flags: MountFlags, all: bool) -> String {
    const NAMES: [(MountFlags, &str); 6] = [
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::NODIRATIME, "nodiratime"),
        (MountFlags::RELATIME, "relatime"),
    ];
    let mut text = String::from(if flags.contains(MountFlags::RDONLY) {
        "ro"
    } else {
        "rw"
    });
    let set = NAMES
        .iter()
        .filter(|(flag, _)| all && flags.contains(*flag));
    for (_, name) in set {
        // A string takes whatever is written.
        let _ = write!(text, ",{name}");
    }
    text
}

/// Blanks and backslashes in octal, as readers of these files expect.
pub(super) fn push_escaped(text: &mut Vec<u8>, name: &[u8]) {
    for byte in name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => {
                text.extend_from_slice(alloc::format!("\\{byte:03o}").as_bytes());
            }
            byte => text.push(*byte),
        }
    }
}

//! /proc/PID/fd and /proc/PID/fdinfo.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use collections::Vec;
use fs::{File, Link};

use super::item::{Content, Dynamic, Item};
use super::scope::Scope;
use super::text::Text;
use crate::task::numbers::PidNumber;
use crate::task::thread;

/// Entries of `fd`.
pub(super) static LINKS: Dynamic = Dynamic {
    count: |_| 0,
    list,
    find: |scope, fd| find(scope, fd, &LINK),
};

/// Entries of `fdinfo`.
pub(super) static INFOS: Dynamic = Dynamic {
    count: |_| 0,
    list,
    find: |scope, fd| find(scope, fd, &INFO),
};

static LINK: Item = Item {
    name: "",
    mode: 0o700,
    content: Content::Descriptor(shown, leads, link_mode),
};

static INFO: Item = Item {
    name: "",
    mode: 0o400,
    content: Content::File(info),
};

fn list(scope: &Scope) -> Result<Vec<PidNumber>> {
    scope.check_access()?;
    let files = scope.thread()?.files_if_alive().ok_or(Errno::ENOENT)?;
    let mut numbers = Vec::new();
    let mut at = 0;
    while let Some((fd, _)) = files.next_from(at) {
        numbers.try_push(fd)?;
        at = usize::try_from(fd).map_or(usize::MAX, |fd| fd + 1);
        sched::cond_resched();
    }
    Ok(numbers)
}

fn find(scope: &Scope, fd: PidNumber, item: &'static Item) -> Option<(&'static Item, Scope)> {
    scope.check_access().ok()?;
    let scope = scope.with_fd(fd);
    file(&scope).ok()?;
    Some((item, scope))
}

fn file(scope: &Scope) -> Result<Arc<File>> {
    let files = scope.thread()?.files_if_alive().ok_or(Errno::ENOENT)?;
    files.get(scope.fd()?).map_err(|_| Errno::ENOENT)
}

/// The permissions of a link say how the descriptor was opened.
fn link_mode(scope: &Scope) -> Option<u32> {
    const O_ACCMODE: u32 = 3;
    let mode = match file(scope).ok()?.flags().bits() & O_ACCMODE {
        0 => 0o500,
        1 => 0o300,
        _ => 0o700,
    };
    Some(mode)
}

fn shown(scope: &Scope, to: &mut Text) -> Result<()> {
    scope.check_access()?;
    let root = thread::current()
        .and_then(|caller| caller.fs_if_alive())
        .ok_or(Errno::ENOENT)?;
    to.push(&file(scope)?.display(&root.root())?)
}

fn leads(scope: &Scope) -> Result<Link> {
    scope.check_access()?;
    file(scope)?.place().map(Link::Jump)
}

fn info(scope: &Scope, to: &mut Text) -> Result<()> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    scope.check_access()?;
    let file = file(scope)?;
    let files = scope.thread()?.files_if_alive().ok_or(Errno::ENOENT)?;
    let cloexec = files.is_close_on_exec(scope.fd()?).unwrap_or(false);
    let flags = file.flags().bits() | if cloexec { O_CLOEXEC } else { 0 };
    let mount = file.path().map_or(0, |path| path.mount.id());
    let ino = file.metadata().map_or(0, |meta| meta.ino);
    let position = if file.is_seekable() {
        file.position()
    } else {
        0
    };
    write!(
        to,
        "pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n"
    )?;
    Ok(file.ops().info(to)?)
}

//! /proc/PID and /proc/PID/task/TID.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::{Link, Path};
use machine::UserAddr;

use super::node::{Content, Dynamic, Item};
use super::scope::Scope;
use super::{descriptors, limits, maps, mounts, stat, status};
use crate::{Pid, thread, tree};

/// /proc/PID.
pub(super) static FOLDER: Item = Item {
    name: "",
    mode: 0o555,
    content: Content::Folder(PROCESS),
};

/// /proc/PID/task/TID.
static TASK: Item = Item {
    name: "",
    mode: 0o555,
    content: Content::Folder(THREAD),
};

/// What a process and a thread both have.
macro_rules! common {
    ($($more:expr,)*) => {
        &[
            secret("auxv", |scope| Ok(scope.process()?.image().auxv)),
            Item::file("cgroup", |_| Ok(b"0::/\n".to_vec())),
            Item::file("cmdline", |scope| Ok(strings(scope, false))),
            Item { name: "comm", mode: 0o644, content: Content::Writable(comm, set_comm) },
            link("cwd", |scope| shown(scope, cwd), |scope| leads(scope, cwd)),
            secret("environ", |scope| Ok(strings(scope, true))),
            link("exe", |scope| shown(scope, exe), |scope| leads(scope, exe)),
            Item { name: "fd", mode: 0o500, content: Content::Dynamic(&[], &descriptors::LINKS) },
            Item { name: "fdinfo", mode: 0o555, content: Content::Dynamic(&[], &descriptors::INFOS) },
            Item::file("limits", limits::text),
            Item::file("maps", maps::text),
            Item::file("mountinfo", mounts::mountinfo),
            Item::file("mounts", mounts::mounts),
            Item::file("oom_score", |scope| {
                let score = crate::oom::score(scope.process()?);
                Ok(format!("{score}\n").into_bytes())
            }),
            Item {
                name: "oom_score_adj",
                mode: 0o644,
                content: Content::Writable(oom_score_adj, set_oom_score_adj),
            },
            secret("personality", |scope| {
                let personality = scope.process()?.personality.load(Ordering::Relaxed);
                Ok(format!("{personality:08x}\n").into_bytes())
            }),
            link("root", |scope| shown(scope, root), |scope| leads(scope, root)),
            Item::file("stat", stat::text),
            Item::file("statm", stat::statm),
            Item::file("status", status::text),
            Item::file("wchan", |_| Ok(b"0".to_vec())),
            $($more,)*
        ]
    };
}

static PROCESS: &[Item] = common![Item {
    name: "task",
    mode: 0o555,
    content: Content::Dynamic(&[], &TASKS),
},];

static THREAD: &[Item] = common![];

static TASKS: Dynamic = Dynamic {
    list: |scope| {
        let threads = scope.process()?.threads();
        Ok(crate::collect(
            threads.iter().map(|thread| scope.shown(thread.tid())),
        ))
    },
    find: find_task,
};

fn find_task(scope: &Scope, number: Pid) -> Option<(&'static Item, Scope)> {
    let tid = scope.find(number)?;
    let threads = scope.process().ok()?.threads();
    let found = threads.iter().any(|thread| thread.tid() == tid);
    found.then(|| (&TASK, scope.with_thread(tid)))
}

/// A file for the process's user alone.
const fn secret(name: &'static str, text: fn(&Scope) -> Result<Vec<u8>>) -> Item {
    Item {
        name,
        mode: 0o400,
        content: Content::File(text),
    }
}

/// A link to a place: what it shows, and where it leads.
const fn link(
    name: &'static str,
    shown: fn(&Scope) -> Result<Vec<u8>>,
    leads: fn(&Scope) -> Result<Link>,
) -> Item {
    Item {
        name,
        mode: 0o777,
        content: Content::Link(shown, leads),
    }
}

fn cwd(scope: &Scope) -> Result<Path> {
    Ok(scope.thread()?.fs_if_alive().ok_or(Errno::ENOENT)?.cwd())
}

fn root(scope: &Scope) -> Result<Path> {
    Ok(scope.thread()?.fs_if_alive().ok_or(Errno::ENOENT)?.root())
}

fn exe(scope: &Scope) -> Result<Path> {
    scope.process()?.image().exe.ok_or(Errno::ENOENT)
}

fn leads(scope: &Scope, place: fn(&Scope) -> Result<Path>) -> Result<Link> {
    scope.check_access()?;
    place(scope).map(Link::Jump)
}

fn shown(scope: &Scope, place: fn(&Scope) -> Result<Path>) -> Result<Vec<u8>> {
    scope.check_access()?;
    Ok(display(&place(scope)?))
}

/// A path as the caller sees it.
pub(super) fn display(path: &Path) -> Vec<u8> {
    match thread::current().and_then(|caller| caller.fs_if_alive()) {
        Some(fs) => path.display(&fs.root()),
        None => Vec::new(),
    }
}

/// Argument or environment strings, as they stand in the process's memory now.
fn strings(scope: &Scope, environment: bool) -> Vec<u8> {
    const MOST: u64 = 2 << 20;
    let Some(memory) = scope.process().ok().and_then(|process| process.memory()) else {
        return Vec::new();
    };
    let layout = memory.layout();
    let (start, end) = if environment {
        (layout.env_start, layout.env_end)
    } else {
        (layout.arg_start, layout.arg_end)
    };
    let len = usize::try_from(end.saturating_sub(start).min(MOST)).unwrap_or(0);
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_err() {
        return bytes;
    }
    bytes.resize(len, 0);
    let read = memory.read_at(UserAddr(start), &mut bytes);
    bytes.truncate(read);
    bytes
}

/// A command name up to its padding.
pub(super) fn trimmed(name: &[u8; 16]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or(name)
}

/// The command name, of the dead too.
pub(super) fn name(scope: &Scope) -> Result<[u8; 16]> {
    if let Ok(thread) = scope.thread() {
        return Ok(thread.name());
    }
    let tree = tree::lock();
    let node = tree.node(scope.process()?.pid()).ok_or(Errno::ESRCH)?;
    node.zombie.map(|zombie| zombie.name).ok_or(Errno::ESRCH)
}

fn comm(scope: &Scope) -> Result<Vec<u8>> {
    let mut text = trimmed(&name(scope)?).to_vec();
    text.push(b'\n');
    Ok(text)
}

fn set_comm(scope: &Scope, to: &[u8]) -> Result<()> {
    let thread = scope.thread()?;
    let own = thread::current().is_some_and(|c| Arc::ptr_eq(c.process(), thread.process()));
    if !own {
        return Err(Errno::EINVAL);
    }
    let end = to.iter().position(|byte| *byte == b'\n' || *byte == 0);
    thread.set_name(&to[..end.unwrap_or(to.len())]);
    Ok(())
}

fn oom_score_adj(scope: &Scope) -> Result<Vec<u8>> {
    let score = scope.process()?.oom_score_adj.load(Ordering::Relaxed);
    Ok(format!("{score}\n").into_bytes())
}

fn set_oom_score_adj(scope: &Scope, to: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(to).map_err(|_| Errno::EINVAL)?.trim();
    let score: i32 = text.parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&score) {
        return Err(Errno::EINVAL);
    }
    let current = &scope.process()?.oom_score_adj;
    let capable =
        thread::current().is_none_or(|c| c.credentials().has(fs::Capabilities::SYS_RESOURCE));
    if score < current.load(Ordering::Relaxed) && !capable {
        return Err(Errno::EACCES);
    }
    current.store(score, Ordering::Relaxed);
    Ok(())
}

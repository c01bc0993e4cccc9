//! /proc/PID and /proc/PID/task/TID.

use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::{TryCollect, Vec};
use fs::{Link, Path};
use machine::UserAddr;
use memory::AddressSpace;

use super::item::{Content, Dynamic, Item, Leads, Show};
use super::scope::Scope;
use super::text::{Text, trimmed};
use super::{
    descriptors, limits, maps, mem, mounts, namespaces, network, scheduling, smaps, stat, status,
};
use crate::cgroup;
use crate::task::numbers::PidNumber;
use crate::task::{relations, thread, tree};

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
            secret("auxv", |scope, to| {
                let image = scope.process()?.image();
                scope.check_access()?;
                to.push(&image.auxv)
            }),
            Item::file("cgroup", control_groups),
            Item::file("cmdline", |scope, to| strings(scope.process()?.memory(), false, to)),
            Item { name: "comm", mode: 0o644, content: Content::Writable(comm, set_comm) },
            Item {
                name: "coredump_filter",
                mode: 0o644,
                content: Content::Writable(coredump_filter, set_coredump_filter),
            },
            link("cwd", |scope, to| shown(scope, cwd, to), |scope| leads(scope, cwd)),
            // The process may have become another program since the file was opened.
            secret("environ", |scope, to| strings(scope.memory()?, true, to)),
            link("exe", |scope, to| shown(scope, exe, to), |scope| leads(scope, exe)),
            Item { name: "fd", mode: 0o500, content: Content::Dynamic(&[], &descriptors::LINKS) },
            Item { name: "fdinfo", mode: 0o555, content: Content::Dynamic(&[], &descriptors::INFOS) },
            Item::file("gid_map", |scope, to| {
                let names = scope.process()?.user_namespace();
                Ok(names.write_groups(&Scope::reader_namespace(), to)?)
            }),
            Item::file("limits", limits::text),
            Item::file("maps", maps::text),
            Item { name: "mem", mode: 0o600, content: Content::Special(mem::open) },
            mount_table("mountinfo", 0o444, mounts::mountinfo),
            mount_table("mounts", 0o444, mounts::mounts),
            mount_table("mountstats", 0o400, mounts::mountstats),
            Item::folder("net", network::TABLES),
            Item { name: "ns", mode: 0o511, content: Content::Folder(namespaces::ITEMS) },
            Item::file("oom_score", |scope, to| {
                Ok(writeln!(to, "{}", crate::oom::score(&*scope.process()?))?)
            }),
            Item {
                name: "oom_score_adj",
                mode: 0o644,
                content: Content::Writable(oom_score_adj, set_oom_score_adj),
            },
            secret("personality", |scope, to| {
                let personality = scope.process()?.personality.load(Ordering::Relaxed);
                Ok(writeln!(to, "{personality:08x}")?)
            }),
            link("root", |scope, to| shown(scope, root, to), |scope| leads(scope, root)),
            Item::file("smaps", smaps::text),
            Item::file("smaps_rollup", smaps::rollup),
            Item::file("schedstat", scheduling::schedstat),
            Item::file("setgroups", |_, to| to.push(b"allow\n")),
            Item::file("stat", stat::text),
            Item::file("statm", stat::statm),
            Item::file("status", status::text),
            Item {
                name: "timerslack_ns",
                mode: 0o666,
                content: Content::Writable(scheduling::timer_slack, scheduling::set_timer_slack),
            },
            Item::file("uid_map", |scope, to| {
                let names = scope.process()?.user_namespace();
                Ok(names.write_users(&Scope::reader_namespace(), to)?)
            }),
            Item::file("wchan", |_, to| to.push(b"0")),
            $($more,)*
        ]
    };
}

static PROCESS: &[Item] = common![Item {
    name: "task",
    mode: 0o555,
    content: Content::Dynamic(&[], &TASKS),
},];

static THREAD: &[Item] = common![Item::file("children", children),];

static TASKS: Dynamic = Dynamic {
    count: |scope| scope.process().map_or(0, |process| process.thread_count()),
    list: |scope| {
        let process = scope.process()?;
        let threads = process.threads();
        let numbers = threads.map(|thread| scope.shown(&thread.read_pid()));
        Ok(numbers.try_collect()?)
    },
    find: find_task,
};

fn find_task(scope: &Scope, number: PidNumber) -> Option<(&'static Item, Scope)> {
    let pid = scope.find(number)?;
    let process = scope.process().ok()?;
    let thread = pid.thread(&tree::lock())?.clone();
    // The first of a process that has others may have ended.
    let found = process.thread_at(thread.place());
    let is_found = found.is_some_and(|found| Arc::ptr_eq(&found, &thread));
    is_found.then(|| (&TASK, scope.with_thread(pid)))
}

/// A file for the process's user alone.
const fn secret(name: &'static str, text: Show) -> Item {
    Item {
        name,
        mode: 0o400,
        content: Content::File(text),
    }
}

/// The one hierarchy. A process that has no thread left is where its first one was.
fn control_groups(scope: &Scope, to: &mut Text) -> Result<()> {
    let thread = match scope.thread() {
        Ok(thread) => thread,
        Err(_) => {
            let tree = tree::lock();
            scope.id()?.thread(&tree).cloned().ok_or(Errno::ESRCH)?
        }
    };
    to.push(b"0::")?;
    cgroup::path(&thread, to)?;
    to.push(b"\n")
}

/// A file about mounts: poll(2) tells when they change.
const fn mount_table(name: &'static str, mode: u32, show: Show) -> Item {
    Item {
        name,
        mode,
        content: Content::Mounts(show),
    }
}

/// A link to a place: what it shows, and where it leads.
const fn link(name: &'static str, shown: Show, leads: Leads) -> Item {
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

/// The children of the process, whichever of its threads made them.
fn children(scope: &Scope, to: &mut Text) -> Result<()> {
    let process = scope.process()?;
    let tree = tree::lock();
    for child in relations::children(&tree, &process) {
        write!(to, "{} ", scope.shown(child.pid()))?;
    }
    Ok(())
}

fn leads(scope: &Scope, place: fn(&Scope) -> Result<Path>) -> Result<Link> {
    scope.check_access()?;
    place(scope).map(Link::Jump)
}

fn shown(scope: &Scope, place: fn(&Scope) -> Result<Path>, to: &mut Text) -> Result<()> {
    scope.check_access()?;
    to.push(&display(&place(scope)?)?)
}

/// A path as the caller sees it.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn display(path: &Path) -> Result<Vec<u8>> {
    match thread::current().and_then(|caller| caller.fs_if_alive()) {
        Some(fs) => path.display(&fs.root()),
        None => Ok(Vec::new()),
    }
}

/// Argument or environment strings, as they stand in the process's memory now.
fn strings(memory: Option<Arc<AddressSpace>>, environment: bool, to: &mut Text) -> Result<()> {
    const PIECE: usize = 1024;
    let Some(memory) = memory else {
        return Ok(());
    };
    let layout = memory.layout();
    let (mut at, end) = if environment {
        (layout.env_start, layout.env_end)
    } else {
        (layout.arg_start, layout.arg_end)
    };
    let mut piece = [0; PIECE];
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let read = memory.read_at(UserAddr(at), &mut piece[..len], true);
        to.push(&piece[..read])?;
        if read < len {
            break;
        }
        at += read as u64;
        sched::cond_resched();
    }
    Ok(())
}

fn comm(scope: &Scope, to: &mut Text) -> Result<()> {
    to.push(trimmed(&scope.name()?))?;
    to.push(b"\n")
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

/// `MMF_DUMP_FILTER_MASK`: nine kinds of mappings.
const COREDUMP_KINDS: u64 = 0x1ff;

fn coredump_filter(scope: &Scope, to: &mut Text) -> Result<()> {
    let process = scope.process()?;
    // The dead have no memory to dump.
    if process.memory().is_none() {
        return Ok(());
    }
    let filter = process.coredump_filter.load(Ordering::Relaxed);
    Ok(writeln!(to, "{filter:08x}")?)
}

fn set_coredump_filter(scope: &Scope, from: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(from).map_err(|_| Errno::EINVAL)?;
    let text = text.trim();
    let (digits, base) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let filter = u64::from_str_radix(digits, base).map_err(|_| Errno::EINVAL)? & COREDUMP_KINDS;
    let process = scope.process()?;
    if process.memory().is_none() {
        return Err(Errno::ESRCH);
    }
    let filter = u32::try_from(filter).unwrap_or(0);
    process.coredump_filter.store(filter, Ordering::Relaxed);
    Ok(())
}

fn oom_score_adj(scope: &Scope, to: &mut Text) -> Result<()> {
    let score = scope.process()?.oom_score_adj.load(Ordering::Relaxed);
    Ok(writeln!(to, "{score}")?)
}

fn set_oom_score_adj(scope: &Scope, to: &[u8]) -> Result<()> {
    // As from C: what is behind a NUL does not count.
    let text = to.split(|byte| *byte == 0).next().unwrap_or(to);
    let text = core::str::from_utf8(text)
        .map_err(|_| Errno::EINVAL)?
        .trim();
    let score: i32 = text.parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&score) {
        return Err(Errno::EINVAL);
    }
    let process = scope.process()?;
    let current = &process.oom_score_adj;
    let capable =
        thread::current().is_none_or(|c| c.credentials().capable(fs::Capabilities::SYS_RESOURCE));
    if score < current.load(Ordering::Relaxed) && !capable {
        return Err(Errno::EACCES);
    }
    current.store(score, Ordering::Relaxed);
    Ok(())
}

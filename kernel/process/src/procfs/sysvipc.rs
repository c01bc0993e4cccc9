//! /proc/sysvipc: the objects of the reader's IPC namespace, and its settings in /proc/sys/kernel.

use core::fmt::Write;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Errno, Result};
use alloc::sync::Arc;

use super::item::Item;
use super::scope::Scope;
use super::sysctl::{line, number, writable};
use super::text::Text;
use crate::ipc::header::{Header, Permission};
use crate::ipc::settings::{Setting, Settings};
use crate::ipc::shm;
use crate::ipc::table::Object;
use crate::namespace::current_ipc;
use crate::task::pid::Pid;
use crate::task::thread;

/// /proc/sysvipc.
pub(super) static ITEMS: &[Item] = &[
    Item::file("msg", |_, to| queues(to)),
    Item::file("sem", |_, to| sets(to)),
    Item::file("shm", |_, to| segments(to)),
];

/// `kernel.msgmax`.
pub(super) const MSGMAX: Item = writable(
    "msgmax",
    |_, to| show(|its| &its.msgmax, to),
    |_, from| set(|its| &its.msgmax, from),
);
/// `kernel.msgmnb`.
pub(super) const MSGMNB: Item = writable(
    "msgmnb",
    |_, to| show(|its| &its.msgmnb, to),
    |_, from| set(|its| &its.msgmnb, from),
);
/// `kernel.msgmni`.
pub(super) const MSGMNI: Item = writable(
    "msgmni",
    |_, to| show(|its| &its.msgmni, to),
    |_, from| set(|its| &its.msgmni, from),
);
/// `kernel.shmmni`.
pub(super) const SHMMNI: Item = writable(
    "shmmni",
    |_, to| show(|its| &its.shmmni, to),
    |_, from| set(|its| &its.shmmni, from),
);
/// `kernel.shmall`.
pub(super) const SHMALL: Item = writable(
    "shmall",
    |_, to| line(current_ipc().settings.shmall.load(Relaxed), to),
    |_, from| set_long(|its| &its.shmall, from),
);
/// `kernel.shmmax`.
pub(super) const SHMMAX: Item = writable(
    "shmmax",
    |_, to| line(current_ipc().settings.shmmax.load(Relaxed), to),
    |_, from| set_long(|its| &its.shmmax, from),
);
/// `kernel.sem`.
pub(super) const SEM: Item = writable("sem", show_sem, |_, from| set_sem(from));
/// `kernel.shm_rmid_forced`.
pub(super) const SHM_RMID_FORCED: Item = writable(
    "shm_rmid_forced",
    |_, to| show(|its| &its.shm_rmid_forced, to),
    |_, from| {
        set(|its| &its.shm_rmid_forced, from)?;
        shm::end_unused(&current_ipc(), None);
        Ok(())
    },
);

fn show(which: fn(&Settings) -> &Setting, to: &mut Text) -> Result<()> {
    line(which(&current_ipc().settings).get(), to)
}

fn set(which: fn(&Settings) -> &Setting, from: &[u8]) -> Result<()> {
    let is_set = which(&current_ipc().settings).set(number(from)?);
    is_set.then_some(()).ok_or(Errno::EINVAL)
}

fn set_long(which: fn(&Settings) -> &AtomicU64, from: &[u8]) -> Result<()> {
    which(&current_ipc().settings).store(number(from)?, Relaxed);
    Ok(())
}

fn show_sem(_: &Scope, to: &mut Text) -> Result<()> {
    let ipc = current_ipc();
    let [msl, mns, opm, mni] = ipc.settings.sem.each_ref().map(Setting::get);
    Ok(writeln!(to, "{msl}\t{mns}\t{opm}\t{mni}")?)
}

/// Up to four numbers; what is not given stays.
fn set_sem(from: &[u8]) -> Result<()> {
    let ipc = current_ipc();
    let words = from.split(u8::is_ascii_whitespace);
    let words = words.filter(|word| !word.is_empty());
    for (setting, word) in ipc.settings.sem.iter().zip(words) {
        if !setting.set(number(word)?) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

/// Owner and maker of an object, as the reader calls them.
fn owners(
    Permission {
        uid, gid, creator, ..
    }: &Permission,
) -> [u32; 4] {
    let names = Scope::reader_namespace();
    [
        names.shown_uid(*uid),
        names.shown_gid(*gid),
        names.shown_uid(creator.0),
        names.shown_gid(creator.1),
    ]
}

fn shown(pid: Option<&Arc<Pid>>) -> i32 {
    let reader = thread::current();
    let shown = reader
        .zip(pid)
        .map(|(reader, pid)| reader.process().shown(pid));
    shown.unwrap_or(0)
}

/// Key, id and mode, with which each line begins.
fn begin(header: &Header, to: &mut Text) -> Result<Permission> {
    let permission = header.permission();
    let Permission { key, mode, .. } = permission;
    write!(to, "{key:10} {:10}  {mode:4o} ", header.id())?;
    Ok(permission)
}

fn segments(to: &mut Text) -> Result<()> {
    writeln!(
        to,
        "       key      shmid perms {:>21}  cpid  lpid nattch   uid   gid  cuid  cgid      \
         atime      dtime      ctime {:>21} {:>21}",
        "size", "rss", "swap"
    )?;
    for segment in current_ipc().segments.iter() {
        let [uid, gid, cuid, cgid] = owners(&begin(segment.header(), to)?);
        let uses = segment.uses();
        let (maker, last) = (shown(uses.maker.as_ref()), shown(uses.last.as_ref()));
        writeln!(
            to,
            "{:21} {maker:5} {last:5}  {:5} {uid:5} {gid:5} {cuid:5} {cgid:5} {:10} {:10} {:10} {:21} {:21}",
            segment.size_bytes(),
            uses.attached,
            uses.attached_s,
            uses.detached_s,
            uses.changed_s,
            segment.resident() * machine::PAGE_SIZE as u64,
            0
        )?;
    }
    Ok(())
}

fn sets(to: &mut Text) -> Result<()> {
    to.push(
        b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
    )?;
    for set in current_ipc().sets.iter() {
        let [uid, gid, cuid, cgid] = owners(&begin(set.header(), to)?);
        let times = set.times();
        writeln!(
            to,
            "{:10} {uid:5} {gid:5} {cuid:5} {cgid:5} {:10} {:10}",
            set.count(),
            times.operated_s,
            times.changed_s
        )?;
    }
    Ok(())
}

fn queues(to: &mut Text) -> Result<()> {
    to.push(
        b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    )?;
    for queue in current_ipc().queues.iter() {
        let [uid, gid, cuid, cgid] = owners(&begin(queue.header(), to)?);
        let status = queue.status();
        let (sender, receiver) = (
            shown(status.sender.as_ref()),
            shown(status.receiver.as_ref()),
        );
        writeln!(
            to,
            " {:10} {:10} {sender:5} {receiver:5} {uid:5} {gid:5} {cuid:5} {cgid:5} {:10} {:10} {:10}",
            status.bytes, status.len, status.sent_s, status.received_s, status.changed_s
        )?;
    }
    Ok(())
}

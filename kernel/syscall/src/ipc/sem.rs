//! semget(2), semop(2), semtimedop(2), semctl(2).

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
use process::ipc::sem::{self, Operation, Set, VALUE_MAX};
use process::ipc::table::Object;
use process::ipc::undo::UndoList;
use process::ipc::{IpcNamespace, READ, WRITE};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    By, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Perm, id, look_at, saturated, set_owner, shown,
};
use crate::context::Context;
use crate::structs::Timespec;

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

/// `struct sembuf`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Raw {
    number: u16,
    change: i16,
    flags: i16,
}

/// `struct semid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Stat {
    perm: Perm,
    operated_s: u64,
    unused_1: u64,
    changed_s: u64,
    unused_2: u64,
    len: u64,
    unused_3: [u64; 2],
}

/// `struct seminfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    map: i32,
    mni: i32,
    mns: i32,
    mnu: i32,
    msl: i32,
    opm: i32,
    ume: i32,
    usz: i32,
    vmx: i32,
    aem: i32,
}

pub(super) fn sys_semget(cx: &mut Context<'_>) -> Result<u64> {
    let (key, len, flags) = (cx.int(0), cx.int(1), cx.uint(2));
    let namespace = cx.thread.ipc_namespace();
    sem::get(&namespace, cx.credentials(), key, len, flags).map(id)
}

pub(super) fn sys_semop(cx: &mut Context<'_>) -> Result<u64> {
    operate(cx, None)
}

pub(super) fn sys_semtimedop(cx: &mut Context<'_>) -> Result<u64> {
    let deadline = Timespec::read_deadline(cx.optional_addr(3))?;
    operate(cx, deadline)
}

fn operate(cx: &Context<'_>, deadline_ns: Option<u64>) -> Result<u64> {
    let namespace = cx.thread.ipc_namespace();
    let count = cx.uint(2);
    if count == 0 || cx.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    if count > namespace.settings.semopm() {
        return Err(Errno::E2BIG);
    }
    let raw = memory::user::read_array::<Raw>(cx.addr(1), count as usize)?;
    let mut operations = Vec::try_with_capacity(raw.len())?;
    for op in raw {
        operations.try_push(Operation {
            number: op.number,
            change: op.change,
            flags: u32::from(op.flags.cast_unsigned()),
        })?;
    }
    let set = namespace.sets.find(cx.int(0))?;
    let highest = operations.iter().map(|op| usize::from(op.number)).max();
    if highest.is_some_and(|highest| highest >= set.count()) {
        return Err(Errno::EFBIG);
    }
    let changes = operations.iter().any(|op| op.change != 0);
    let wanted = if changes { WRITE } else { READ };
    namespace.check(set.header(), cx.credentials(), wanted)?;
    let undo = operations
        .iter()
        .any(Operation::is_undone)
        .then(|| UndoList::of(cx.thread))
        .transpose()?;
    set.operate(&operations, undo.as_ref(), deadline_ns)?;
    Ok(0)
}

pub(super) fn sys_semctl(cx: &mut Context<'_>) -> Result<u64> {
    if cx.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    let namespace = &cx.thread.ipc_namespace();
    match cx.int(2) {
        IPC_INFO => info(cx, namespace, false),
        SEM_INFO => info(cx, namespace, true),
        IPC_STAT => stat(cx, namespace, By::Id),
        SEM_STAT => stat(cx, namespace, By::Place),
        SEM_STAT_ANY => stat(cx, namespace, By::PlaceForAll),
        GETALL | GETVAL | GETPID | GETNCNT | GETZCNT => read(cx, namespace),
        SETVAL => {
            let value = cx.int(3);
            if !(0..=VALUE_MAX).contains(&value) {
                return Err(Errno::ERANGE);
            }
            let set = namespace.sets.find(cx.int(0))?;
            if usize::try_from(cx.int(1)).is_ok_and(|number| number < set.count()) {
                namespace.check(set.header(), cx.credentials(), WRITE)?;
            }
            set.set_value(cx.int(1), value).map(|()| 0)
        }
        SETALL => {
            let set = namespace.sets.find(cx.int(0))?;
            namespace.check(set.header(), cx.credentials(), WRITE)?;
            let values = memory::user::read_array::<u16>(cx.addr(3), set.count())?;
            set.set_values(&values).map(|()| 0)
        }
        IPC_SET => {
            let wanted: Stat = memory::user::read(cx.addr(3))?;
            let set = namespace.sets.find(cx.int(0))?;
            set_owner(cx, namespace, set.header(), &wanted.perm)?;
            set.note_change();
            Ok(0)
        }
        IPC_RMID => {
            let set = namespace.sets.find(cx.int(0))?;
            namespace.check_owner(set.header(), cx.credentials())?;
            set.remove(namespace);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The commands that read semaphores.
fn read(cx: &Context<'_>, namespace: &IpcNamespace) -> Result<u64> {
    let set = namespace.sets.find(cx.int(0))?;
    namespace.check(set.header(), cx.credentials(), READ)?;
    if cx.int(2) == GETALL {
        return write_all(&set, cx.addr(3));
    }
    let semaphore = set.semaphore(cx.int(1))?;
    Ok(id(match cx.int(2) {
        GETVAL => semaphore.value,
        GETPID => shown(cx, semaphore.last.as_ref()),
        GETNCNT => saturated(semaphore.waiting),
        _ => saturated(semaphore.waiting_for_zero),
    }))
}

fn write_all(set: &Set, to: UserAddr) -> Result<u64> {
    memory::user::write_bytes(to, set.values()?.as_bytes())?;
    Ok(0)
}

fn info(cx: &Context<'_>, namespace: &IpcNamespace, is_use: bool) -> Result<u64> {
    /// Bytes of an undo structure, which programs never see.
    const UNDO_BYTES: i32 = 20;
    let settings = &namespace.settings;
    let (used, highest) = namespace.sets.extent();
    let [msl, mns, opm, mni] = [
        settings.semmsl(),
        settings.semmns(),
        settings.semopm(),
        settings.semmni(),
    ]
    .map(saturated);
    let info = Info {
        map: mns,
        mni,
        mns,
        mnu: mns,
        msl,
        opm,
        ume: opm,
        usz: if is_use { saturated(used) } else { UNDO_BYTES },
        vmx: VALUE_MAX,
        aem: if is_use {
            saturated(namespace.semaphores())
        } else {
            VALUE_MAX
        },
    };
    memory::user::write(cx.addr(3), &info)?;
    Ok(u64::from(highest))
}

fn stat(cx: &Context<'_>, namespace: &IpcNamespace, by: By) -> Result<u64> {
    let (set, result) = look_at(cx, namespace, &namespace.sets, by)?;
    let times = set.times();
    let stat = Stat {
        perm: Perm::of(cx, set.header()),
        operated_s: times.operated_s,
        changed_s: times.changed_s,
        len: set.count() as u64,
        ..Stat::default()
    };
    memory::user::write(cx.addr(3), &stat)?;
    Ok(result)
}

//! msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use abi::{Errno, Result};
use collections::Vec;
use fs::Capabilities;
use process::ipc::msg::{self, Message};
use process::ipc::table::Object;
use process::ipc::{IpcNamespace, READ, WRITE};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    By, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Perm, id, look_at, saturated, set_owner, shown,
};
use crate::context::Context;

const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

/// `struct msqid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Stat {
    perm: Perm,
    sent_s: u64,
    received_s: u64,
    changed_s: u64,
    bytes: u64,
    len: u64,
    most: u64,
    sender: i32,
    receiver: i32,
    unused: [u64; 2],
}

/// `struct msginfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Info {
    pool: i32,
    map: i32,
    max: i32,
    mnb: i32,
    mni: i32,
    ssz: i32,
    tql: i32,
    seg: u16,
    padding: u16,
}

pub(super) fn sys_msgget(cx: &mut Context<'_>) -> Result<u64> {
    let namespace = cx.thread.ipc_namespace();
    msg::get(&namespace, cx.credentials(), cx.int(0), cx.uint(1)).map(id)
}

pub(super) fn sys_msgsnd(cx: &mut Context<'_>) -> Result<u64> {
    let kind: i64 = memory::user::read(cx.addr(1))?;
    let namespace = cx.thread.ipc_namespace();
    let most = u64::from(namespace.settings.msgmax.get());
    let len = cx.size(2);
    if len as u64 > most || cx.int(0) < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let text = cx.addr(1).checked_add(8).ok_or(Errno::EFAULT)?;
    let bytes: Vec<u8> = memory::user::read_array(text, len)?;
    let queue = namespace.queues.find(cx.int(0))?;
    namespace.check(queue.header(), cx.credentials(), WRITE)?;
    queue.send(&namespace, Message { kind, bytes }, cx.uint(3))?;
    Ok(0)
}

pub(super) fn sys_msgrcv(cx: &mut Context<'_>) -> Result<u64> {
    let most = usize::try_from(cx.long(2)).map_err(|_| Errno::EINVAL)?;
    if cx.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    let namespace = cx.thread.ipc_namespace();
    let queue = namespace.queues.find(cx.int(0))?;
    namespace.check(queue.header(), cx.credentials(), READ)?;
    let message = queue.receive(&namespace, cx.long(3), most, cx.uint(4))?;
    let bytes = &message.bytes[..message.bytes.len().min(most)];
    memory::user::write(cx.addr(1), &message.kind)?;
    let text = cx.addr(1).checked_add(8).ok_or(Errno::EFAULT)?;
    memory::user::write_bytes(text, bytes)?;
    Ok(bytes.len() as u64)
}

pub(super) fn sys_msgctl(cx: &mut Context<'_>) -> Result<u64> {
    let command = cx.int(1);
    if command < 0 || cx.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    let namespace = &cx.thread.ipc_namespace();
    match command {
        IPC_INFO => info(cx, namespace, false),
        MSG_INFO => info(cx, namespace, true),
        IPC_STAT => stat(cx, namespace, By::Id),
        MSG_STAT => stat(cx, namespace, By::Place),
        MSG_STAT_ANY => stat(cx, namespace, By::PlaceForAll),
        IPC_SET => {
            let wanted: Stat = memory::user::read(cx.addr(2))?;
            let queue = namespace.queues.find(cx.int(0))?;
            namespace.check_owner(queue.header(), cx.credentials())?;
            let is_more = wanted.most > u64::from(namespace.settings.msgmnb.get());
            let caller = cx.credentials();
            if is_more && !namespace.capable(caller, Capabilities::SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            set_owner(cx, namespace, queue.header(), &wanted.perm)?;
            queue.set_most(wanted.most);
            Ok(0)
        }
        IPC_RMID => {
            let queue = namespace.queues.find(cx.int(0))?;
            namespace.check_owner(queue.header(), cx.credentials())?;
            queue.remove(namespace);
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn info(cx: &Context<'_>, namespace: &IpcNamespace, is_use: bool) -> Result<u64> {
    /// What Linux says of a pool that it does not have (`MSGPOOL`, `MSGMAP`, `MSGTQL`, `MSGSSZ`, `MSGSEG`).
    const NOMINAL: Info = Info {
        pool: 512_000,
        map: 16384,
        max: 0,
        mnb: 0,
        mni: 0,
        ssz: 16,
        tql: 16384,
        seg: u16::MAX,
        padding: 0,
    };
    let settings = &namespace.settings;
    let (used, highest) = namespace.queues.extent();
    let mut info = Info {
        max: saturated(settings.msgmax.get()),
        mnb: saturated(settings.msgmnb.get()),
        mni: saturated(settings.msgmni.get()),
        ..NOMINAL
    };
    if is_use {
        let (messages, bytes) = namespace.messages();
        info.pool = saturated(used);
        info.map = saturated(messages);
        info.tql = saturated(bytes);
    }
    memory::user::write(cx.addr(2), &info)?;
    Ok(u64::from(highest))
}

fn stat(cx: &Context<'_>, namespace: &IpcNamespace, by: By) -> Result<u64> {
    let (queue, result) = look_at(cx, namespace, &namespace.queues, by)?;
    let status = queue.status();
    let stat = Stat {
        perm: Perm::of(cx, queue.header()),
        sent_s: status.sent_s,
        received_s: status.received_s,
        changed_s: status.changed_s,
        bytes: status.bytes,
        len: status.len,
        most: status.most,
        sender: shown(cx, status.sender.as_ref()),
        receiver: shown(cx, status.receiver.as_ref()),
        ..Stat::default()
    };
    memory::user::write(cx.addr(2), &stat)?;
    Ok(result)
}

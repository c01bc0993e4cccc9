//! shmget(2), shmat(2), shmdt(2), shmctl(2).

use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::Capabilities;
use machine::PAGE_SIZE;
use machine::UserAddr;
use memory::Prot;
use process::ipc::shm::{self, AttachAt, Segment};
use process::ipc::table::Object;
use process::ipc::{IpcNamespace, READ, WRITE};
use process::rlimit::Resource;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{By, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Perm, id, look_at, set_owner, shown};
use crate::context::Context;

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `struct shmid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Stat {
    perm: Perm,
    size_bytes: u64,
    attached_s: u64,
    detached_s: u64,
    changed_s: u64,
    maker: i32,
    last: i32,
    attached: u64,
    unused: [u64; 2],
}

/// `struct shminfo64`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Limits {
    max: u64,
    min: u64,
    mni: u64,
    seg: u64,
    all: u64,
    unused: [u64; 4],
}

/// `struct shm_info`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    used: i32,
    padding: u32,
    total: u64,
    resident: u64,
    swapped: u64,
    swap: [u64; 2],
}

pub(super) fn sys_shmget(cx: &mut Context<'_>) -> Result<u64> {
    const SHM_HUGETLB: u32 = 0o4000;
    let (key, size, flags) = (cx.int(0), cx.arg(1), cx.uint(2));
    if flags & SHM_HUGETLB != 0 {
        // There are no huge pages to be reserved.
        return Err(Errno::ENOMEM);
    }
    let namespace = cx.thread.ipc_namespace();
    shm::get(&namespace, cx.credentials(), key, size, flags).map(id)
}

pub(super) fn sys_shmat(cx: &mut Context<'_>) -> Result<u64> {
    const SHM_RDONLY: u32 = 0o10000;
    const SHM_RND: u32 = 0o20000;
    const SHM_REMAP: u32 = 0o40000;
    const SHM_EXEC: u32 = 0o100_000;
    let flags = cx.uint(2);
    let replaces = flags & SHM_REMAP != 0;
    let mut addr = cx.addr(1);
    if flags & SHM_RND != 0 {
        addr = addr.page_base();
    }
    if !addr.is_page_aligned() || addr.0 == 0 && replaces || cx.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    let (mut prot, mut wanted) = (Prot::READ, READ);
    if flags & SHM_RDONLY == 0 {
        prot |= Prot::WRITE;
        wanted |= WRITE;
    }
    if flags & SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        wanted |= 0o111;
    }
    let namespace = cx.thread.ipc_namespace();
    let segment = namespace.segments.find(cx.int(0))?;
    namespace.check(segment.header(), cx.credentials(), wanted)?;
    let at = AttachAt {
        addr: (cx.arg(1) != 0).then_some(addr),
        replaces,
        prot,
    };
    let space = cx.process().memory().ok_or(Errno::ENOMEM)?;
    if at.addr.is_some() && addr.0.checked_add(segment.size_bytes()).is_none() {
        return Err(Errno::EINVAL);
    }
    segment.attach(&space, &at).map(|UserAddr(addr)| addr)
}

pub(super) fn sys_shmdt(cx: &mut Context<'_>) -> Result<u64> {
    let space = cx.process().memory().ok_or(Errno::EINVAL)?;
    space.detach(cx.addr(0)).map(|()| 0)
}

pub(super) fn sys_shmctl(cx: &mut Context<'_>) -> Result<u64> {
    let command = cx.int(1);
    if command < 0 || cx.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    let namespace = &cx.thread.ipc_namespace();
    match command {
        IPC_INFO => limits(cx, namespace),
        SHM_INFO => info(cx, namespace),
        IPC_STAT => stat(cx, namespace, By::Id),
        SHM_STAT => stat(cx, namespace, By::Place),
        SHM_STAT_ANY => stat(cx, namespace, By::PlaceForAll),
        IPC_SET => {
            let wanted: Stat = memory::user::read(cx.addr(2))?;
            let segment = namespace.segments.find(cx.int(0))?;
            set_owner(cx, namespace, segment.header(), &wanted.perm)?;
            segment.note_change();
            Ok(0)
        }
        IPC_RMID => {
            let segment = namespace.segments.find(cx.int(0))?;
            namespace.check_owner(segment.header(), cx.credentials())?;
            segment.remove(namespace);
            Ok(0)
        }
        SHM_LOCK | SHM_UNLOCK => lock(cx, namespace, command == SHM_LOCK),
        _ => Err(Errno::EINVAL),
    }
}

fn highest(namespace: &IpcNamespace) -> u64 {
    u64::from(namespace.segments.extent().1)
}

fn limits(cx: &Context<'_>, namespace: &IpcNamespace) -> Result<u64> {
    let settings = &namespace.settings;
    let most = u64::from(settings.shmmni.get());
    let limits = Limits {
        max: settings.shmmax.load(Ordering::Relaxed),
        min: 1,
        mni: most,
        seg: most,
        all: settings.shmall.load(Ordering::Relaxed),
        ..Limits::default()
    };
    memory::user::write(cx.addr(2), &limits)?;
    Ok(highest(namespace))
}

fn info(cx: &Context<'_>, namespace: &IpcNamespace) -> Result<u64> {
    let resident = namespace.segments.iter().map(|segment| segment.resident());
    let info = Info {
        used: super::saturated(namespace.segments.extent().0),
        total: namespace.shm_pages(),
        resident: resident.sum(),
        ..Info::default()
    };
    memory::user::write(cx.addr(2), &info)?;
    Ok(highest(namespace))
}

fn stat(cx: &Context<'_>, namespace: &IpcNamespace, by: By) -> Result<u64> {
    let (segment, result) = look_at(cx, namespace, &namespace.segments, by)?;
    let uses = segment.uses();
    let stat = Stat {
        perm: Perm::of(cx, segment.header()),
        size_bytes: segment.size_bytes(),
        attached_s: uses.attached_s,
        detached_s: uses.detached_s,
        changed_s: uses.changed_s,
        maker: shown(cx, uses.maker.as_ref()),
        last: shown(cx, uses.last.as_ref()),
        attached: uses.attached,
        ..Stat::default()
    };
    memory::user::write(cx.addr(2), &stat)?;
    Ok(result)
}

/// `SHM_LOCK` and `SHM_UNLOCK`.
fn lock(cx: &Context<'_>, namespace: &IpcNamespace, is_locked: bool) -> Result<u64> {
    let segment = namespace.segments.find(cx.int(0))?;
    if !namespace.capable(cx.credentials(), Capabilities::IPC_LOCK) {
        may_lock(cx, &segment, is_locked)?;
    }
    segment.set_locked(is_locked);
    Ok(0)
}

fn may_lock(cx: &Context<'_>, segment: &Segment, is_locked: bool) -> Result<()> {
    let permission = segment.header().permission();
    if ![permission.uid, permission.creator.0].contains(&cx.credentials().euid) {
        return Err(Errno::EPERM);
    }
    let limit = cx.process().limits().soft(Resource::LockedMemory);
    match limit {
        0 if is_locked => Err(Errno::EPERM),
        limit if is_locked && segment.size_bytes().div_ceil(PAGE_SIZE as u64) > limit >> 12 => {
            Err(Errno::ENOMEM)
        }
        _ => Ok(()),
    }
}

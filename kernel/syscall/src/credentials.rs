//! Users, groups and capabilities.

use abi::{Errno, Result};
use alloc::sync::Arc;
use fs::{Capabilities, Credentials, Kgid, Kuid};
use machine::UserAddr;
use process::cred;
use process::task::thread::Thread;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(102, "getuid", |cx| user_of(cx, |c| c.uid)),
    Entry::new(104, "getgid", |cx| group_of(cx, |c| c.gid)),
    Entry::new(105, "setuid", |cx| {
        change(cx, |c, cx| cred::set_uid(c, cx.user_id(0)?))
    }),
    Entry::new(106, "setgid", |cx| {
        change(cx, |c, cx| cred::set_gid(c, cx.group_id(0)?))
    }),
    Entry::new(107, "geteuid", |cx| user_of(cx, |c| c.euid)),
    Entry::new(108, "getegid", |cx| group_of(cx, |c| c.egid)),
    Entry::new(113, "setreuid", |cx| {
        change(cx, |c, cx| {
            cred::set_reuid(c, cx.optional_user(0)?, cx.optional_user(1)?)
        })
    }),
    Entry::new(114, "setregid", |cx| {
        change(cx, |c, cx| {
            cred::set_regid(c, cx.optional_group(0)?, cx.optional_group(1)?)
        })
    }),
    Entry::new(115, "getgroups", sys_getgroups),
    Entry::new(116, "setgroups", sys_setgroups),
    Entry::new(117, "setresuid", |cx| {
        change(cx, |c, cx| {
            cred::set_resuid(c, three(|index| cx.optional_user(index))?)
        })
    }),
    Entry::new(118, "getresuid", |cx| {
        let c = cx.credentials();
        write_ids(cx, [c.uid, c.euid, c.suid].map(|id| cx.shown_uid(id)))
    }),
    Entry::new(119, "setresgid", |cx| {
        change(cx, |c, cx| {
            cred::set_resgid(c, three(|index| cx.optional_group(index))?)
        })
    }),
    Entry::new(120, "getresgid", |cx| {
        let c = cx.credentials();
        write_ids(cx, [c.gid, c.egid, c.sgid].map(|id| cx.shown_gid(id)))
    }),
    Entry::new(122, "setfsuid", sys_setfsuid),
    Entry::new(123, "setfsgid", sys_setfsgid),
    Entry::new(125, "capget", sys_capget),
    Entry::new(126, "capset", sys_capset),
];

fn user_of(cx: &Context<'_>, which: fn(&Credentials) -> Kuid) -> Result<u64> {
    let own = cx.credentials();
    Ok(u64::from(own.user_namespace.shown_uid(which(own))))
}

fn group_of(cx: &Context<'_>, which: fn(&Credentials) -> Kgid) -> Result<u64> {
    let own = cx.credentials();
    Ok(u64::from(own.user_namespace.shown_gid(which(own))))
}

/// The first three arguments.
fn three<I>(argument: impl Fn(usize) -> Result<Option<I>>) -> Result<[Option<I>; 3]> {
    Ok([argument(0)?, argument(1)?, argument(2)?])
}

fn change(
    cx: &mut Context<'_>,
    to: fn(&Credentials, &Context<'_>) -> Result<Credentials>,
) -> Result<u64> {
    let old = cx.credentials().clone();
    let new = to(&old, cx)?;
    replace(cx, &old, new)?;
    Ok(0)
}

/// Makes the caller someone else; what was dumpable under the old identity is not under the new one.
fn replace(cx: &mut Context<'_>, old: &Credentials, new: Credentials) -> Result<()> {
    if new == *old {
        return Ok(());
    }
    let changed = old.euid != new.euid
        || old.egid != new.egid
        || old.fsuid != new.fsuid
        || old.fsgid != new.fsgid;
    cx.own.set_credentials(cx.thread, new)?;
    if changed {
        cx.process()
            .dumpable
            .store(0, core::sync::atomic::Ordering::Relaxed);
        cx.thread.set_parent_death_signal(0);
    }
    Ok(())
}

fn write_ids(cx: &Context<'_>, ids: [u32; 3]) -> Result<u64> {
    for (index, id) in ids.iter().enumerate() {
        memory::user::write(cx.addr(index), id)?;
    }
    Ok(0)
}

fn sys_setfsuid(cx: &mut Context<'_>) -> Result<u64> {
    let old = cx.credentials().clone();
    // It reports nothing.
    let wanted = cx.user_id(0).ok();
    if let Some(new) = wanted.and_then(|user| cred::set_fsuid(&old, user)) {
        replace(cx, &old, new)?;
    }
    Ok(u64::from(old.user_namespace.shown_uid(old.fsuid)))
}

fn sys_setfsgid(cx: &mut Context<'_>) -> Result<u64> {
    let old = cx.credentials().clone();
    let wanted = cx.group_id(0).ok();
    if let Some(new) = wanted.and_then(|group| cred::set_fsgid(&old, group)) {
        replace(cx, &old, new)?;
    }
    Ok(u64::from(old.user_namespace.shown_gid(old.fsgid)))
}

fn sys_getgroups(cx: &mut Context<'_>) -> Result<u64> {
    let credentials = cx.credentials();
    let groups = &credentials.groups;
    let room = usize::try_from(cx.int(0)).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if room < groups.len() {
            return Err(Errno::EINVAL);
        }
        let mut numbers = collections::Vec::try_with_capacity(groups.len())?;
        for group in groups.iter() {
            numbers.try_push(cx.shown_gid(*group))?;
        }
        memory::user::write_bytes(cx.addr(1), numbers.as_bytes())?;
    }
    Ok(groups.len() as u64)
}

fn sys_setgroups(cx: &mut Context<'_>) -> Result<u64> {
    const NGROUPS_MAX: usize = 65536;
    let old = cx.credentials().clone();
    if !old.own_ns_capable(Capabilities::SETGID) {
        return Err(Errno::EPERM);
    }
    let count = usize::try_from(cx.int(0)).map_err(|_| Errno::EINVAL)?;
    if count > NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let numbers = memory::user::read_array::<u32>(cx.addr(1), count)?;
    let mut groups = collections::Vec::try_with_capacity(count)?;
    for number in numbers {
        let group = old.user_namespace.kgid(number).ok_or(Errno::EINVAL)?;
        groups.try_push(group)?;
    }
    let new = cred::set_groups(&old, groups)?;
    cx.own.set_credentials(cx.thread, new)?;
    Ok(0)
}

/// `struct __user_cap_header_struct`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_1: u32 = 0x1998_0330;
const CAP_VERSION_2: u32 = 0x2007_1026;
const CAP_VERSION_3: u32 = 0x2008_0522;

/// How many [`CapData`] follow the header; for an unknown version, the kernel's own is written back.
fn cap_words(cx: &Context<'_>) -> Result<(CapHeader, usize)> {
    let header: CapHeader = memory::user::read(cx.addr(0))?;
    match header.version {
        CAP_VERSION_1 => Ok((header, 1)),
        CAP_VERSION_2 | CAP_VERSION_3 => Ok((header, 2)),
        _ => {
            memory::user::write(cx.addr(0), &CAP_VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
fn halves(set: Capabilities) -> [u32; 2] {
    [set.bits() as u32, (set.bits() >> 32) as u32]
}

fn sys_capget(cx: &mut Context<'_>) -> Result<u64> {
    let words = cap_words(cx);
    let Some(addr) = cx.optional_addr(1) else {
        // Asking for the version alone.
        return words.map(|_| 0).or_else(|errno| {
            if errno == Errno::EINVAL {
                Ok(0)
            } else {
                Err(errno)
            }
        });
    };
    let (header, words) = words?;
    let target = thread_of(cx, header.pid)?;
    let c = target.credentials();
    let sets = [c.effective, c.permitted, c.inheritable].map(halves);
    let [effective, permitted, inheritable] = sets;
    let columns = effective.into_iter().zip(permitted).zip(inheritable);
    for (word, ((effective, permitted), inheritable)) in columns.take(words).enumerate() {
        let data = CapData {
            effective,
            permitted,
            inheritable,
        };
        let at = addr
            .checked_add((word * size_of::<CapData>()) as u64)
            .ok_or(Errno::EFAULT)?;
        memory::user::write(at, &data)?;
    }
    Ok(0)
}

fn thread_of(cx: &Context<'_>, tid: i32) -> Result<Arc<Thread>> {
    match tid {
        0 => Ok(cx.thread.clone()),
        1.. => cx.find_thread(tid).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_capset(cx: &mut Context<'_>) -> Result<u64> {
    let (header, words) = cap_words(cx)?;
    if header.pid != 0 && header.pid != cx.thread.tid() {
        return Err(Errno::EPERM);
    }
    let mut data = [CapData::default(); 2];
    for (word, slot) in data.iter_mut().enumerate().take(words) {
        let offset = (word * size_of::<CapData>()) as u64;
        *slot = memory::user::read(UserAddr(cx.arg(1).wrapping_add(offset)))?;
    }
    let set = |field: fn(&CapData) -> u32| {
        let bits = u64::from(field(&data[0])) | u64::from(field(&data[1])) << 32;
        Capabilities::from_bits_truncate(bits)
    };
    let old = cx.credentials().clone();
    let new = cred::capset(
        &old,
        set(|d| d.effective),
        set(|d| d.permitted),
        set(|d| d.inheritable),
    )?;
    cx.own.set_credentials(cx.thread, new)?;
    Ok(0)
}

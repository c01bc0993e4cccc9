//! Settings of threads and processes: prctl(2), arch_prctl(2), personality(2).

use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::Capabilities;
use process::cred;
use process::signal::Signal;
use process::task::tree;

use crate::context::Context;
use crate::entry::Entry;
use crate::seccomp;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(135, "personality", sys_personality),
    Entry::new(157, "prctl", sys_prctl),
    Entry::new(158, "arch_prctl", sys_arch_prctl),
];

fn sys_personality(cx: &mut Context<'_>) -> Result<u64> {
    const QUERY: u32 = u32::MAX;
    let personality = &cx.process().personality;
    let old = match cx.uint(0) {
        QUERY => personality.load(Ordering::Relaxed),
        new => personality.swap(new, Ordering::Relaxed),
    };
    Ok(u64::from(old))
}

fn sys_arch_prctl(cx: &mut Context<'_>) -> Result<u64> {
    const ARCH_SET_GS: i32 = 0x1001;
    const ARCH_SET_FS: i32 = 0x1002;
    const ARCH_GET_FS: i32 = 0x1003;
    const ARCH_GET_GS: i32 = 0x1004;
    const ARCH_GET_CPUID: i32 = 0x1011;
    const ARCH_SET_CPUID: i32 = 0x1012;
    let value = cx.arg(1);
    let is_base = value < machine::UserAddr::LIMIT.0;
    let option = cx.int(0);
    let regs = &mut cx.user.regs;
    match option {
        ARCH_SET_FS | ARCH_SET_GS if !is_base => return Err(Errno::EPERM),
        ARCH_SET_FS => regs.fs_base = value,
        ARCH_SET_GS => regs.gs_base = value,
        ARCH_GET_FS => memory::user::write(machine::UserAddr(value), &regs.fs_base)?,
        ARCH_GET_GS => memory::user::write(machine::UserAddr(value), &regs.gs_base)?,
        // CPUID works, and cannot be made to fault.
        ARCH_GET_CPUID => return Ok(1),
        ARCH_SET_CPUID => return Err(Errno::ENODEV),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

mod option {
    pub(super) const SET_PDEATHSIG: i32 = 1;
    pub(super) const GET_PDEATHSIG: i32 = 2;
    pub(super) const GET_DUMPABLE: i32 = 3;
    pub(super) const SET_DUMPABLE: i32 = 4;
    pub(super) const GET_KEEPCAPS: i32 = 7;
    pub(super) const SET_KEEPCAPS: i32 = 8;
    pub(super) const GET_TIMING: i32 = 13;
    pub(super) const SET_TIMING: i32 = 14;
    pub(super) const SET_NAME: i32 = 15;
    pub(super) const GET_NAME: i32 = 16;
    pub(super) const GET_SECCOMP: i32 = 21;
    pub(super) const SET_SECCOMP: i32 = 22;
    pub(super) const CAPBSET_READ: i32 = 23;
    pub(super) const CAPBSET_DROP: i32 = 24;
    pub(super) const GET_SECUREBITS: i32 = 27;
    pub(super) const SET_SECUREBITS: i32 = 28;
    pub(super) const SET_TIMERSLACK: i32 = 29;
    pub(super) const GET_TIMERSLACK: i32 = 30;
    pub(super) const SET_MM: i32 = 35;
    pub(super) const SET_CHILD_SUBREAPER: i32 = 36;
    pub(super) const GET_CHILD_SUBREAPER: i32 = 37;
    pub(super) const SET_NO_NEW_PRIVS: i32 = 38;
    pub(super) const GET_NO_NEW_PRIVS: i32 = 39;
    pub(super) const GET_TID_ADDRESS: i32 = 40;
    pub(super) const SET_THP_DISABLE: i32 = 41;
    pub(super) const GET_THP_DISABLE: i32 = 42;
    pub(super) const CAP_AMBIENT: i32 = 47;
}

/// `PR_SET_THP_DISABLE` and `PR_GET_THP_DISABLE`: pages of 2 MiB are not made any more.
fn thp_disable(cx: &Context<'_>) -> Result<u64> {
    let is_set = cx.int(0) == option::SET_THP_DISABLE;
    let first_unused = if is_set { 2 } else { 1 };
    if (first_unused..5).any(|n| cx.arg(n) != 0) {
        return Err(Errno::EINVAL);
    }
    let memory = memory::current().ok_or(Errno::EINVAL)?;
    if is_set {
        memory.set_denies_large(cx.arg(1) != 0);
        return Ok(0);
    }
    Ok(u64::from(memory.denies_large()))
}

fn sys_prctl(cx: &mut Context<'_>) -> Result<u64> {
    let thread = cx.thread;
    match cx.int(0) {
        option::SET_PDEATHSIG => {
            let number = match cx.arg(1) {
                0 => 0,
                number => Signal::new(i32::try_from(number).map_err(|_| Errno::EINVAL)?)?.number(),
            };
            thread.set_parent_death_signal(number);
            Ok(0)
        }
        option::GET_PDEATHSIG => {
            memory::user::write(cx.addr(1), &u32::from(thread.parent_death_signal()))?;
            Ok(0)
        }
        option::SET_THP_DISABLE | option::GET_THP_DISABLE => thp_disable(cx),
        option::GET_DUMPABLE => Ok(u64::from(cx.process().dumpable.load(Ordering::Relaxed))),
        option::SET_DUMPABLE => {
            let value = u32::try_from(cx.arg(1)).ok().filter(|value| *value <= 1);
            cx.process()
                .dumpable
                .store(value.ok_or(Errno::EINVAL)?, Ordering::Relaxed);
            Ok(0)
        }
        option::SET_NAME => set_name(cx),
        option::GET_NAME => memory::user::write_bytes(cx.addr(1), &thread.name()).map(|()| 0),
        option::SET_TIMERSLACK => {
            const DEFAULT_NS: u64 = 50_000;
            let wanted = if cx.long(1) <= 0 {
                DEFAULT_NS
            } else {
                cx.arg(1)
            };
            thread.timer_slack_ns.store(wanted, Ordering::Relaxed);
            Ok(0)
        }
        option::GET_TIMERSLACK => Ok(thread.timer_slack_ns.load(Ordering::Relaxed)),
        option::SET_CHILD_SUBREAPER | option::GET_CHILD_SUBREAPER => subreaper(cx),
        option::SET_NO_NEW_PRIVS => {
            if cx.arg(1) != 1 || cx.arg(2) != 0 || cx.arg(3) != 0 || cx.arg(4) != 0 {
                return Err(Errno::EINVAL);
            }
            thread.set_no_new_privs();
            Ok(0)
        }
        option::SET_MM if !thread.credentials().capable(Capabilities::SYS_RESOURCE) => {
            Err(Errno::EPERM)
        }
        option::GET_NO_NEW_PRIVS if (1..5).any(|index| cx.arg(index) != 0) => Err(Errno::EINVAL),
        option::GET_NO_NEW_PRIVS => Ok(u64::from(thread.no_new_privs())),
        option::GET_SECCOMP => Ok(u64::from(thread.seccomp.mode() as u8)),
        option::SET_SECCOMP => seccomp::set_mode(cx),
        // Process times are exact, by no statistics of ticks.
        option::GET_TIMING => Ok(0),
        option::SET_TIMING if cx.arg(1) == 0 => Ok(0),
        option::GET_TID_ADDRESS => {
            memory::user::write(cx.addr(1), &thread.clear_child_tid_addr()).map(|()| 0)
        }
        _ => capabilities(cx),
    }
}

fn set_name(cx: &Context<'_>) -> Result<u64> {
    // Read as far as it goes: the name may end right before an unmapped page.
    let mut name = [0; 15];
    let mut len = 0;
    while len < name.len() {
        let at = cx.addr(1).checked_add(len as u64).ok_or(Errno::EFAULT)?;
        memory::user::read_bytes(at, &mut name[len..=len])?;
        if name[len] == 0 {
            break;
        }
        len += 1;
    }
    cx.thread.set_name(&name[..len]);
    Ok(0)
}

fn subreaper(cx: &Context<'_>) -> Result<u64> {
    let process = cx.process();
    if cx.int(0) == option::SET_CHILD_SUBREAPER {
        process.set_subreaper(cx.arg(1) != 0);
        return Ok(0);
    }
    let is_subreaper = {
        let tree = tree::lock();
        process.known(&tree).is_some_and(|node| node.is_subreaper)
    };
    memory::user::write(cx.addr(1), &u32::from(is_subreaper))?;
    Ok(0)
}

/// One capability by its number.
fn capability(number: u64) -> Result<Capabilities> {
    u32::try_from(number)
        .ok()
        .and_then(|number| 1u64.checked_shl(number))
        .and_then(Capabilities::from_bits)
        .ok_or(Errno::EINVAL)
}

/// The options that change or show credentials.
fn capabilities(cx: &mut Context<'_>) -> Result<u64> {
    use process::cred::securebits::{KEEP_CAPS, KEEP_CAPS_LOCKED};
    let old = cx.credentials().clone();
    let new = match cx.int(0) {
        option::GET_KEEPCAPS => return Ok(u64::from(old.securebits & KEEP_CAPS != 0)),
        option::SET_KEEPCAPS => {
            if cx.arg(1) > 1 {
                return Err(Errno::EINVAL);
            }
            if old.securebits & KEEP_CAPS_LOCKED != 0 {
                return Err(Errno::EPERM);
            }
            let mut new = (*old).clone();
            new.securebits &= !KEEP_CAPS;
            new.securebits |= if cx.arg(1) == 1 { KEEP_CAPS } else { 0 };
            new
        }
        option::CAPBSET_READ => {
            return Ok(u64::from(old.bounding.contains(capability(cx.arg(1))?)));
        }
        option::CAPBSET_DROP => cred::drop_bounding(&old, capability(cx.arg(1))?)?,
        option::GET_SECUREBITS => return Ok(u64::from(old.securebits)),
        option::SET_SECUREBITS => {
            let bits = u32::try_from(cx.arg(1)).map_err(|_| Errno::EPERM)?;
            cred::set_securebits(&old, bits)?
        }
        option::CAP_AMBIENT => return ambient(cx),
        _ => return Err(Errno::EINVAL),
    };
    cx.own.set_credentials(cx.thread, new)?;
    Ok(0)
}

fn ambient(cx: &mut Context<'_>) -> Result<u64> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if cx.arg(3) != 0 || cx.arg(4) != 0 {
        return Err(Errno::EINVAL);
    }
    let old = cx.credentials().clone();
    let new = match cx.arg(1) {
        CLEAR_ALL if cx.arg(2) == 0 => cred::lower_ambient(&old, Capabilities::all()),
        IS_SET => return Ok(u64::from(old.ambient.contains(capability(cx.arg(2))?))),
        RAISE => cred::raise_ambient(&old, capability(cx.arg(2))?)?,
        LOWER => cred::lower_ambient(&old, capability(cx.arg(2))?),
        _ => return Err(Errno::EINVAL),
    };
    cx.own.set_credentials(cx.thread, new)?;
    Ok(0)
}

//! Resource limits and what was used.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::Capabilities;
use process::rlimit::{INFINITY, Limit, Resource};
use process::usage::Usage;
use process::{Process, exec, timer};

use crate::context::Context;
use crate::entry::Entry;
use crate::identity::named;
use crate::structs::Rusage;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(97, "getrlimit", sys_getrlimit),
    Entry::new(98, "getrusage", sys_getrusage),
    Entry::new(160, "setrlimit", sys_setrlimit),
    Entry::new(302, "prlimit64", sys_prlimit64),
];

fn write_limit(addr: machine::UserAddr, limit: Limit) -> Result<()> {
    memory::user::write(addr, &[limit.soft, limit.hard])
}

fn read_limit(addr: machine::UserAddr) -> Result<Limit> {
    let [soft, hard] = memory::user::read(addr)?;
    Ok(Limit { soft, hard })
}

fn sys_getrlimit(cx: &mut Context<'_>) -> Result<u64> {
    let limit = cx.process().limits().get(Resource::new(cx.uint(0))?);
    write_limit(cx.addr(1), limit).map(|()| 0)
}

fn sys_setrlimit(cx: &mut Context<'_>) -> Result<u64> {
    let new = read_limit(cx.addr(1))?;
    let resource = Resource::new(cx.uint(0))?;
    set(cx, cx.process(), resource, new).map(|()| 0)
}

fn set(cx: &Context<'_>, target: &Arc<Process>, resource: Resource, new: Limit) -> Result<()> {
    let may_raise = cx.credentials().capable(Capabilities::SYS_RESOURCE);
    target.limits().set(resource, new, may_raise)?;
    match resource {
        Resource::Cpu if new.soft != INFINITY => timer::watch_cpu_limit(target),
        Resource::Stack | Resource::Data | Resource::AddressSpace | Resource::LockedMemory => {
            if let Some(memory) = target.memory() {
                memory.set_limits(exec::memory_limits(target.limits()));
            }
        }
        _ => {}
    }
    Ok(())
}

fn sys_prlimit64(cx: &mut Context<'_>) -> Result<u64> {
    let new = cx.optional_addr(2).map(read_limit).transpose()?;
    let target = named(cx, cx.int(0))?;
    check_access(cx, &target)?;
    let resource = Resource::new(cx.uint(1))?;
    let old = target.limits().get(resource);
    if let Some(new) = new {
        set(cx, &target, resource, new)?;
    }
    if let Some(addr) = cx.optional_addr(3) {
        write_limit(addr, old)?;
    }
    Ok(0)
}

/// prlimit(2): the caller's ids must all be the target's, or CAP_SYS_RESOURCE.
fn check_access(cx: &Context<'_>, target: &Arc<Process>) -> Result<()> {
    let own = cx.credentials();
    if Arc::ptr_eq(target, cx.process()) {
        return Ok(());
    }
    let other = target.credentials().ok_or(Errno::ESRCH)?;
    if own.ns_capable(&other.user_namespace, Capabilities::SYS_RESOURCE) {
        return Ok(());
    }
    let users = [other.uid, other.euid, other.suid]
        .iter()
        .all(|id| *id == own.uid);
    let groups = [other.gid, other.egid, other.sgid]
        .iter()
        .all(|id| *id == own.gid);
    if users && groups {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn sys_getrusage(cx: &mut Context<'_>) -> Result<u64> {
    const RUSAGE_SELF: i32 = 0;
    const RUSAGE_CHILDREN: i32 = -1;
    const RUSAGE_THREAD: i32 = 1;
    let usage = match cx.int(0) {
        RUSAGE_SELF => cx.process().usage(),
        RUSAGE_CHILDREN => cx.process().children_usage(),
        // The memory is everybody's.
        RUSAGE_THREAD => Usage {
            max_resident: cx.process().usage().max_resident,
            ..cx.thread.usage()
        },
        _ => return Err(Errno::EINVAL),
    };
    memory::user::write(cx.addr(1), &Rusage::from(usage)).map(|()| 0)
}

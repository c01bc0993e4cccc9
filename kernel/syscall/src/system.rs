//! The system as a whole: names, sizes, restarting.

use abi::{Errno, Result};
use fs::Capabilities;
use machine::PAGE_SIZE;
use process::signal::Signal;
use process::task::tree;
use process::{exit, namespace, uts};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(63, "uname", sys_uname),
    Entry::new(99, "sysinfo", sys_sysinfo),
    Entry::new(153, "vhangup", sys_vhangup),
    Entry::new(169, "reboot", sys_reboot),
    Entry::new(170, "sethostname", |cx| {
        set_name(cx, uts::UtsNamespace::set_hostname)
    }),
    Entry::new(171, "setdomainname", |cx| {
        set_name(cx, uts::UtsNamespace::set_domainname)
    }),
];

/// `struct new_utsname`.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct UtsName([[u8; 65]; 6]);

fn sys_uname(cx: &mut Context<'_>) -> Result<u64> {
    let mut name = UtsName([[0; 65]; 6]);
    let own = namespace::current_uts();
    let (host, domain) = (own.hostname(), own.domainname());
    let fields = [
        uts::SYSNAME.as_bytes(),
        host.as_bytes(),
        uts::RELEASE.as_bytes(),
        uts::VERSION.as_bytes(),
        uts::MACHINE.as_bytes(),
        domain.as_bytes(),
    ];
    for (slot, field) in name.0.iter_mut().zip(fields) {
        slot[..field.len()].copy_from_slice(field);
    }
    memory::user::write(cx.addr(0), &name).map(|()| 0)
}

fn set_name(cx: &Context<'_>, set: fn(&uts::UtsNamespace, uts::Name)) -> Result<u64> {
    if !cx
        .credentials()
        .ns_capable(namespace::current_uts().owner(), Capabilities::SYS_ADMIN)
    {
        return Err(Errno::EPERM);
    }
    let mut name = [0; uts::NAME_MAX];
    let name = name.get_mut(..cx.size(1)).ok_or(Errno::EINVAL)?;
    memory::user::read_bytes(cx.addr(0), name)?;
    set(&namespace::current_uts(), uts::Name::new(name));
    Ok(0)
}

/// `struct sysinfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SysInfo {
    uptime: i64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    padding: [u16; 3],
    total_high: u64,
    free_high: u64,
    unit: u32,
    end: u32,
}

fn sys_sysinfo(cx: &mut Context<'_>) -> Result<u64> {
    let threads = tree::lock().thread_count();
    let memory = memory::numbers::now();
    let bytes = |frames: usize| (frames * PAGE_SIZE) as u64;
    let info = SysInfo {
        uptime: (sched::clock::boottime_ns() / 1_000_000_000).cast_signed(),
        // Fixed point with sixteen bits behind the point.
        loads: process::load::averages().map(|load| load << 5),
        total_ram: bytes(memory.total),
        free_ram: bytes(memory.free),
        shared_ram: bytes(memory.shmem),
        processes: u16::try_from(threads).unwrap_or(u16::MAX),
        unit: 1,
        ..SysInfo::default()
    };
    memory::user::write(cx.addr(0), &info).map(|()| 0)
}

fn sys_vhangup(cx: &mut Context<'_>) -> Result<u64> {
    if !cx.credentials().capable(Capabilities::SYS_TTY_CONFIG) {
        return Err(Errno::EPERM);
    }
    if let Some(terminal) = fs::job_control::job_control().terminal() {
        terminal.session_ended();
    }
    Ok(0)
}

fn sys_reboot(cx: &mut Context<'_>) -> Result<u64> {
    const MAGIC: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const RESTART: u32 = 0x0123_4567;
    const RESTART2: u32 = 0xa1b2_c3d4;
    const HALT: u32 = 0xcdef_0123;
    const POWER_OFF: u32 = 0x4321_fedc;
    const CAD_ON: u32 = 0x89ab_cdef;
    const CAD_OFF: u32 = 0;
    if !cx.credentials().ns_capable(
        &cx.process().pid_namespace().owner(),
        Capabilities::SYS_BOOT,
    ) {
        return Err(Errno::EPERM);
    }
    if cx.uint(0) != MAGIC || !MAGIC2.contains(&cx.uint(1)) {
        return Err(Errno::EINVAL);
    }
    let namespace = cx.process().pid_namespace();
    if !namespace.is_initial() {
        // Not the machine, but the namespace, which ends as if by these signals (reboot(2)).
        let signal = match cx.uint(2) {
            RESTART | RESTART2 => Signal::HUP,
            HALT | POWER_OFF => Signal::INT,
            _ => return Err(Errno::EINVAL),
        };
        let init = namespace.init(&tree::lock()).cloned();
        let init = init.ok_or(Errno::ESRCH)?;
        exit::kill_with_status(&init, i32::from(signal.number()));
        // The caller sees no answer.
        exit::exit_thread(cx.thread, 0);
        return Ok(0);
    }
    match cx.uint(2) {
        CAD_ON | CAD_OFF => Ok(0),
        // As on Linux, nothing is written back first: that is what sync(2) is for.
        RESTART | RESTART2 => machine::power::reset(),
        HALT | POWER_OFF => machine::power::power_off(),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_linux_sizes() {
        assert_eq!(size_of::<UtsName>(), 390);
        assert_eq!(size_of::<SysInfo>(), 112);
    }
}

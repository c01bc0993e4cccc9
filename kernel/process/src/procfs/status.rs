//! /proc/PID/status: a line a fact (proc(5)).

use core::fmt::Write;

use abi::Result;
use fs::{Capabilities, Credentials};
use machine::PAGE_SIZE;
use memory::{AddressSpace, Statistics};

use super::scope::Scope;
use super::stat;
use super::text::{Text, trimmed};
use crate::rlimit::Resource;
use crate::signal::state;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::thread::Thread;

pub(super) fn text(scope: &Scope, to: &mut Text) -> Result<()> {
    to.push(b"Name:\t")?;
    push_name(to, trimmed(&scope.name()?))?;
    let process = scope.process()?;
    let thread = scope.thread().ok();
    write_identity(scope, &process, thread.as_deref(), to)?;
    if let Some(memory) = process.memory() {
        write_memory(&memory, to)?;
    }
    match &thread {
        Some(thread) => write_thread(&process, thread, to)?,
        None => writeln!(to, "Threads:\t1")?,
    }
    Ok(())
}

/// The name with its line break and backslash escaped.
fn push_name(to: &mut Text, name: &[u8]) -> Result<()> {
    for byte in name {
        match byte {
            b'\n' => to.push(b"\\n")?,
            b'\\' => to.push(b"\\\\")?,
            byte => to.push(core::slice::from_ref(byte))?,
        }
    }
    to.push(b"\n")
}

fn write_identity(
    scope: &Scope,
    process: &Process,
    thread: Option<&Thread>,
    to: &mut dyn Write,
) -> core::fmt::Result {
    let letter = char::from(stat::state_letter(scope));
    let state = match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        _ => "dead",
    };
    if let Some(fs) = thread.and_then(Thread::fs_if_alive) {
        writeln!(to, "Umask:\t{:04o}", fs.umask())?;
    }
    let id = scope.id().unwrap_or(process.pid());
    let shown = |id: &Pid| scope.shown(id);
    writeln!(
        to,
        "State:\t{letter} ({state})\nTgid:\t{}\nNgid:\t0\nPid:\t{}",
        shown(process.pid()),
        shown(id)
    )?;
    let parent = process.read_parent();
    let parent = parent.map_or(0, |parent| shown(parent.pid()));
    let tracer = thread.and_then(Thread::tracer);
    let tracer = tracer.map_or(0, |tracer| shown(&tracer.read_pid()));
    writeln!(to, "PPid:\t{parent}\nTracerPid:\t{tracer}")?;
    if let Some(c) = process.credentials() {
        let names = Scope::reader_namespace();
        let [uid, euid, suid, fsuid] =
            [c.uid, c.euid, c.suid, c.fsuid].map(|user| names.shown_uid(user));
        let [gid, egid, sgid, fsgid] =
            [c.gid, c.egid, c.sgid, c.fsgid].map(|group| names.shown_gid(group));
        writeln!(to, "Uid:\t{uid}\t{euid}\t{suid}\t{fsuid}")?;
        writeln!(to, "Gid:\t{gid}\t{egid}\t{sgid}\t{fsgid}")?;
        let files = thread.and_then(Thread::files_if_alive);
        let size = files.map_or(0, |files| files.len().next_power_of_two().max(64));
        writeln!(to, "FDSize:\t{size}")?;
        write!(to, "Groups:\t")?;
        for group in c.groups.iter() {
            write!(to, "{} ", names.shown_gid(*group))?;
        }
        writeln!(to)?;
    }
    for (name, id) in [
        ("NStgid", process.pid()),
        ("NSpid", id),
        ("NSpgid", &process.read_group()),
        ("NSsid", &process.read_session()),
    ] {
        write!(to, "{name}:")?;
        scope.for_each_number(id, &mut |number| write!(to, "\t{number}"))?;
        writeln!(to)?;
    }
    Ok(())
}

fn write_memory(memory: &AddressSpace, to: &mut dyn Write) -> core::fmt::Result {
    let s: Statistics = memory.statistics();
    let lines = [
        ("VmPeak", s.peak),
        ("VmSize", s.total),
        ("VmLck", s.locked),
        ("VmPin", 0),
        ("VmHWM", memory.peak_resident()),
        ("VmRSS", s.resident),
        ("RssAnon", s.resident - s.resident_file.min(s.resident)),
        ("RssFile", s.resident_file),
        ("RssShmem", 0),
        ("VmData", s.data),
        ("VmStk", s.stack),
        ("VmExe", s.exec),
        ("VmLib", 0),
        ("VmPTE", 0),
        ("VmSwap", 0),
    ];
    for (name, pages) in lines {
        writeln!(to, "{name}:\t{:>8} kB", (pages * PAGE_SIZE as u64) >> 10)?;
    }
    writeln!(
        to,
        "HugetlbPages:\t{:>8} kB\nCoreDumping:\t0\nTHP_enabled:\t{}",
        0,
        u8::from(!memory.denies_large())
    )
}

fn write_thread(process: &Process, thread: &Thread, to: &mut dyn Write) -> core::fmt::Result {
    let (own, shared) = state::pending(thread);
    let (ignored, caught) = state::ignored_and_caught(process);
    let queued = own.iter().count() + shared.iter().count();
    writeln!(to, "Threads:\t{}", process.thread_count())?;
    writeln!(
        to,
        "SigQ:\t{queued}/{}",
        process.limits().soft(Resource::PendingSignals)
    )?;
    let sets = [
        ("SigPnd", own),
        ("ShdPnd", shared),
        ("SigBlk", thread.blocked()),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ];
    for (name, set) in sets {
        writeln!(to, "{name}:\t{:016x}", set.0)?;
    }
    write_capabilities(&thread.credentials(), to)?;
    writeln!(
        to,
        "NoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}",
        u32::from(thread.no_new_privs()),
        thread.seccomp.mode() as u8,
        thread.seccomp.filter_count()
    )?;
    let count = machine::cpu::count();
    let all = sched::CpuMask::online();
    let allowed = thread
        .kernel()
        .map_or(all, |kernel| kernel.affinity().and(all));
    writeln!(to, "Cpus_allowed:\t{:x}", allowed.0)?;
    write!(to, "Cpus_allowed_list:\t")?;
    write_list(allowed.0, count, to)?;
    // One node of memory.
    writeln!(to, "Mems_allowed:\t1\nMems_allowed_list:\t0")?;
    let usage = thread.usage();
    writeln!(to, "voluntary_ctxt_switches:\t{}", usage.voluntary_switches)?;
    writeln!(
        to,
        "nonvoluntary_ctxt_switches:\t{}",
        usage.involuntary_switches
    )
}

pub(super) fn write_capabilities(c: &Credentials, to: &mut dyn Write) -> core::fmt::Result {
    let sets: [(&str, Capabilities); 5] = [
        ("CapInh", c.inheritable),
        ("CapPrm", c.permitted),
        ("CapEff", c.effective),
        ("CapBnd", c.bounding),
        ("CapAmb", c.ambient),
    ];
    for (name, set) in sets {
        writeln!(to, "{name}:\t{:016x}", set.bits())?;
    }
    Ok(())
}

/// A set of CPUs as ranges: `0-2,5`.
pub(super) fn write_list(mask: u64, count: usize, to: &mut dyn Write) -> core::fmt::Result {
    let is_in = |cpu: usize| cpu < count.min(64) && mask >> cpu & 1 == 1;
    let mut separator = "";
    for first in (0..count).filter(|cpu| is_in(*cpu) && (*cpu == 0 || !is_in(cpu - 1))) {
        let last = (first..count)
            .take_while(|cpu| is_in(*cpu))
            .last()
            .unwrap_or(first);
        if first == last {
            write!(to, "{separator}{first}")?;
        } else {
            write!(to, "{separator}{first}-{last}")?;
        }
        separator = ",";
    }
    writeln!(to)
}

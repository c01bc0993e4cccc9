//! Files about the system: memory, CPUs, times, versions.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use machine::{PAGE_SIZE, frame};

use crate::usage::ticks;
use crate::{load, tree, uts};

const NS_PER_S: u64 = 1_000_000_000;

/// /proc/cmdline.
pub(super) fn command_line() -> Vec<u8> {
    format!("{}\n", super::command_line()).into_bytes()
}

/// /proc/version.
pub(super) fn version() -> Vec<u8> {
    format!("Linux version {} (nacre) {}\n", uts::RELEASE, uts::VERSION).into_bytes()
}

/// /proc/uptime: since boot, and idle time of all CPUs, in seconds.
pub(super) fn uptime() -> Vec<u8> {
    let idle: u64 = (0..machine::cpu::count())
        .map(|cpu| sched::stats::cpu(cpu).idle_ns)
        .sum();
    format!(
        "{} {}\n",
        hundredths(sched::clock::boottime_ns()),
        hundredths(idle)
    )
    .into_bytes()
}

/// Nanoseconds as seconds with two digits behind the point.
pub(super) fn hundredths(ns: u64) -> String {
    format!("{}.{:02}", ns / NS_PER_S, ns % NS_PER_S / 10_000_000)
}

/// /proc/loadavg.
pub(super) fn loadavg() -> Vec<u8> {
    let [one, five, fifteen] = load::averages().map(load::format);
    let (threads, last) = {
        let tree = tree::lock();
        (tree.thread_count(), tree.last_pid())
    };
    let running = sched::stats::runnable_threads();
    format!("{one} {five} {fifteen} {running}/{threads} {last}\n").into_bytes()
}

/// /proc/meminfo: the lines that free(1), top(1) and language runtimes look at.
pub(super) fn meminfo() -> Vec<u8> {
    let kib = |frames: usize| (frames * PAGE_SIZE) >> 10;
    let (total, free) = (kib(frame::total()), kib(frame::free()));
    let mut text = String::new();
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", 0),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", total - free),
    ];
    for (name, value) in lines {
        // A string takes whatever is written.
        let _ = writeln!(text, "{:<16}{value:>8} kB", format!("{name}:"));
    }
    text.into_bytes()
}

/// /proc/cpuinfo: one block a CPU.
pub(super) fn cpuinfo() -> Vec<u8> {
    let mut text = String::new();
    let count = machine::cpu::count();
    for cpu in 0..count {
        let _ = writeln!(
            text,
            "processor\t: {cpu}\nvendor_id\t: Nacre\ncpu family\t: 6\nmodel\t\t: 0\n\
             model name\t: Nacre virtual CPU\nstepping\t: 0\nphysical id\t: 0\nsiblings\t: {count}\n\
             core id\t\t: {cpu}\ncpu cores\t: {count}\napicid\t\t: {cpu}\nfpu\t\t: yes\nwp\t\t: yes\n\
             flags\t\t: {}\nbogomips\t: 0.00\nclflush size\t: 64\naddress sizes\t: 46 bits physical, \
             48 bits virtual\n",
            flags(machine::cpu::hwcap())
        );
    }
    text.into_bytes()
}

/// CPUID leaf 1 EDX by Linux's names, and what every x86-64 has.
fn flags(edx: u32) -> String {
    const NAMES: [&str; 32] = [
        "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr",
        "pge", "mca", "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr",
        "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe",
    ];
    let set = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| edx >> bit & 1 == 1);
    let mut names: Vec<&str> = set
        .map(|(_, name)| *name)
        .filter(|name| !name.is_empty())
        .collect();
    names.extend(["syscall", "nx", "lm"]);
    names.join(" ")
}

/// /proc/stat.
pub(super) fn stat() -> Vec<u8> {
    let count = machine::cpu::count();
    let stats: Vec<_> = (0..count).map(sched::stats::cpu).collect();
    let mut text = String::new();
    let sum = |field: fn(&sched::stats::CpuStat) -> u64| stats.iter().map(field).sum::<u64>();
    let mut line = |name: &str, user, system, idle| {
        let (user, system, idle) = (ticks(user), ticks(system), ticks(idle));
        let _ = writeln!(text, "{name} {user} 0 {system} {idle} 0 0 0 0 0 0");
    };
    line(
        "cpu ",
        sum(|s| s.user_ns),
        sum(|s| s.system_ns),
        sum(|s| s.idle_ns),
    );
    for (cpu, stat) in stats.iter().enumerate() {
        line(
            &format!("cpu{cpu}"),
            stat.user_ns,
            stat.system_ns,
            stat.idle_ns,
        );
    }
    let booted = (sched::clock::realtime_ns() - sched::clock::boottime_ns()) / NS_PER_S;
    let _ = write!(
        text,
        "intr 0\nctxt {}\nbtime {booted}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\n",
        sum(|s| s.switches),
        tree::lock().last_pid(),
        sched::stats::runnable_threads()
    );
    text.into_bytes()
}

/// /proc/filesystems. None needs a block device: there are none.
pub(super) fn filesystems() -> Vec<u8> {
    let names = fs::type_names();
    let mut text = String::new();
    for name in names {
        let _ = writeln!(text, "nodev\t{name}");
    }
    text.into_bytes()
}

/// /proc/devices: majors that programs look up.
pub(super) fn devices() -> Vec<u8> {
    b"Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n\
      136 pts\n229 hvc\n\nBlock devices:\n"
        .to_vec()
}

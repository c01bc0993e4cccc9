//! Files about the system: memory, CPUs, times, versions.

use core::fmt::{self, Write};

use abi::Result;
use machine::PAGE_SIZE;
use memory::{Event, MemoryGroup};
use sched::stats::CpuStat;

use super::text::Text;
use crate::task::cgroup::{Cgroup, Controllers};
use crate::task::{thread, tree};
use crate::usage::ticks;
use crate::{load, uts};

const NS_PER_S: u64 = 1_000_000_000;

/// /proc/cmdline.
pub(super) fn command_line(to: &mut Text) -> Result<()> {
    // Set once, at start-up: its lock is never contended.
    Ok(writeln!(to, "{}", *super::COMMAND_LINE.lock())?)
}

/// /proc/version.
pub(super) fn version(to: &mut Text) -> Result<()> {
    let (release, version) = (uts::RELEASE, uts::VERSION);
    Ok(writeln!(to, "Linux version {release} (nacre) {version}")?)
}

/// /proc/uptime: since boot, and idle time of all CPUs, in seconds.
pub(super) fn uptime(to: &mut Text) -> Result<()> {
    let idle: u64 = (0..machine::cpu::count())
        .map(|cpu| sched::stats::cpu(cpu).idle_ns)
        .sum();
    let boottime = Hundredths(sched::clock::boottime_ns());
    Ok(writeln!(to, "{boottime} {}", Hundredths(idle))?)
}

/// Nanoseconds, shown as seconds with two digits behind the point.
pub(super) struct Hundredths(pub(super) u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0 / NS_PER_S, self.0 % NS_PER_S);
        write!(f, "{seconds}.{:02}", rest / 10_000_000)
    }
}

/// /proc/loadavg.
pub(super) fn loadavg(to: &mut Text) -> Result<()> {
    let [one, five, fifteen] = load::averages().map(load::Average);
    let (threads, last) = {
        let tree = tree::lock();
        let reader = thread::current();
        let last = reader.map_or(0, |reader| {
            reader.process().pid_namespace().last_number(&tree)
        });
        (tree.thread_count(), last)
    };
    let running = sched::stats::runnable_threads();
    Ok(writeln!(
        to,
        "{one} {five} {fifteen} {running}/{threads} {last}"
    )?)
}

/// The addresses for the kernel's virtually contiguous memory: half a TiB (`machine::x86::layout`).
const VMALLOC_FRAMES: usize = (1 << 39) / PAGE_SIZE;

/// /proc/meminfo: the lines that free(1), top(1) and language runtimes look at.
pub(super) fn meminfo(to: &mut Text) -> Result<()> {
    let now = memory::numbers::now();
    let cached = now.file + now.shmem;
    // There is no swap, so shared memory stays where it is.
    let active_file = now.active_file;
    let promised = now.total - now.free.min(now.total);
    let lines = [
        ("MemTotal", now.total),
        ("MemFree", now.free),
        ("MemAvailable", now.available),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", now.anon + active_file),
        ("Inactive", now.shmem + now.file - active_file),
        ("Active(anon)", now.anon),
        ("Inactive(anon)", now.shmem),
        ("Active(file)", active_file),
        ("Inactive(file)", now.file - active_file),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", now.dirty),
        ("Writeback", now.writeback),
        ("AnonPages", now.anon),
        ("Mapped", now.mapped),
        ("Shmem", now.shmem),
        ("Slab", now.slab),
        ("SReclaimable", 0),
        ("SUnreclaim", now.slab),
        ("KernelStack", now.kernel_stacks),
        ("PageTables", now.page_tables),
        ("CommitLimit", now.total),
        ("Committed_AS", promised),
        ("VmallocTotal", VMALLOC_FRAMES),
        ("VmallocUsed", now.vmalloc + now.kernel_stacks),
        ("AnonHugePages", now.anon_large),
    ];
    let lines = lines.map(|(name, frames)| (name, (frames * PAGE_SIZE) >> 10));
    for (name, value) in lines {
        writeln!(to, "{name}:{value:>width$} kB", width = 23 - name.len())?;
    }
    // There are none.
    for name in [
        "HugePages_Total",
        "HugePages_Free",
        "HugePages_Rsvd",
        "HugePages_Surp",
    ] {
        writeln!(to, "{name}:{:>width$}", 0, width = 23 - name.len())?;
    }
    Ok(writeln!(
        to,
        "Hugepagesize:       2048 kB\nHugetlb:               0 kB"
    )?)
}

/// /proc/slabinfo: objects by their size, as Linux names those of kmalloc. Those with a CPU for the next that wants one
/// count as active.
pub(super) fn slabinfo(to: &mut Text) -> Result<()> {
    writeln!(
        to,
        "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
         : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
    )?;
    for class in machine::heap::usage() {
        let (out, all, pages) = (class.out, class.pages * class.per_page, class.pages);
        writeln!(
            to,
            "kmalloc-{:<9} {out:>6} {all:>6} {:>6} {:>4} {:>4} : tunables {:>4} {:>4} {:>4} \
             : slabdata {pages:>6} {pages:>6} {:>6}",
            class.size, class.size, class.per_page, 1, 0, 0, 0, 0
        )?;
    }
    Ok(())
}

/// /proc/cpuinfo: one block a CPU.
pub(super) fn cpuinfo(to: &mut Text) -> Result<()> {
    let count = machine::cpu::count();
    for cpu in 0..count {
        write!(
            to,
            "processor\t: {cpu}\nvendor_id\t: Nacre\ncpu family\t: 6\nmodel\t\t: 0\n\
             model name\t: Nacre virtual CPU\nstepping\t: 0\nphysical id\t: 0\nsiblings\t: {count}\n\
             core id\t\t: {cpu}\ncpu cores\t: {count}\napicid\t\t: {cpu}\nfpu\t\t: yes\nwp\t\t: yes\n\
             flags\t\t:"
        )?;
        write_flags(machine::cpu::hwcap(), to)?;
        writeln!(
            to,
            "\nbogomips\t: 0.00\nclflush size\t: 64\naddress sizes\t: 46 bits physical, \
             48 bits virtual\n"
        )?;
    }
    Ok(())
}

/// CPUID leaf 1 EDX by Linux's names, and what every x86-64 has.
fn write_flags(edx: u32, to: &mut Text) -> fmt::Result {
    const NAMES: [&str; 32] = [
        "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr",
        "pge", "mca", "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr",
        "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe",
    ];
    let set = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| edx >> bit & 1 == 1);
    let names = set.map(|(_, name)| *name).chain(["syscall", "nx", "lm"]);
    for name in names.filter(|name| !name.is_empty()) {
        write!(to, " {name}")?;
    }
    Ok(())
}

/// /proc/stat.
pub(super) fn stat(to: &mut Text) -> Result<()> {
    let count = machine::cpu::count();
    let sum = |field: fn(&CpuStat) -> u64| -> u64 {
        let all = (0..count).map(sched::stats::cpu);
        all.map(|stat| field(&stat)).sum()
    };
    write!(to, "cpu  ")?;
    write_times(
        sum(|s| s.user_ns),
        sum(|s| s.system_ns),
        sum(|s| s.idle_ns),
        to,
    )?;
    for cpu in 0..count {
        let stat = sched::stats::cpu(cpu);
        write!(to, "cpu{cpu} ")?;
        write_times(stat.user_ns, stat.system_ns, stat.idle_ns, to)?;
    }
    let booted = (sched::clock::realtime_ns() - sched::clock::boottime_ns()) / NS_PER_S;
    // Work is not put off to softirqs here: none of the eleven kinds ever ran.
    Ok(write!(
        to,
        "intr 0\nctxt {}\nbtime {booted}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\n\
         softirq 0 0 0 0 0 0 0 0 0 0 0\n",
        sum(|s| s.switches),
        tree::lock().made(),
        sched::stats::runnable_threads()
    )?)
}

fn write_times(user: u64, system: u64, idle: u64, to: &mut Text) -> fmt::Result {
    let (user, system, idle) = (ticks(user), ticks(system), ticks(idle));
    writeln!(to, "{user} 0 {system} {idle} 0 0 0 0 0 0")
}

/// /proc/vmstat: what is counted of it.
pub(super) fn vmstat(to: &mut Text) -> Result<()> {
    writeln!(to, "nr_free_pages {}", machine::frame::free())?;
    // Of all groups: what happens in one happens in those above it.
    let killed = MemoryGroup::ROOT.events(Event::OomKill, false);
    Ok(writeln!(to, "oom_kill {killed}")?)
}

/// /proc/filesystems. None needs a block device.
pub(super) fn filesystems(to: &mut Text) -> Result<()> {
    // Those that only the kernel mounts are listed, too.
    for name in fs::type_names()?
        .into_iter()
        .chain(["pipefs", "sockfs", "nsfs"])
    {
        writeln!(to, "nodev\t{name}")?;
    }
    Ok(())
}

/// /proc/cgroups: the controllers, all of hierarchy 0, which is that of version 2.
pub(super) fn control_groups(to: &mut Text) -> Result<()> {
    to.push(b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n")?;
    let groups = 1 + Cgroup::root()?.settings().descendants;
    for (_, name) in Controllers::NAMES {
        writeln!(to, "{name}\t0\t{groups}\t1")?;
    }
    Ok(())
}

/// /proc/devices: majors that programs look up.
pub(super) fn devices(to: &mut Text) -> Result<()> {
    to.push(
        b"Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n\
      136 pts\n229 hvc\n\nBlock devices:\n",
    )?;
    if let Some(disk) = fs::block::disks()?.first() {
        writeln!(to, "{:>3} virtblk", disk.id().major)?;
    }
    Ok(())
}

/// /proc/partitions: disks, whole ones, in KiB.
pub(super) fn partitions(to: &mut Text) -> Result<()> {
    to.push(b"major minor  #blocks  name\n\n")?;
    for disk in &fs::block::disks()? {
        let (id, blocks) = (disk.id(), disk.size_bytes() / 1024);
        writeln!(
            to,
            "{:>4}  {:>7} {blocks:>10} {}",
            id.major,
            id.minor,
            disk.name()
        )?;
    }
    Ok(())
}

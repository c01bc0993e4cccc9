//! /proc/sys: the settings that programs read, and the few that can be changed.

use core::fmt::{self, Display, Write};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Errno, Result};
use fs::permission::sysctl as protected;

use super::item::{Content, Item, Set, Show};
use super::network;
use super::scope::Scope;
use super::sysvipc;
use super::text::Text;
use crate::core_dump::{self, pattern};
use crate::namespace;
use crate::task::numbers::{PID_MAX, PidNumber};
use crate::task::pid_namespace::PidNamespace;
use crate::task::{thread, tree};
use crate::uts::{Name, UtsNamespace};
use crate::{rlimit, uts};

/// /proc/sys.
pub(super) static ITEMS: &[Item] = &[
    Item::folder("fs", FS),
    Item::folder("kernel", KERNEL),
    Item::folder("net", network::SETTINGS),
    Item::folder("vm", VM),
];

static FS: &[Item] = &[
    Item::folder("epoll", EPOLL),
    Item::file("file-max", |_, to| line(i64::MAX, to)),
    Item::file("file-nr", |_, to| line("0\t0\t9223372036854775807", to)),
    Item::file("nr_open", |_, to| line(fs::FD_MAX, to)),
    Item::file("overflowgid", |_, to| line(65534, to)),
    Item::file("overflowuid", |_, to| line(65534, to)),
    Item::file("pipe-max-size", |_, to| line(1 << 20, to)),
    protection(
        "protected_fifos",
        |_, to| line(protected::PROTECTED_FIFOS.load(Relaxed), to),
        |_, from| set_level(&protected::PROTECTED_FIFOS, 2, from),
    ),
    protection(
        "protected_hardlinks",
        |_, to| line(protected::PROTECTED_HARDLINKS.load(Relaxed), to),
        |_, from| set_level(&protected::PROTECTED_HARDLINKS, 1, from),
    ),
    protection(
        "protected_regular",
        |_, to| line(protected::PROTECTED_REGULAR.load(Relaxed), to),
        |_, from| set_level(&protected::PROTECTED_REGULAR, 2, from),
    ),
    protection(
        "protected_symlinks",
        |_, to| line(protected::PROTECTED_SYMLINKS.load(Relaxed), to),
        |_, from| set_level(&protected::PROTECTED_SYMLINKS, 1, from),
    ),
    writable(
        "suid_dumpable",
        |_, to| line(core_dump::suid_dumpable(), to),
        |_, from| {
            let value = u32::try_from(number(from)?).map_err(|_| Errno::EINVAL)?;
            check_admin()?;
            core_dump::set_suid_dumpable(value)
        },
    ),
];

/// Nothing but memory bounds what epoll instances watch.
static EPOLL: &[Item] = &[Item::file("max_user_watches", |_, to| line(i64::MAX, to))];

static KERNEL: &[Item] = &[
    Item::file("cap_last_cap", |_, to| {
        line(63 - fs::Capabilities::all().bits().leading_zeros(), to)
    }),
    writable("core_pattern", core_pattern, set_core_pattern),
    writable(
        "core_uses_pid",
        |_, to| line(u8::from(pattern::setting().uses_pid), to),
        |_, from| {
            let value = number(from)?;
            check_admin()?;
            pattern::set_uses_pid(value != 0);
            Ok(())
        },
    ),
    writable(
        "domainname",
        |_, to| name(namespace::current_uts().domainname(), to),
        |_, from| set_name(from, UtsNamespace::set_domainname),
    ),
    writable(
        "hostname",
        |_, to| name(namespace::current_uts().hostname(), to),
        |_, from| set_name(from, UtsNamespace::set_hostname),
    ),
    sysvipc::MSGMAX,
    sysvipc::MSGMNB,
    sysvipc::MSGMNI,
    Item::file("ngroups_max", |_, to| line(65536, to)),
    Item {
        name: "ns_last_pid",
        mode: 0o666,
        content: Content::Writable(last_pid, set_last_pid),
    },
    Item::file("osrelease", |_, to| line(uts::RELEASE, to)),
    Item::file("ostype", |_, to| line(uts::SYSNAME, to)),
    Item::file("overflowgid", |_, to| line(65534, to)),
    Item::file("overflowuid", |_, to| line(65534, to)),
    Item::file("panic", |_, to| line(0, to)),
    // Nobody may count events (perf_event_open(2)).
    Item::file("perf_event_paranoid", |_, to| line(4, to)),
    Item::file("pid_max", |_, to| line(PID_MAX, to)),
    Item::folder("random", RANDOM),
    Item::file("randomize_va_space", |_, to| line(2, to)),
    Item::file("sched_rt_period_us", |_, to| {
        line(sched::run_queue::REALTIME_PERIOD_NS / 1000, to)
    }),
    Item::file("sched_rt_runtime_us", |_, to| {
        line(sched::run_queue::REALTIME_RUNTIME_NS / 1000, to)
    }),
    Item::folder("seccomp", super::seccomp::ITEMS),
    sysvipc::SEM,
    sysvipc::SHM_RMID_FORCED,
    sysvipc::SHMALL,
    sysvipc::SHMMAX,
    sysvipc::SHMMNI,
    Item::file("tainted", |_, to| line(0, to)),
    writable(
        "threads-max",
        |_, to| line(rlimit::threads_max(), to),
        |_, from| rlimit::set_threads_max(number(from)?),
    ),
    Item::file("version", |_, to| line(uts::VERSION, to)),
];

static RANDOM: &[Item] = &[
    Item::file("boot_id", |_, to| line(boot_id(), to)),
    Item::file("entropy_avail", |_, to| line(256, to)),
    Item::file("poolsize", |_, to| line(256, to)),
    Item::file("uuid", |_, to| line(Uuid(random_bytes()), to)),
];

static VM: &[Item] = &[
    Item::file("dirty_ratio", |_, to| line(memory::DIRTY_RATIO, to)),
    Item {
        name: "drop_caches",
        mode: 0o200,
        content: Content::Writable(
            |_, to| line(DROPPED.load(Relaxed), to),
            |_, from| drop_caches(from),
        ),
    },
    Item::file("max_map_count", |_, to| line(65530, to)),
    writable("memory_limit_kbytes", memory_limit, set_memory_limit),
    Item::file("min_free_kbytes", |_, to| {
        line(
            (memory::pressure::RESERVE_FRAMES * machine::PAGE_SIZE) >> 10,
            to,
        )
    }),
    Item::file("mmap_min_addr", |_, to| line(65536, to)),
    Item::file("nr_hugepages", |_, to| line(0, to)),
    Item::file("oom_kill_allocating_task", |_, to| line(0, to)),
    Item::file("overcommit_memory", |_, to| line(1, to)),
    Item::file("overcommit_ratio", |_, to| line(50, to)),
    Item::file("swappiness", |_, to| line(0, to)),
];

fn core_pattern(_: &Scope, to: &mut Text) -> Result<()> {
    to.push(pattern::setting().pattern())?;
    to.push(b"\n")
}

fn set_core_pattern(_: &Scope, from: &[u8]) -> Result<()> {
    check_admin()?;
    pattern::set_pattern(from.strip_suffix(b"\n").unwrap_or(from))
}

/// What says where the machine's files go is not for the root of a container.
fn check_admin() -> Result<()> {
    let is_allowed = thread::current()
        .is_none_or(|caller| caller.credentials().capable(fs::Capabilities::SYS_ADMIN));
    if is_allowed {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// How much memory may be used: what /proc/meminfo says there is.
fn memory_limit(_: &Scope, to: &mut Text) -> Result<()> {
    line(machine::frame::total() * (machine::PAGE_SIZE / 1024), to)
}

/// Not Linux's, whose machines stay as they are; for who owns the machine, not for the root of a container. More than
/// there is means all. `EBUSY`: more than that is in use and cannot be taken back.
fn set_memory_limit(_: &Scope, from: &[u8]) -> Result<()> {
    let is_allowed = thread::current()
        .is_none_or(|caller| caller.credentials().capable(fs::Capabilities::SYS_RESOURCE));
    if !is_allowed {
        return Err(Errno::EPERM);
    }
    let kbytes = usize::try_from(number(from)?).map_err(|_| Errno::EINVAL)?;
    match kbytes / (machine::PAGE_SIZE / 1024) {
        0 => Err(Errno::EINVAL),
        frames => memory::MemoryGroup::ROOT.try_set_limit(frames),
    }
}

/// What was last written to drop_caches.
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Lets go of what can be read again: 1 for pages of files, 2 for names and inodes, 4 to say nothing (which is what happens
/// here in any case).
fn drop_caches(from: &[u8]) -> Result<()> {
    let what = number(from)?;
    let bits = u32::try_from(what).map_err(|_| Errno::EINVAL)?;
    if !(1..=4).contains(&bits) {
        return Err(Errno::EINVAL);
    }
    DROPPED.store(bits, Relaxed);
    if bits & 1 != 0 {
        memory::pressure::drop_pages();
    }
    if bits & 2 != 0 {
        fs::drop_unused();
    }
    machine::frame::release_kept();
    Ok(())
}

pub(super) const fn writable(name: &'static str, show: Show, set: Set) -> Item {
    Item {
        name,
        mode: 0o644,
        content: Content::Writable(show, set),
    }
}

/// A setting that only root reads and writes, as Linux has those of what is protected in shared directories.
const fn protection(name: &'static str, show: Show, set: Set) -> Item {
    Item {
        name,
        mode: 0o600,
        content: Content::Writable(show, set),
    }
}

/// Takes a level from 0 to `most`.
fn set_level(level: &AtomicU32, most: u32, from: &[u8]) -> Result<()> {
    let new = u32::try_from(number(from)?).map_err(|_| Errno::EINVAL)?;
    if new > most {
        return Err(Errno::EINVAL);
    }
    level.store(new, Relaxed);
    Ok(())
}

pub(super) fn line(value: impl Display, to: &mut Text) -> Result<()> {
    Ok(writeln!(to, "{value}")?)
}

/// The number that was given last in the reader's PID namespace.
fn last_pid(_: &Scope, to: &mut Text) -> Result<()> {
    let namespace = own_pids();
    let last = namespace.last_number(&tree::lock());
    line(last, to)
}

/// As checkpoints restore ids: the next one is given behind it.
fn set_last_pid(_: &Scope, from: &[u8]) -> Result<()> {
    let namespace = own_pids();
    let is_allowed = thread::current().is_none_or(|caller| {
        let (credentials, owner) = (caller.credentials(), namespace.owner());
        credentials.ns_capable(&owner, fs::Capabilities::SYS_ADMIN)
            || credentials.ns_capable(&owner, fs::Capabilities::CHECKPOINT_RESTORE)
    });
    if !is_allowed {
        return Err(Errno::EPERM);
    }
    let last = PidNumber::try_from(number(from)?).map_err(|_| Errno::EINVAL)?;
    if last >= PID_MAX {
        return Err(Errno::EINVAL);
    }
    namespace.set_last_number(&mut tree::lock(), last);
    Ok(())
}

fn own_pids() -> PidNamespace {
    thread::current().map_or(PidNamespace::INITIAL, |reader| {
        reader.process().pid_namespace().clone()
    })
}

fn name(name: Name, to: &mut Text) -> Result<()> {
    to.push(name.as_bytes())?;
    to.push(b"\n")
}

pub(super) fn number(from: &[u8]) -> Result<u64> {
    let text = core::str::from_utf8(from).map_err(|_| Errno::EINVAL)?;
    text.trim().parse().map_err(|_| Errno::EINVAL)
}

fn set_name(to: &[u8], set: fn(&UtsNamespace, Name)) -> Result<()> {
    let capable = thread::current().is_none_or(|caller| {
        let credentials = caller.credentials();
        credentials.ns_capable(
            namespace::current_uts().owner(),
            fs::Capabilities::SYS_ADMIN,
        )
    });
    if !capable {
        return Err(Errno::EPERM);
    }
    let end = to.iter().position(|byte| *byte == b'\n' || *byte == 0);
    let name = Name::new(&to[..end.unwrap_or(to.len())]);
    set(&namespace::current_uts(), name);
    Ok(())
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    fs::random::fill(&mut bytes);
    bytes
}

/// The same from boot to power-off.
fn boot_id() -> Uuid {
    use machine::sync::SpinLock;
    static BOOT_ID: SpinLock<Option<[u8; 16]>> = SpinLock::new(None);
    let fresh = random_bytes();
    Uuid(*BOOT_ID.lock().get_or_insert(fresh))
}

/// 16 random bytes as a random UUID (version 4).
pub(super) struct Uuid(pub(super) [u8; 16]);

impl Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

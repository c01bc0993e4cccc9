//! The table of [`FIELDS`], in the order of the specification.

use super::Field;
use super::Policy::{self, Dropped, Guest, Holds, Host, Refused};

const SYSCTL_OF_IPC: &str = "of the container's IPC namespace";

/// Every field of the specification, and what becomes of it. Values are checked where they are read.
pub const FIELDS: &[Field] = &[
    field(
        "ociVersion",
        Holds,
        "1.x; each field is decided by this table, whatever the version",
    ),
    field(
        "annotations",
        Host,
        "`dev.nacre.machine` (`kvm` or `qemu`) says what the microVM runs on; the others are for whoever made the container",
    ),
    field("hostname", Guest, "the name of the guest"),
    field("domainname", Guest, "the NIS domain name of the guest"),
    field(
        "root.path",
        Host,
        "becomes the directory that the guest has as its root",
    ),
    field("root.readonly", Guest, "a read-only mount of the root"),
    field("mounts.destination", Guest, "absolute, without `..`"),
    field(
        "mounts.type",
        Guest,
        "proc, tmpfs, devpts, devtmpfs, sysfs, mqueue, cgroup, cgroup2, bind; either name of control groups shows version 2, from the container's own group on; a container starts without sysfs, mqueue and control groups where the guest has none; other types are refused",
    ),
    field(
        "mounts.source",
        Host,
        "of a bind: bound into what the guest is served",
    ),
    field(
        "mounts.options",
        Guest,
        "flags as in mount(8), and what the file system understands; propagation other than private is refused",
    ),
    field("mounts.uidMappings", Refused, "mounts have no id mappings"),
    field("mounts.gidMappings", Refused, "mounts have no id mappings"),
    field(
        "process.terminal",
        Guest,
        "a pseudo-terminal of the container",
    ),
    field("process.consoleSize", Guest, "the terminal's first size"),
    field("process.user.uid", Guest, "setuid(2)"),
    field("process.user.gid", Guest, "setgid(2)"),
    field("process.user.umask", Guest, "umask(2)"),
    field("process.user.additionalGids", Guest, "setgroups(2)"),
    field("process.user.username", Refused, "it is for Windows"),
    field("process.args", Guest, "execve(2)"),
    field("process.env", Guest, "execve(2)"),
    field("process.cwd", Guest, "made if it is not there"),
    field("process.commandLine", Refused, "it is for Windows"),
    field(
        "process.capabilities",
        Guest,
        "the five sets of capabilities(7)",
    ),
    field("process.rlimits", Guest, "setrlimit(2)"),
    field("process.noNewPrivileges", Guest, "PR_SET_NO_NEW_PRIVS"),
    field(
        "process.oomScoreAdj",
        Guest,
        "the process's score in the guest; the microVM has the first process's on the host",
    ),
    field(
        "process.apparmorProfile",
        Refused,
        "the guest's kernel has no AppArmor",
    ),
    field(
        "process.selinuxLabel",
        Refused,
        "the guest's kernel has no SELinux",
    ),
    field(
        "process.scheduler",
        Refused,
        "scheduling policies are not set from outside",
    ),
    field(
        "process.ioPriority",
        Refused,
        "I/O priorities are not set from outside",
    ),
    field(
        "process.execCPUAffinity",
        Refused,
        "affinities are not set from outside",
    ),
    field(
        "hooks.prestart",
        Host,
        "run in the namespaces of the runtime once the microVM is there, before the program; the pid is that of the microVM",
    ),
    field("hooks.createRuntime", Host, "after prestart, likewise"),
    field(
        "hooks.createContainer",
        Refused,
        "no program of the host runs in the guest",
    ),
    field("hooks.startContainer", Refused, "no hook runs in the guest"),
    field(
        "hooks.poststart",
        Host,
        "run once the program runs; a failure is logged",
    ),
    field(
        "hooks.poststop",
        Host,
        "run once the container is deleted; a failure is logged",
    ),
    field(
        "linux.uidMappings",
        Refused,
        "user namespaces of containers are not supported",
    ),
    field(
        "linux.gidMappings",
        Refused,
        "user namespaces of containers are not supported",
    ),
    field(
        "linux.namespaces",
        Guest,
        "mount, pid, network, ipc, uts must be own ones, which a microVM is; cgroup and time may be; user, paths to join, and those of the host are refused",
    ),
    field(
        "linux.devices",
        Refused,
        "a container has the default devices only",
    ),
    field("linux.netDevices", Refused, "the guest has no network"),
    field(
        "linux.cgroupsPath",
        Host,
        "the host's cgroup of the microVM's processes, in the form of cgroupfs or of systemd (`SLICE:PREFIX:NAME`); without it `/nacre/NAMESPACE/POD`",
    ),
    field(
        "linux.resources.devices",
        Guest,
        "the guest's devices are the default ones; the machine's own terminals open for no container; a rule that denies one of the default devices is refused",
    ),
    field(
        "linux.resources.memory.limit",
        Host,
        "the memory of the microVM; its cgroup has that and what its own processes take; in the guest, memory.max of the container's control group",
    ),
    field(
        "linux.resources.memory.swap",
        Host,
        "the guest has no swap, so this holds when it is not below the limit; memory.swap.max of the control group",
    ),
    field(
        "linux.resources.memory.reservation",
        Guest,
        "memory.low of the container's control group",
    ),
    field(
        "linux.resources.memory.kernel",
        Dropped,
        "deprecated; the limit of the microVM covers its kernel",
    ),
    field(
        "linux.resources.memory.kernelTCP",
        Dropped,
        "deprecated; the limit of the microVM covers its kernel",
    ),
    field(
        "linux.resources.memory.swappiness",
        Holds,
        "the guest has no swap",
    ),
    field(
        "linux.resources.memory.disableOOMKiller",
        Refused,
        "the guest's OOM killer cannot be turned off",
    ),
    field(
        "linux.resources.memory.useHierarchy",
        Holds,
        "a microVM's memory is for all that is in it",
    ),
    field(
        "linux.resources.memory.checkBeforeUpdate",
        Holds,
        "about updates, which are refused",
    ),
    field(
        "linux.resources.cpu.shares",
        Host,
        "the weight of the pod's cgroup; a host without cgroups has none",
    ),
    field(
        "linux.resources.cpu.quota",
        Host,
        "of the pod's cgroup; there are as many virtual CPUs as it can keep busy",
    ),
    field("linux.resources.cpu.period", Host, "with the quota"),
    field(
        "linux.resources.cpu.burst",
        Refused,
        "the pod's cgroup does not have it",
    ),
    field(
        "linux.resources.cpu.realtimeRuntime",
        Refused,
        "the pod's cgroup does not have it",
    ),
    field(
        "linux.resources.cpu.realtimePeriod",
        Refused,
        "the pod's cgroup does not have it",
    ),
    field(
        "linux.resources.cpu.cpus",
        Refused,
        "virtual CPUs are not pinned",
    ),
    field(
        "linux.resources.cpu.mems",
        Refused,
        "guest memory is not pinned",
    ),
    field(
        "linux.resources.cpu.idle",
        Refused,
        "the pod's cgroup does not have it",
    ),
    field(
        "linux.resources.pids.limit",
        Guest,
        "pids.max of the container's control group; -1 and 0 are none",
    ),
    field(
        "linux.resources.blockIO",
        Refused,
        "the pod's cgroup does not have it",
    ),
    field(
        "linux.resources.hugepageLimits",
        Holds,
        "the guest has no hugetlbfs, so there are never more than any limit",
    ),
    field(
        "linux.resources.network",
        Refused,
        "the guest has no network",
    ),
    field("linux.resources.rdma", Refused, "the guest has no RDMA"),
    field(
        "linux.resources.unified",
        Guest,
        "of the container's control group: memory.max, high, low, min, oom.group, swap.max, swap.high and pids.max; others are refused",
    ),
    field(
        "linux.intelRdt",
        Refused,
        "caches and bandwidths are not divided",
    ),
    field(
        "linux.rootfsPropagation",
        Holds,
        "private; any other is refused",
    ),
    field(
        "linux.maskedPaths",
        Guest,
        "covered before the program starts",
    ),
    field(
        "linux.readonlyPaths",
        Guest,
        "mounted read-only before the program starts",
    ),
    field(
        "linux.mountLabel",
        Refused,
        "the guest's kernel has no SELinux",
    ),
    field(
        "linux.seccomp",
        Guest,
        "a filter program for the guest's kernel, of the first process and of execs; the calls are x86-64's, names that it does not have are left out as runc does; SCMP_ACT_NOTIFY is refused by name",
    ),
    field(
        "linux.seccomp.listenerPath",
        Refused,
        "a program of the host cannot decide about calls of the guest",
    ),
    field(
        "linux.seccomp.listenerMetadata",
        Refused,
        "it is for the program at listenerPath",
    ),
    field(
        "linux.sysctl",
        Refused,
        "only those of namespaces are set from outside",
    ),
    field("linux.sysctl.kernel.msgmax", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.msgmnb", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.msgmni", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.sem", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.shm_rmid_forced", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.shmall", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.shmmax", Guest, SYSCTL_OF_IPC),
    field("linux.sysctl.kernel.shmmni", Guest, SYSCTL_OF_IPC),
    field(
        "linux.sysctl.net",
        Dropped,
        "the guest has no network that it could be about",
    ),
    field(
        "linux.personality",
        Refused,
        "the guest runs 64-bit programs of Linux",
    ),
    field(
        "linux.timeOffsets",
        Refused,
        "time namespaces are not supported",
    ),
    field("linux.memoryPolicy", Refused, "guest memory is not pinned"),
    field("solaris", Refused, "it is for another system"),
    field("windows", Refused, "it is for another system"),
    field("vm", Refused, "a microVM is made by this runtime alone"),
    field("zos", Refused, "it is for another system"),
    field("freebsd", Refused, "it is for another system"),
];

const fn field(path: &'static str, policy: Policy, note: &'static str) -> Field {
    Field { path, policy, note }
}

//! Credentials: who asks. Defined here because every permission check in this layer needs them;
//! owned and changed by the `process` layer (set*id, capset, exec). Never changed in place: a
//! thread replaces its `Arc<Credentials>`, so that an open file keeps those it was opened with.

use alloc::sync::Arc;

bitflags::bitflags! {
    /// A set of capabilities, bit numbers as in capabilities(7).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[allow(missing_docs, reason = "capabilities(7) documents each name")]
    pub struct Capabilities: u64 {
        const CHOWN = 1 << 0;
        const DAC_OVERRIDE = 1 << 1;
        const DAC_READ_SEARCH = 1 << 2;
        const FOWNER = 1 << 3;
        const FSETID = 1 << 4;
        const KILL = 1 << 5;
        const SETGID = 1 << 6;
        const SETUID = 1 << 7;
        const SETPCAP = 1 << 8;
        const LINUX_IMMUTABLE = 1 << 9;
        const NET_BIND_SERVICE = 1 << 10;
        const NET_BROADCAST = 1 << 11;
        const NET_ADMIN = 1 << 12;
        const NET_RAW = 1 << 13;
        const IPC_LOCK = 1 << 14;
        const IPC_OWNER = 1 << 15;
        const SYS_MODULE = 1 << 16;
        const SYS_RAWIO = 1 << 17;
        const SYS_CHROOT = 1 << 18;
        const SYS_PTRACE = 1 << 19;
        const SYS_PACCT = 1 << 20;
        const SYS_ADMIN = 1 << 21;
        const SYS_BOOT = 1 << 22;
        const SYS_NICE = 1 << 23;
        const SYS_RESOURCE = 1 << 24;
        const SYS_TIME = 1 << 25;
        const SYS_TTY_CONFIG = 1 << 26;
        const MKNOD = 1 << 27;
        const LEASE = 1 << 28;
        const AUDIT_WRITE = 1 << 29;
        const AUDIT_CONTROL = 1 << 30;
        const SETFCAP = 1 << 31;
        const MAC_OVERRIDE = 1 << 32;
        const MAC_ADMIN = 1 << 33;
        const SYSLOG = 1 << 34;
        const WAKE_ALARM = 1 << 35;
        const BLOCK_SUSPEND = 1 << 36;
        const AUDIT_READ = 1 << 37;
        const PERFMON = 1 << 38;
        const BPF = 1 << 39;
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

/// The identity and privileges of a thread (credentials(7), capabilities(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "credentials(7) and capabilities(7) document each name")]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    /// Supplementary groups, sorted.
    pub groups: Arc<[u32]>,
    pub permitted: Capabilities,
    pub effective: Capabilities,
    pub inheritable: Capabilities,
    pub bounding: Capabilities,
    pub ambient: Capabilities,
    /// `SECBIT_*` of prctl(2).
    pub securebits: u32,
}

impl Credentials {
    /// User 0 with every capability: what PID 1 starts with, and what the kernel's own work uses.
    #[must_use]
    pub fn root() -> Self {
        Self {
            permitted: Capabilities::all(),
            effective: Capabilities::all(),
            bounding: Capabilities::all(),
            ..Self::user(0, 0)
        }
    }

    /// An unprivileged user, without supplementary groups.
    #[must_use]
    pub fn user(uid: u32, gid: u32) -> Self {
        Self {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: Arc::from([]),
            permitted: Capabilities::empty(),
            effective: Capabilities::empty(),
            inheritable: Capabilities::empty(),
            bounding: Capabilities::empty(),
            ambient: Capabilities::empty(),
            securebits: 0,
        }
    }

    /// Whether all of `wanted` are in the effective set.
    #[must_use]
    pub fn has(&self, wanted: Capabilities) -> bool {
        self.effective.contains(wanted)
    }

    /// Whether `gid` is the file-system group or a supplementary one.
    #[must_use]
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }
}

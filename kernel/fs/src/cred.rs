//! Credentials: who asks. Defined here because every permission check in this layer needs them;
//! owned and changed by the `process` layer (set*id, capset, exec). Never changed in place: a
//! thread replaces its `Arc<Credentials>`, so that an open file keeps those it was opened with.

use alloc::sync::Arc;

use crate::metadata::Metadata;
use crate::user_namespace::{Kgid, Kuid, UserNamespace};

bitflags::bitflags! {
    /// A set of capabilities, bit numbers as in capabilities(7).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Capabilities: u64 {
        /// `CAP_CHOWN`.
        const CHOWN = 1 << 0;
        /// `CAP_DAC_OVERRIDE`.
        const DAC_OVERRIDE = 1 << 1;
        /// `CAP_DAC_READ_SEARCH`.
        const DAC_READ_SEARCH = 1 << 2;
        /// `CAP_FOWNER`.
        const FOWNER = 1 << 3;
        /// `CAP_FSETID`.
        const FSETID = 1 << 4;
        /// `CAP_KILL`.
        const KILL = 1 << 5;
        /// `CAP_SETGID`.
        const SETGID = 1 << 6;
        /// `CAP_SETUID`.
        const SETUID = 1 << 7;
        /// `CAP_SETPCAP`.
        const SETPCAP = 1 << 8;
        /// `CAP_LINUX_IMMUTABLE`.
        const LINUX_IMMUTABLE = 1 << 9;
        /// `CAP_NET_BIND_SERVICE`.
        const NET_BIND_SERVICE = 1 << 10;
        /// `CAP_NET_BROADCAST`.
        const NET_BROADCAST = 1 << 11;
        /// `CAP_NET_ADMIN`.
        const NET_ADMIN = 1 << 12;
        /// `CAP_NET_RAW`.
        const NET_RAW = 1 << 13;
        /// `CAP_IPC_LOCK`.
        const IPC_LOCK = 1 << 14;
        /// `CAP_IPC_OWNER`.
        const IPC_OWNER = 1 << 15;
        /// `CAP_SYS_MODULE`.
        const SYS_MODULE = 1 << 16;
        /// `CAP_SYS_RAWIO`.
        const SYS_RAWIO = 1 << 17;
        /// `CAP_SYS_CHROOT`.
        const SYS_CHROOT = 1 << 18;
        /// `CAP_SYS_PTRACE`.
        const SYS_PTRACE = 1 << 19;
        /// `CAP_SYS_PACCT`.
        const SYS_PACCT = 1 << 20;
        /// `CAP_SYS_ADMIN`.
        const SYS_ADMIN = 1 << 21;
        /// `CAP_SYS_BOOT`.
        const SYS_BOOT = 1 << 22;
        /// `CAP_SYS_NICE`.
        const SYS_NICE = 1 << 23;
        /// `CAP_SYS_RESOURCE`.
        const SYS_RESOURCE = 1 << 24;
        /// `CAP_SYS_TIME`.
        const SYS_TIME = 1 << 25;
        /// `CAP_SYS_TTY_CONFIG`.
        const SYS_TTY_CONFIG = 1 << 26;
        /// `CAP_MKNOD`.
        const MKNOD = 1 << 27;
        /// `CAP_LEASE`.
        const LEASE = 1 << 28;
        /// `CAP_AUDIT_WRITE`.
        const AUDIT_WRITE = 1 << 29;
        /// `CAP_AUDIT_CONTROL`.
        const AUDIT_CONTROL = 1 << 30;
        /// `CAP_SETFCAP`.
        const SETFCAP = 1 << 31;
        /// `CAP_MAC_OVERRIDE`.
        const MAC_OVERRIDE = 1 << 32;
        /// `CAP_MAC_ADMIN`.
        const MAC_ADMIN = 1 << 33;
        /// `CAP_SYSLOG`.
        const SYSLOG = 1 << 34;
        /// `CAP_WAKE_ALARM`.
        const WAKE_ALARM = 1 << 35;
        /// `CAP_BLOCK_SUSPEND`.
        const BLOCK_SUSPEND = 1 << 36;
        /// `CAP_AUDIT_READ`.
        const AUDIT_READ = 1 << 37;
        /// `CAP_PERFMON`.
        const PERFMON = 1 << 38;
        /// `CAP_BPF`.
        const BPF = 1 << 39;
        /// `CAP_CHECKPOINT_RESTORE`.
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

/// The identity and privileges of a thread (credentials(7), capabilities(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "credentials(7) and capabilities(7) document each name"
)]
pub struct Credentials {
    pub uid: Kuid,
    pub euid: Kuid,
    pub suid: Kuid,
    pub fsuid: Kuid,
    pub gid: Kgid,
    pub egid: Kgid,
    pub sgid: Kgid,
    pub fsgid: Kgid,
    /// Supplementary groups, sorted.
    pub groups: Arc<[Kgid]>,
    pub permitted: Capabilities,
    pub effective: Capabilities,
    pub inheritable: Capabilities,
    pub bounding: Capabilities,
    pub ambient: Capabilities,
    /// `SECBIT_*` of prctl(2).
    pub securebits: u32,
    /// Where its capabilities are had, and its ids have numbers.
    pub user_namespace: UserNamespace,
}

/// No supplementary groups. The one that all share is made at start-up, for PID 1.
fn no_groups() -> Arc<[Kgid]> {
    static NONE: spin::Once<Arc<[Kgid]>> = spin::Once::new();
    // infallible: start-up
    NONE.call_once(|| Arc::from([])).clone()
}

impl Credentials {
    /// User 0 with every capability: what PID 1 starts with, and what the kernel's own work uses.
    #[must_use]
    pub fn root() -> Self {
        Self {
            permitted: Capabilities::all(),
            effective: Capabilities::all(),
            bounding: Capabilities::all(),
            ..Self::of_ids(Kuid::ROOT, Kgid::ROOT)
        }
    }

    /// An unprivileged user by the numbers of the initial user namespace, without supplementary groups.
    #[must_use]
    pub fn user(uid: u32, gid: u32) -> Self {
        let initial = UserNamespace::INITIAL;
        Self::of_ids(
            initial.kuid(uid).unwrap_or(Kuid::INVALID),
            initial.kgid(gid).unwrap_or(Kgid::INVALID),
        )
    }

    fn of_ids(uid: Kuid, gid: Kgid) -> Self {
        Self {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: no_groups(),
            permitted: Capabilities::empty(),
            effective: Capabilities::empty(),
            inheritable: Capabilities::empty(),
            bounding: Capabilities::empty(),
            ambient: Capabilities::empty(),
            securebits: 0,
            user_namespace: UserNamespace::INITIAL,
        }
    }

    /// Whether it has all of `wanted` in the initial user namespace, which owns what belongs to no other
    /// (Linux's `capable`).
    #[must_use]
    pub fn capable(&self, wanted: Capabilities) -> bool {
        self.ns_capable(&UserNamespace::INITIAL, wanted)
    }

    /// Whether it has all of `wanted` in `target`, the user namespace that owns what is asked about: by its effective
    /// set in its own namespace, and all in those that its user has made below that.
    #[must_use]
    pub fn ns_capable(&self, target: &UserNamespace, wanted: Capabilities) -> bool {
        let own = &self.user_namespace;
        let mut at = target;
        loop {
            if at == own {
                return self.effective.contains(wanted);
            }
            let Some(above) = at.parent().filter(|_| at.level() > own.level()) else {
                return false;
            };
            if above == own && at.owner() == self.euid {
                return true;
            }
            at = above;
        }
    }

    /// Whether it has all of `wanted` in its own user namespace, for what is its own affair.
    #[must_use]
    pub fn own_ns_capable(&self, wanted: Capabilities) -> bool {
        self.effective.contains(wanted)
    }

    /// Whether it has all of `wanted` over a file: its user namespace must know the owner and the group
    /// (`capable_wrt_inode_uidgid`).
    #[must_use]
    pub fn capable_over(&self, meta: &Metadata, wanted: Capabilities) -> bool {
        let own = &self.user_namespace;
        self.effective.contains(wanted)
            && own.uid(meta.uid).is_some()
            && own.gid(meta.gid).is_some()
    }

    /// As [`Self::capable_over`] for any file, without a look at it: where every id has a number.
    #[must_use]
    pub fn capable_over_all(&self, wanted: Capabilities) -> bool {
        self.user_namespace == UserNamespace::INITIAL && self.effective.contains(wanted)
    }

    /// Whether `gid` is the file-system group or a supplementary one.
    #[must_use]
    pub fn in_group(&self, gid: Kgid) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }
}

//! What a thread asks of the scheduler: policy, nice value, real-time priority, allowed CPUs
//! (sched(7)). Data only; [`crate::run_queue`] turns it into an order.

use abi::{Errno, Result};

/// A scheduling policy of sched(7). `SCHED_DEADLINE` is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// `SCHED_OTHER`: fair share by nice value.
    #[default]
    Other,
    /// `SCHED_BATCH`: fair share, never preempts on wake-up.
    Batch,
    /// `SCHED_IDLE`: the smallest share there is.
    Idle,
    /// `SCHED_FIFO`: runs until it blocks or yields, ahead of all fair threads.
    Fifo,
    /// `SCHED_RR`: as FIFO, in turns with its equals.
    RoundRobin,
}

impl Policy {
    /// From the number of sched_setscheduler(2).
    ///
    /// # Errors
    /// `EINVAL` for a policy that is not supported.
    pub const fn from_raw(raw: u32) -> Result<Policy> {
        match raw {
            0 => Ok(Policy::Other),
            1 => Ok(Policy::Fifo),
            2 => Ok(Policy::RoundRobin),
            3 => Ok(Policy::Batch),
            5 => Ok(Policy::Idle),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The number of sched_setscheduler(2).
    #[must_use]
    pub const fn to_raw(self) -> u32 {
        match self {
            Policy::Other => 0,
            Policy::Fifo => 1,
            Policy::RoundRobin => 2,
            Policy::Batch => 3,
            Policy::Idle => 5,
        }
    }

    /// Whether it is one of the two real-time policies.
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        matches!(self, Policy::Fifo | Policy::RoundRobin)
    }
}

/// The scheduling attributes of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The policy.
    pub policy: Policy,
    /// Nice value, -20 to 19; used by the fair policies.
    pub nice: i8,
    /// Real-time priority: 1 to 99 for FIFO and RR, 0 for the others.
    pub priority: u8,
    /// `SCHED_RESET_ON_FORK`: children start with the default.
    pub reset_on_fork: bool,
}

impl Attributes {
    /// Checks that priority and nice value fit the policy.
    ///
    /// # Errors
    /// `EINVAL` when they do not.
    pub const fn validate(self) -> Result<Attributes> {
        let priority_fits = if self.policy.is_realtime() {
            self.priority >= 1 && self.priority <= 99
        } else {
            self.priority == 0
        };
        if priority_fits && self.nice >= -20 && self.nice <= 19 {
            Ok(self)
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// What a child of a thread with these attributes starts with.
    #[must_use]
    pub fn for_child(self) -> Attributes {
        if !self.reset_on_fork {
            return self;
        }
        Attributes {
            nice: self.nice.max(0),
            ..Attributes::default()
        }
    }
}

/// A set of CPUs, one bit each (`machine::cpu::MAX_CPUS` is 64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMask(pub u64);

impl CpuMask {
    /// Every CPU there could be.
    pub const ALL: CpuMask = CpuMask(u64::MAX);

    /// Only `cpu`.
    #[must_use]
    pub const fn only(cpu: usize) -> CpuMask {
        CpuMask(1 << cpu)
    }

    /// The CPUs that run.
    #[must_use]
    pub fn online() -> CpuMask {
        CpuMask(u64::MAX >> (64 - machine::cpu::count().clamp(1, 64)))
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    pub const fn contains(self, cpu: usize) -> bool {
        cpu < 64 && self.0 >> cpu & 1 == 1
    }

    /// The CPUs in both.
    #[must_use]
    pub const fn and(self, other: CpuMask) -> CpuMask {
        CpuMask(self.0 & other.0)
    }

    /// Whether none is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

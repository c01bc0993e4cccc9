//! What a thread, a process and its children have used: CPU time, faults, switches.

use sched::stats::CpuTime;

/// Sums for getrusage(2), wait4(2), times(2) and /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in user mode, in nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Page faults that needed no input.
    pub minor_faults: u64,
    /// Page faults that needed input.
    pub major_faults: u64,
    /// Times it gave the CPU away by blocking.
    pub voluntary_switches: u64,
    /// Times it was made to give way.
    pub involuntary_switches: u64,
    /// The largest resident set, in bytes.
    pub max_resident: u64,
}

impl Usage {
    /// With `other` added; the resident set is the larger one.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user_ns: self.user_ns + other.user_ns,
            system_ns: self.system_ns + other.system_ns,
            minor_faults: self.minor_faults + other.minor_faults,
            major_faults: self.major_faults + other.major_faults,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
            max_resident: self.max_resident.max(other.max_resident),
        }
    }

    /// CPU time alone.
    #[must_use]
    pub fn of_cpu(time: CpuTime) -> Usage {
        Usage {
            user_ns: time.user_ns,
            system_ns: time.system_ns,
            ..Usage::default()
        }
    }

    /// User and system time together, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns
    }
}

/// Nanoseconds in clock ticks of user space (`USER_HZ` is 100).
#[must_use]
pub const fn ticks(ns: u64) -> u64 {
    ns / 10_000_000
}

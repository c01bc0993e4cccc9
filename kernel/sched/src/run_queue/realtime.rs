//! The share of a CPU that real-time threads may take from the others: 95% of each second, as Linux has it
//! (sched(7), "Limiting the CPU usage of real-time and deadline processes"). Without it a real-time thread that
//! never blocks would stop its CPU for all others, those that could end it among them.
//!
//! Guarded by the CPU's queue lock, as the queue it belongs to.

/// How often the time begins anew (`/proc/sys/kernel/sched_rt_period_us`), in nanoseconds.
pub const PERIOD_NS: u64 = 1_000_000_000;
/// What real-time threads may use of a period while others wait (`sched_rt_runtime_us`), in nanoseconds.
pub const RUNTIME_NS: u64 = 950_000_000;

/// What the real-time threads of one CPU have used of this period.
#[derive(Debug)]
pub(super) struct RealtimeUse {
    began_ns: u64,
    used_ns: u64,
}

impl RealtimeUse {
    pub(super) const fn new() -> Self {
        Self {
            began_ns: 0,
            used_ns: 0,
        }
    }

    /// The time is `now_ns`: a new period may have begun.
    pub(super) fn pass(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.began_ns);
        if passed >= PERIOD_NS {
            self.began_ns = now_ns - passed % PERIOD_NS;
            self.used_ns = 0;
        }
    }

    /// A real-time thread has run for `ran_ns` until `now_ns`: what was before this period does not count.
    pub(super) fn book(&mut self, ran_ns: u64, now_ns: u64) {
        self.pass(now_ns);
        self.used_ns += ran_ns.min(now_ns.saturating_sub(self.began_ns));
    }

    /// Whether the others are first until the period ends.
    pub(super) const fn is_spent(&self) -> bool {
        self.used_ns >= RUNTIME_NS
    }

    /// What is left.
    pub(super) const fn left_ns(&self) -> u64 {
        RUNTIME_NS.saturating_sub(self.used_ns)
    }
}

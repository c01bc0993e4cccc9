//! The clocks that timers follow, as they stand now.

use super::state::TimerClock;
use crate::task::process::Process;
use crate::usage::Usage;

impl TimerClock {
    /// What the clock shows that due times are kept on: the monotonic one, or CPU time.
    pub(super) fn now(self, process: &Process) -> u64 {
        let TimerClock::Cpu { thread, user_only } = self else {
            return sched::clock::monotonic_ns();
        };
        let usage = match thread {
            None => process.cpu_usage(),
            Some(place) => process
                .thread_at(place)
                .map_or_else(Usage::default, |thread| thread.usage()),
        };
        if user_only {
            usage.user_ns
        } else {
            usage.cpu_ns()
        }
    }
}

/// User time and all CPU time of a process.
pub(super) type Clocks = [u64; 2];

pub(super) fn clocks_of(process: &Process) -> Clocks {
    let usage = process.cpu_usage();
    [usage.user_ns, usage.cpu_ns()]
}

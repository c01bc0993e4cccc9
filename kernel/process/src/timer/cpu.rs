//! Timers and limits on CPU time: ITIMER_VIRTUAL, ITIMER_PROF, RLIMIT_CPU.

use alloc::sync::Arc;

use super::agenda::{self, Due};
use crate::Process;
use crate::rlimit::{INFINITY, Resource};
use crate::signal::{SigInfo, Signal, send};

const SECOND_NS: u64 = 1_000_000_000;
/// Never look more often than this.
pub(super) const SHORTEST_NS: u64 = 4_000_000;

/// Looks at the process's CPU timers from now on, as long as one is armed.
pub(super) fn watch(process: &Arc<Process>) {
    let mut state = process.timers.0.lock();
    let already = core::mem::replace(&mut state.cpu_watched, true);
    drop(state);
    if !already {
        schedule(process, SHORTEST_NS);
    }
}

/// RLIMIT_CPU was set or inherited.
pub fn watch_cpu_limit(process: &Arc<Process>) {
    if process.limits().soft(Resource::Cpu) != INFINITY {
        watch(process);
    }
}

fn schedule(process: &Arc<Process>, after_ns: u64) {
    let deadline = sched::clock::monotonic_ns().saturating_add(after_ns);
    let mut state = process.timers.0.lock();
    state.cpu_entry = agenda::replace(state.cpu_entry, process, Due::Cpu, Some(deadline));
}

pub(super) fn look_at(process: &Arc<Process>) {
    let usage = process.cpu_usage();
    let clocks = [usage.user_ns, usage.cpu_ns()];
    let threads = process.thread_count().max(1) as u64;
    let limit = process.limits().get(Resource::Cpu);

    let mut state = process.timers.0.lock();
    let expired: [bool; 2] = core::array::from_fn(|i| state.cpu[i].expire(clocks[i]) > 0);
    let over = limit_signal(&mut state.cpu_limit_next, limit, clocks[1] / SECOND_NS);
    let timers = state.cpu.iter().zip(clocks);
    let timer_left = timers.filter_map(|(timer, now)| Some(timer.due_ns?.saturating_sub(now)));
    let limit_left = (limit.soft != INFINITY).then(|| {
        let due = limit
            .soft
            .max(state.cpu_limit_next)
            .saturating_mul(SECOND_NS);
        due.saturating_sub(clocks[1])
    });
    let left = timer_left.chain(limit_left).min();
    state.cpu_watched = left.is_some();
    drop(state);

    let signals = [
        expired[0].then_some(Signal::VTALRM),
        expired[1].then_some(Signal::PROF),
        over,
    ];
    for signal in signals.into_iter().flatten() {
        // Standard signals always find room.
        let _ = send::to_process(process, &SigInfo::kernel(signal));
    }
    if let Some(left) = left {
        schedule(process, (left / threads).max(SHORTEST_NS));
    }
}

/// SIGXCPU at the soft limit and each second from then on, SIGKILL at the hard one.
fn limit_signal(next: &mut u64, limit: crate::rlimit::Limit, used_s: u64) -> Option<Signal> {
    if limit.hard != INFINITY && used_s >= limit.hard {
        return Some(Signal::KILL);
    }
    if limit.soft == INFINITY || used_s < limit.soft.max(*next) {
        return None;
    }
    *next = used_s + 1;
    Some(Signal::XCPU)
}

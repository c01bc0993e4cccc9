//! Timers and limits on CPU time: ITIMER_VIRTUAL, ITIMER_PROF, RLIMIT_CPU, timer_create(2) on CPU clocks.
//!
//! No clock of the machine counts CPU time, so what runs looks at itself: each thread of a process that has such a
//! timer has an alarm of the scheduler's ([`sched::Thread::set_run_alarm`]) for when something may be due at the
//! earliest. The alarm rings in interrupt context and marks the thread, which looks on its way to user mode
//! ([`look`]), sends what is due, and sets its next [`alarm`].

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use sched::ThreadRef;

use super::alarm::{self, SECOND_NS};
use super::clock::clocks_of;
use super::posix;
use crate::rlimit::{INFINITY, Limit, Limits, Resource};
use crate::signal::info::SigInfo;
use crate::signal::number::Signal;
use crate::signal::send;
use crate::task::thread::Thread;

/// What the scheduler calls when a thread's alarm rings, in interrupt context.
pub(super) fn ring(kernel: &ThreadRef) {
    let thread = kernel
        .extension()
        .and_then(|thread| thread.downcast_ref::<Thread>());
    if let Some(thread) = thread {
        alarm::raise(thread);
    }
}

/// Looks at the timers on CPU time if the calling thread's alarm has rung; whether it had.
pub(crate) fn look_if_due(thread: &Arc<Thread>) -> bool {
    // The alarm rings on the thread's own CPU, so this sees it.
    if !thread.cpu_alarm.load(Ordering::Relaxed) {
        return false;
    }
    thread.cpu_alarm.store(false, Ordering::Relaxed);
    look(thread);
    true
}

/// Sends what is due by now, and sets the calling thread's next alarm.
fn look(thread: &Arc<Thread>) {
    let process = thread.process();
    let clocks = clocks_of(process);
    let limit = process.limits().get(Resource::Cpu);
    let expired: [bool; 2] = {
        let mut state = process.timers.state.lock();
        core::array::from_fn(|i| state.cpu[i].expire(clocks[i]) > 0)
    };
    let signals = [
        expired[0].then_some(Signal::VTALRM),
        expired[1].then_some(Signal::PROF),
        limit_signal(process.limits(), limit, clocks[1] / SECOND_NS),
    ];
    for signal in signals.into_iter().flatten() {
        // Standard signals always find room.
        let _ = send::to_process_by(thread, &SigInfo::kernel(signal));
    }
    let mut next = posix::next_on_cpu(process, 0, thread.place());
    while let Some(id) = next {
        posix::look_at(process, id);
        sched::cond_resched();
        next = posix::next_on_cpu(process, id.saturating_add(1), thread.place());
    }
    alarm::set_alarm(thread);
}

/// SIGXCPU at the soft limit, which moves up a second each time; SIGKILL at the hard one.
///
/// `limit` was read before: threads on several CPUs may have found the same one passed. The one that moves it sends.
/// Where somebody has set another limit meanwhile nothing is sent, and the alarm, which follows the new one, looks again.
fn limit_signal(limits: &Limits, limit: Limit, used_s: u64) -> Option<Signal> {
    if limit.hard != INFINITY && used_s >= limit.hard {
        return Some(Signal::KILL);
    }
    if limit.soft == INFINITY || used_s < limit.soft {
        return None;
    }
    let next = Limit {
        soft: limit.soft + 1,
        ..limit
    };
    let moved = limits.replace_if(Resource::Cpu, limit, next);
    moved.then_some(Signal::XCPU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_past_the_soft_limit_is_told_once() {
        let limits = Limits::default();
        let limit = Limit { soft: 1, hard: 3 };
        limits.set(Resource::Cpu, limit, true).expect("allowed");
        assert_eq!(limit_signal(&limits, limit, 0), None);
        // Two CPUs have read the limit before either looks.
        assert_eq!(limit_signal(&limits, limit, 1), Some(Signal::XCPU));
        assert_eq!(limit_signal(&limits, limit, 1), None);
        let limit = limits.get(Resource::Cpu);
        assert_eq!(limit.soft, 2);
        assert_eq!(limit_signal(&limits, limit, 1), None);
        assert_eq!(limit_signal(&limits, limit, 2), Some(Signal::XCPU));
        assert_eq!(limit_signal(&limits, limit, 3), Some(Signal::KILL));
    }
}

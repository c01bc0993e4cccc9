//! Timers and limits on CPU time: ITIMER_VIRTUAL, ITIMER_PROF, RLIMIT_CPU, timer_create(2) on CPU clocks.
//!
//! No clock of the machine counts CPU time, so what runs looks at itself: each thread of a process that has such a
//! timer has an alarm of the scheduler's ([`sched::Thread::set_run_alarm`]) for when something may be due at the
//! earliest. The alarm rings in interrupt context and marks the thread, which looks on its way to user mode
//! ([`look`]), sends what is due, and sets its next alarm.
//!
//! What is left on a process's clock is divided by the threads, as all may run at once. A thread that was away may
//! have an alarm from when more was left, so with several threads none is further off than [`TICK_NS`].
//!
//! A thread sets its own alarm anew with the timers locked; others only ever bring it forward, after they have
//! changed the timers. So whatever order the two come in, the alarm is early enough.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use sched::ThreadRef;

use super::posix::TimerClock;
use super::{State, posix};
use crate::Process;
use crate::rlimit::{INFINITY, Limit, Limits, Resource};
use crate::signal::{SigInfo, Signal, send};
use crate::thread::Thread;

const SECOND_NS: u64 = 1_000_000_000;
/// Never look more often than this.
const SHORTEST_NS: u64 = 1_000_000;
/// With several threads, look at least this often.
const TICK_NS: u64 = 10_000_000;

/// What the scheduler calls when a thread's alarm rings, in interrupt context.
pub(super) fn ring(kernel: &ThreadRef) {
    let thread = kernel
        .extension()
        .and_then(|thread| thread.downcast_ref::<Thread>());
    if let Some(thread) = thread {
        raise(thread);
    }
}

/// Has the thread, which runs, look before it runs user code again.
pub(super) fn raise(thread: &Thread) {
    thread.cpu_alarm.store(true, Ordering::SeqCst);
    // Behind the mark: whoever finds no attention to be due looks at the mark afterwards.
    thread.attention.store(true, Ordering::SeqCst);
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

/// RLIMIT_CPU was set or inherited.
pub fn watch_cpu_limit(process: &Arc<Process>) {
    if process.limits().soft(Resource::Cpu) != INFINITY {
        arm(process);
    }
}

/// A timer of the process's clock, or its limit, is new: brings the alarms of its threads forward as far as it
/// takes.
pub(super) fn arm(process: &Arc<Process>) {
    let clocks = clocks_of(process);
    let count = process.thread_count();
    let left = {
        let state = process.timers.state.lock();
        process.timers.watches_cpu.store(true, Ordering::SeqCst);
        process_left(process, &state, clocks)
    };
    let Some(left) = left else { return };
    let share = share_of(left, count);
    let state = process.signals.lock();
    for thread in state.threads.iter() {
        bring_forward(thread, share);
    }
}

/// A timer on `clock` is new, due at `due_ns` of it.
pub(super) fn arm_for(process: &Arc<Process>, clock: TimerClock, due_ns: u64) {
    match clock {
        TimerClock::Cpu {
            thread: Some(place),
            ..
        } => {
            if let Some(thread) = process.thread_at(place) {
                bring_forward(&thread, due_ns.saturating_sub(clock.now(process)));
            }
        }
        TimerClock::Cpu { thread: None, .. } => arm(process),
        TimerClock::Realtime | TimerClock::Monotonic => {}
    }
}

/// `child` is a new thread that `parent` has made, perhaps the first of a process: if that has timers on CPU time,
/// it looks soon, and so does the parent, as there is one more thread to divide by.
pub(crate) fn thread_joins(parent: &Thread, child: &Thread) {
    let process = child.process();
    if !process.timers.watches_cpu.load(Ordering::SeqCst) {
        return;
    }
    bring_forward(child, TICK_NS);
    if Arc::ptr_eq(process, parent.process()) {
        bring_forward(parent, TICK_NS);
    }
}

fn bring_forward(thread: &Thread, left_ns: u64) {
    if let Some(kernel) = thread.kernel() {
        let at_ns = thread.usage().cpu_ns().saturating_add(left_ns);
        kernel.bring_run_alarm_forward(at_ns);
    }
}

/// User time and all CPU time of a process.
type Clocks = [u64; 2];

fn clocks_of(process: &Process) -> Clocks {
    let usage = process.cpu_usage();
    [usage.user_ns, usage.cpu_ns()]
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
    set_alarm(thread);
}

/// Sets the alarm of the calling thread for whatever its timers and its process's need.
fn set_alarm(thread: &Arc<Thread>) {
    let process = thread.process();
    let clocks = clocks_of(process);
    let count = process.thread_count();
    let usage = thread.usage();
    let own = [usage.user_ns, usage.cpu_ns()];
    let Some(kernel) = thread.kernel() else {
        return;
    };
    let place = Some(thread.place());
    let state = process.timers.state.lock();
    let by_process = process_left(process, &state, clocks);
    let is_watched = by_process.is_some();
    process
        .timers
        .watches_cpu
        .store(is_watched, Ordering::SeqCst);
    let by_process = by_process.map(|left| share_of(left, count));
    let by_thread = posix::least_left(&state, place, own);
    let left = by_process.into_iter().chain(by_thread).min();
    let at_ns = left.map(|left| own[1].saturating_add(left.max(SHORTEST_NS)));
    kernel.set_run_alarm(at_ns);
}

/// How far off the first of what follows the process's clocks is, if there is something.
fn process_left(process: &Process, state: &State, clocks: Clocks) -> Option<u64> {
    let timers = state.cpu.iter().zip(clocks);
    let by_timer = timers.filter_map(|(timer, now)| Some(timer.due_ns?.saturating_sub(now)));
    // Read with the timers locked, see above.
    let limit = process.limits().soft(Resource::Cpu);
    let by_limit = (limit != INFINITY).then(|| {
        let due = limit.saturating_mul(SECOND_NS);
        due.saturating_sub(clocks[1])
    });
    let by_posix = posix::least_left(state, None, clocks);
    by_timer.chain(by_limit).chain(by_posix).min()
}

/// How long one of `count` threads may run before `left_ns` may have passed on the clock of them all.
pub(super) fn share_of(left_ns: u64, count: usize) -> u64 {
    if count <= 1 {
        return left_ns;
    }
    (left_ns / count as u64).clamp(SHORTEST_NS, TICK_NS)
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

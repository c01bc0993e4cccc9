//! The alarms of threads that timers on CPU time need: when each is to look at them ([`super::cpu`]) at the latest.
//!
//! What is left on a process's clock is divided by the threads, as all may run at once. A thread that was away may
//! have an alarm from when more was left, so with several threads none is further off than [`TICK_NS`].
//!
//! A thread sets its own alarm anew with the timers locked; others only ever bring it forward, after they have
//! changed the timers. So whatever order the two come in, the alarm is early enough.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::clock::{Clocks, clocks_of};
use super::state::{State, TimerClock, least_left};
use crate::rlimit::{INFINITY, Resource};
use crate::task::process::Process;
use crate::task::thread::Thread;

/// Nanoseconds of a second.
pub(super) const SECOND_NS: u64 = 1_000_000_000;
/// Never look more often than this.
const SHORTEST_NS: u64 = 1_000_000;
/// With several threads, look at least this often.
const TICK_NS: u64 = 10_000_000;

/// Has the thread, which runs, look before it runs user code again.
pub(super) fn raise(thread: &Thread) {
    thread.cpu_alarm.store(true, Ordering::SeqCst);
    // Behind the mark: whoever finds no attention to be due looks at the mark afterwards.
    thread.attention.store(true, Ordering::SeqCst);
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

/// Sets the alarm of the calling thread for whatever its timers and its process's need.
pub(super) fn set_alarm(thread: &Arc<Thread>) {
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
    let by_thread = least_left(&state, place, own);
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
    let by_posix = least_left(state, None, clocks);
    by_timer.chain(by_limit).chain(by_posix).min()
}

/// How long one of `count` threads may run before `left_ns` may have passed on the clock of them all.
pub(super) fn share_of(left_ns: u64, count: usize) -> u64 {
    if count <= 1 {
        return left_ns;
    }
    (left_ns / count as u64).clamp(SHORTEST_NS, TICK_NS)
}

//! Interval timers: setitimer(2) and alarm(2).

use alloc::sync::Arc;

use super::agenda::{self, Due};
use super::alarm;
use super::state::{Armed, Interval};
use crate::signal::info::SigInfo;
use crate::signal::number::Signal;
use crate::signal::send;
use crate::task::process::Process;

/// Which interval timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Real time: SIGALRM.
    Real,
    /// CPU time in user mode: SIGVTALRM.
    Virtual,
    /// CPU time: SIGPROF.
    Prof,
}

fn clock(process: &Process, which: Which) -> u64 {
    match which {
        Which::Real => sched::clock::monotonic_ns(),
        Which::Virtual => process.cpu_usage().user_ns,
        Which::Prof => process.cpu_usage().cpu_ns(),
    }
}

/// Sets a timer; what was left of the one before.
pub fn set_interval(process: &Arc<Process>, which: Which, mut setting: Interval) -> Interval {
    let now = clock(process, which);
    if which == Which::Real && setting.value_ns == 0 {
        // As on Linux, only the timers on CPU time remember the period when they are disarmed.
        setting.interval_ns = 0;
    }
    let armed = Armed::from(setting, now);
    let mut state = process.timers.state.lock();
    let slot = match which {
        Which::Real => &mut state.real,
        Which::Virtual => &mut state.cpu[0],
        Which::Prof => &mut state.cpu[1],
    };
    let old = core::mem::replace(slot, armed).left(now);
    if which == Which::Real {
        state.real_entry = agenda::replace(state.real_entry, process, Due::Real, armed.due_ns);
    }
    drop(state);
    if which != Which::Real && armed.due_ns.is_some() {
        alarm::arm(process);
    }
    old
}

/// What is left of a timer.
#[must_use]
pub fn get_interval(process: &Process, which: Which) -> Interval {
    let now = clock(process, which);
    let state = process.timers.state.lock();
    let slot = match which {
        Which::Real => &state.real,
        Which::Virtual => &state.cpu[0],
        Which::Prof => &state.cpu[1],
    };
    slot.left(now)
}

pub(super) fn look_at_real(process: &Arc<Process>) {
    let now = sched::clock::monotonic_ns();
    let mut state = process.timers.state.lock();
    let times = state.real.expire(now);
    if times == 0 {
        return;
    }
    drop(state);
    // A standard signal always finds room.
    let _ = send::to_process(process, &SigInfo::kernel(Signal::ALRM));
    let is_pending = process.signals.lock().shared.set().contains(Signal::ALRM);
    let mut state = process.timers.state.lock();
    let next = agenda::not_too_soon(state.real.due_ns, is_pending);
    state.real_entry = agenda::replace(state.real_entry, process, Due::Real, next);
}

//! Interval timers: setitimer(2) and alarm(2).

use alloc::sync::Arc;

use super::agenda::{self, Due};
use super::cpu;
use crate::Process;
use crate::signal::{SigInfo, Signal, send};

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

/// What setitimer(2) sets: nanoseconds; a value of 0 disarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    /// Until it is next due.
    pub value_ns: u64,
    /// From then on.
    pub interval_ns: u64,
}

/// An armed timer: when it is next due on its clock, and the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Armed {
    pub(super) due_ns: Option<u64>,
    pub(super) interval_ns: u64,
}

impl Armed {
    pub(super) fn from(setting: Interval, now_ns: u64) -> Self {
        let armed = setting.value_ns > 0;
        Self {
            due_ns: armed.then(|| now_ns.saturating_add(setting.value_ns)),
            interval_ns: setting.interval_ns,
        }
    }

    pub(super) fn left(&self, now_ns: u64) -> Interval {
        let left = |due: u64| match now_ns.checked_sub(due) {
            // Nobody has looked yet: what is left is until the next time after this one.
            Some(late) if self.interval_ns > 0 => self.interval_ns - late % self.interval_ns,
            // An armed timer never shows 0.
            _ => due.saturating_sub(now_ns).max(1),
        };
        Interval {
            value_ns: self.due_ns.map_or(0, left),
            interval_ns: self.interval_ns,
        }
    }

    /// How often it is due by now; arms it for the next time.
    pub(super) fn expire(&mut self, now_ns: u64) -> u64 {
        let Some(due) = self.due_ns.filter(|due| *due <= now_ns) else {
            return 0;
        };
        if self.interval_ns == 0 {
            self.due_ns = None;
            return 1;
        }
        let times = (now_ns - due) / self.interval_ns + 1;
        self.due_ns = Some(due.saturating_add(times.saturating_mul(self.interval_ns)));
        times
    }
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
        cpu::arm(process);
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

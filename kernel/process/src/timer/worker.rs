//! The kernel thread that looks at timers when they are due, by the [agenda].

use alloc::sync::Arc;

use abi::Result;
use sched::ThreadBuilder;

use super::agenda::{self, Due};
use super::{cpu, itimer, posix};
use crate::task::process::Process;
use crate::task::relations;

/// Starts the kernel thread, and has the scheduler call for timers on CPU time. Once.
///
/// # Errors
/// `ENOMEM`.
pub fn start_worker() -> Result<()> {
    sched::thread::set_run_alarm_hook(cpu::ring);
    ThreadBuilder::new(b"ktimers", work).spawn().map(drop)
}

fn work() {
    loop {
        while let Some((process, due)) = agenda::take_due() {
            if let Some(process) = process.upgrade() {
                look_at(&process, due);
            }
            // There may always be something due: others have to get on, too.
            sched::cond_resched();
        }
        if agenda::take_lost() {
            for process in relations::processes() {
                enter_again(&process);
            }
        }
        agenda::wait();
    }
}

fn look_at(process: &Arc<Process>, due: Due) {
    match due {
        Due::Real => itimer::look_at_real(process),
        Due::Posix(id) => posix::look_at(process, id),
    }
}

/// Enters the timers that there was no memory for on the agenda; what is due is found to be so at once.
fn enter_again(process: &Arc<Process>) {
    let now = sched::clock::monotonic_ns();
    let mut state = process.timers.state.lock();
    let state = &mut *state;
    if state.real_entry.is_none() && state.real.due_ns.is_some() {
        state.real_entry = agenda::replace(None, process, Due::Real, state.real.due_ns);
    }
    for (id, timer) in state.posix.iter_mut() {
        timer.enter_again(process, *id, now);
    }
}

//! Who dies when memory is short and nothing more can be taken back: the process that holds the most memory, by
//! what its oom_score_adj makes of that. Whoever needed the memory waits for what it leaves.
//!
//! PID 1 dies only when it is the last one that could. While a chosen process is dying nobody looks for
//! another one, so that many threads that wait cost no more than one.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::sync::SpinLock;
use memory::AddressSpace;
use memory::pressure::{self, Verdict};

use crate::signal::Signal;
use crate::thread::Thread;
use crate::{Process, exit, tree};

const INIT: crate::Pid = 1;
/// How long a chosen process may take to die before another one has to.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Frames below which no system call starts: they are for what those that run already allocate.
const LAST_FRAMES: usize = pressure::RESERVE_FRAMES / 2;

/// The process that was chosen last.
static CHOSEN: SpinLock<Weak<Process>> = SpinLock::new(Weak::new());
/// Until when it is waited for, on the monotonic clock.
static PATIENT_UNTIL_NS: AtomicU64 = AtomicU64::new(0);
/// Threads that found nobody to kill since a process last died.
static WITHOUT_VICTIM: AtomicU32 = AtomicU32::new(0);

/// Waits until there is memory for the small things that any system call may need; `false` when `thread`
/// is to exit instead.
#[inline]
pub fn has_memory(thread: &Arc<Thread>) -> bool {
    machine::frame::free() >= LAST_FRAMES || wait_for_memory(thread)
}

#[cold]
fn wait_for_memory(thread: &Arc<Thread>) -> bool {
    while machine::frame::free() < LAST_FRAMES {
        if must_exit(thread) || pressure::make_room().is_err() && must_exit(thread) {
            return false;
        }
    }
    true
}

fn must_exit(thread: &Thread) -> bool {
    thread.process().signals.lock().must_exit(thread)
}

/// What a thread does that can have no memory: see [`pressure::set_killer`].
pub fn kill_for_memory() -> Verdict {
    let me = crate::thread::current();
    if me.as_ref().is_some_and(|thread| must_exit(thread)) {
        return Verdict::GiveUp;
    }
    let now_ns = sched::clock::monotonic_ns();
    let is_impatient = now_ns > PATIENT_UNTIL_NS.load(Ordering::Relaxed);
    let chosen = CHOSEN.lock().upgrade();
    if !is_impatient && chosen.is_some_and(|process| process.memory().is_some()) {
        return Verdict::Wait;
    }
    let victim = match choose(is_impatient) {
        Choice::Dying => return Verdict::Wait,
        Choice::Victim(victim) => victim,
        // Only PID 1 is left, and what has memory outside of processes: it may yet come back.
        Choice::Nobody if WITHOUT_VICTIM.fetch_add(1, Ordering::Relaxed) < 200 => {
            return Verdict::Wait;
        }
        Choice::Nobody => match me {
            Some(thread) => thread.process().clone(),
            None => return Verdict::GiveUp,
        },
    };
    WITHOUT_VICTIM.store(0, Ordering::Relaxed);
    *CHOSEN.lock() = Arc::downgrade(&victim);
    PATIENT_UNTIL_NS.store(now_ns.saturating_add(PATIENCE_NS), Ordering::Relaxed);
    kill(&victim);
    Verdict::Wait
}

/// How bad a process is.
fn badness(process: &Process, memory: &AddressSpace) -> Option<i64> {
    let adjustment = process.oom_score_adj.load(Ordering::Relaxed);
    points(memory.resident(), adjustment, machine::frame::total())
}

/// The frames it holds, moved by its adjustment, a thousandth of all memory a point. `None` for one that
/// must not be chosen.
fn points(resident: u64, adjustment: i32, total: usize) -> Option<i64> {
    const NEVER: i32 = -1000;
    let resident = i64::try_from(resident).unwrap_or(i64::MAX);
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let moved = i64::from(adjustment).saturating_mul(total) / 1000;
    (adjustment != NEVER).then_some(resident.saturating_add(moved))
}

/// /proc/PID/oom_score: from 0 to 2000, higher ones first.
pub(crate) fn score(process: &Process) -> i64 {
    let Some(badness) = process
        .memory()
        .and_then(|memory| badness(process, &memory))
    else {
        return 0;
    };
    let total = i64::try_from(machine::frame::total())
        .unwrap_or(i64::MAX)
        .max(1);
    // Linux's scale.
    ((1000 + badness * 1000 / total) * 2 / 3).max(0)
}

enum Choice {
    /// One that is dying already.
    Dying,
    /// The worst one.
    Victim(Arc<Process>),
    /// There is none.
    Nobody,
}

/// Looks for the process that has to die. `is_impatient`: not one that is dying already.
fn choose(is_impatient: bool) -> Choice {
    let init_memory = tree::process(INIT).and_then(|init| init.memory());
    let mut most = i64::MIN;
    let mut victim = Choice::Nobody;
    for process in tree::processes() {
        let Some(memory) = process.memory() else {
            continue;
        };
        if init_memory
            .as_ref()
            .is_some_and(|init| Arc::ptr_eq(init, &memory))
        {
            continue;
        }
        if process.is_exiting() {
            if is_impatient {
                continue;
            }
            return Choice::Dying;
        }
        if let Some(badness) = badness(&process, &memory)
            && badness > most
        {
            most = badness;
            victim = Choice::Victim(process);
        }
    }
    victim
}

fn kill(victim: &Process) {
    let name = victim
        .main_thread()
        .map(|thread| thread.name())
        .unwrap_or_default();
    let len = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    machine::log!(
        "out of memory: killed process {} ({})",
        victim.pid(),
        name[..len].escape_ascii()
    );
    exit::kill_with_status(victim, i32::from(Signal::KILL.number()));
}

#[cfg(test)]
mod tests {
    use super::points;

    #[test]
    fn the_adjustment_orders_processes() {
        let of = |resident, score_adj| points(resident, score_adj, 64_000);
        assert!(of(500, 0) > of(400, 0));
        assert!(of(400, 10) > of(500, 0));
        assert!(of(500, -999) < of(1, 0));
        assert!(of(0, -999) > of(64_000, -1000), "nothing is less wanted");
    }
}

//! What happens when a page is promised and there is no frame for it: the process that holds the most
//! memory dies, by what its oom_score_adj makes of that, and whoever needed the page waits for what it leaves.
//!
//! PID 1 dies only when it is the last one that could.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use memory::AddressSpace;
use sched::Sleep;

use crate::signal::Signal;
use crate::thread::Thread;
use crate::{Process, exit, tree};

const INIT: crate::Pid = 1;
/// How long a fault waits before it is tried again.
const WAIT_NS: u64 = 1_000_000;
/// How often it waits for a process that is dying before another one has to.
const PATIENCE: u32 = 2000;

/// Waits since a process was last chosen.
static WAITED: AtomicU32 = AtomicU32::new(0);

/// Frames below which no system call starts: they are for what those that run already allocate.
const LAST_FRAMES: usize = memory::pressure::RESERVE_FRAMES / 2;

/// Waits until there is memory for the small things that any system call may need; `false` when `thread`
/// is to exit instead.
#[inline]
pub fn has_memory(thread: &Arc<Thread>) -> bool {
    machine::frame::free() >= LAST_FRAMES || wait_for_memory(thread)
}

#[cold]
fn wait_for_memory(thread: &Arc<Thread>) -> bool {
    while machine::frame::free() < LAST_FRAMES {
        if thread.process().signals.lock().must_exit(thread) {
            return false;
        }
        make_room(thread);
    }
    true
}

/// Makes memory for `thread`, which then tries again.
pub(crate) fn make_room(thread: &Arc<Thread>) {
    if memory::pressure::reclaim(memory::pressure::RESERVE_FRAMES) == 0 {
        match choose() {
            Some(victim) => kill(&victim),
            None if WAITED.load(Ordering::Relaxed) > PATIENCE => kill(thread.process()),
            None => {}
        }
    }
    WAITED.fetch_add(1, Ordering::Relaxed);
    let deadline_ns = sched::clock::monotonic_ns() + WAIT_NS;
    // So short that it need not be interrupted, which what has nothing to do with dying would do at once.
    let _ = sched::timer::sleep_until(deadline_ns, Sleep::Uninterruptible);
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

/// The worst process; `None` while one that was chosen is still dying.
fn choose() -> Option<Arc<Process>> {
    let init_memory = tree::process(INIT).and_then(|init| init.memory());
    let is_impatient = WAITED.load(Ordering::Relaxed) > PATIENCE;
    let mut most = i64::MIN;
    let mut victim = None;
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
            return None;
        }
        if let Some(badness) = badness(&process, &memory)
            && badness > most
        {
            most = badness;
            victim = Some(process);
        }
    }
    victim
}

fn kill(victim: &Process) {
    WAITED.store(0, Ordering::Relaxed);
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

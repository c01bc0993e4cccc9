//! What happens when a page is promised and there is no frame for it: the process that holds the most
//! memory dies, by what its oom_score_adj makes of that, and whoever needed the page waits for what it leaves.
//!
//! PID 1 dies only when it is the last one that could.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

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

/// Makes memory for `thread`, which then faults again.
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
    // Interrupted by its own death, if it is the one.
    let _ = sched::timer::sleep_until(deadline_ns, Sleep::Interruptible);
}

/// How much a process's end is wanted: its pages, and a thousandth of all memory for each point of its
/// oom_score_adj (proc(5)). `None` for one that must not be killed.
fn badness(resident: u64, score_adj: i32, total: usize) -> Option<i64> {
    let pages = i64::try_from(resident).unwrap_or(i64::MAX);
    let thousandth = i64::try_from(total / 1000).unwrap_or(i64::MAX);
    (score_adj > -1000)
        .then(|| pages.saturating_add(thousandth.saturating_mul(i64::from(score_adj))))
}

/// The process that is worst; `None` while one that was chosen is still dying.
fn choose() -> Option<Arc<Process>> {
    let init_memory = tree::process(INIT).and_then(|init| init.memory());
    let is_impatient = WAITED.load(Ordering::Relaxed) > PATIENCE;
    let mut worst = None;
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
        let score_adj = process.oom_score_adj.load(Ordering::Relaxed);
        let badness = badness(memory.resident(), score_adj, machine::frame::total());
        if memory.resident() > 0 && badness > worst {
            worst = badness;
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
    use super::badness;

    #[test]
    fn the_adjustment_orders_processes() {
        let of = |resident, score_adj| badness(resident, score_adj, 64_000);
        assert!(of(500, 0) > of(400, 0));
        assert!(of(400, 10) > of(500, 0));
        assert!(of(500, -999) < of(1, 0));
        assert!(of(0, -999) > of(64_000, -1000), "nothing is less wanted");
    }
}

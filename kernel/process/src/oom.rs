//! Who dies when memory is short and nothing more can be taken back: the process that holds the most memory, by
//! what its oom_score_adj makes of that. Whoever needed the memory waits for what it leaves.
//!
//! PID 1 dies only when it is the last one that could. While a chosen process is dying nobody looks for
//! another one, so that many threads that wait cost no more than one. A look at all processes finds the worst
//! [`CANDIDATES`], who die one after another before the next look: a fork bomb is many processes, each of them small.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use machine::sync::SpinLock;
use memory::AddressSpace;
use memory::pressure::{self, Verdict};

use crate::pid_namespace::PidNamespace;
use crate::signal::Signal;
use crate::thread::Thread;
use crate::{Process, exit, relations, tree};

/// How long a chosen process may take to die before another one has to.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Frames below which no system call starts: they are for what those that run already allocate.
const LAST_FRAMES: usize = pressure::RESERVE_FRAMES / 2;

/// How many of the worst processes a look at all of them remembers.
const CANDIDATES: usize = 64;
/// How long they stand for the worst.
const LOOK_LASTS_NS: u64 = 200_000_000;

/// The worst processes of the last look, the very worst last.
static WORST: SpinLock<Worst> = SpinLock::new(Worst::new());
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
    machine::frame::at_hand() >= LAST_FRAMES || wait_for_memory(thread)
}

#[cold]
fn wait_for_memory(thread: &Arc<Thread>) -> bool {
    while machine::frame::at_hand() < LAST_FRAMES {
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
    let victim = match choose(is_impatient, now_ns) {
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

/// What a look at all processes found, in order.
struct Worst {
    processes: [Option<(i64, Weak<Process>)>; CANDIDATES],
    count: usize,
    until_ns: u64,
}

impl Worst {
    const fn new() -> Self {
        Self {
            processes: [const { None }; CANDIDATES],
            count: 0,
            until_ns: 0,
        }
    }

    /// Keeps a process if it is among the worst.
    fn offer(&mut self, badness: i64, process: &Arc<Process>) {
        let at = self.processes[..self.count]
            .partition_point(|it| it.as_ref().is_some_and(|(other, _)| *other <= badness));
        let new = Some((badness, Arc::downgrade(process)));
        if self.count < CANDIDATES {
            self.processes[at..=self.count].rotate_right(1);
            self.processes[at] = new;
            self.count += 1;
        } else if at > 0 {
            // The least bad one makes room.
            self.processes[..at].rotate_left(1);
            self.processes[at - 1] = new;
        }
    }

    /// Leaves those out that are not half as bad as the very worst: by the time that would be their turn another one may
    /// have grown beyond them.
    fn cut(&mut self) {
        let badness = |it: &Option<(i64, Weak<Process>)>| it.as_ref().map_or(0, |(it, _)| *it);
        let found = &mut self.processes[..self.count];
        let Some(most) = found.last().map(badness) else {
            return;
        };
        let from = found.partition_point(|it| badness(it) < most && badness(it) <= most / 2);
        for place in &mut found[..from] {
            *place = None;
        }
        found.rotate_left(from);
        self.count -= from;
    }

    fn take(&mut self) -> Option<Weak<Process>> {
        self.count = self.count.checked_sub(1)?;
        self.processes[self.count]
            .take()
            .map(|(_, process)| process)
    }
}

/// Looks for the process that has to die. `is_impatient`: not one that is dying already.
fn choose(is_impatient: bool, now_ns: u64) -> Choice {
    let init = PidNamespace::INITIAL.init(&tree::lock()).cloned();
    let init_memory = init.and_then(|init| init.memory());
    if let Some(victim) = take_candidate(init_memory.as_ref(), now_ns) {
        return Choice::Victim(victim);
    }
    let mut worst = Worst::new();
    for process in relations::processes() {
        let Some(memory) = victim_memory(&process, init_memory.as_ref()) else {
            continue;
        };
        if process.is_exiting() {
            if is_impatient {
                continue;
            }
            return Choice::Dying;
        }
        if let Some(badness) = badness(&process, &memory) {
            worst.offer(badness, &process);
        }
    }
    worst.cut();
    worst.until_ns = now_ns.saturating_add(LOOK_LASTS_NS);
    let old = core::mem::replace(&mut *WORST.lock(), worst);
    drop(old);
    take_candidate(init_memory.as_ref(), now_ns).map_or(Choice::Nobody, Choice::Victim)
}

/// The worst process of the last look that can still die.
fn take_candidate(init: Option<&Arc<AddressSpace>>, now_ns: u64) -> Option<Arc<Process>> {
    loop {
        let next = {
            let mut worst = WORST.lock();
            if now_ns > worst.until_ns {
                return None;
            }
            worst.take()?
        };
        if let Some(process) = next.upgrade()
            && victim_memory(&process, init).is_some()
            && !process.is_exiting()
        {
            return Some(process);
        }
    }
}

/// The memory of a process that may be chosen: PID 1's is not to be freed.
fn victim_memory(process: &Process, init: Option<&Arc<AddressSpace>>) -> Option<Arc<AddressSpace>> {
    let memory = process.memory()?;
    let is_init = init.is_some_and(|init| Arc::ptr_eq(init, &memory));
    (!is_init).then_some(memory)
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
        victim.pid().global(),
        name[..len].escape_ascii()
    );
    exit::kill_with_status(victim, i32::from(Signal::KILL.number()));
}

#[cfg(test)]
mod tests {
    use super::{CANDIDATES, Worst, points};

    #[test]
    fn the_worst_die_one_after_another() {
        let thread = crate::tests::process(None);
        let offered = |badness: &[i64]| {
            let mut worst = Worst::new();
            for badness in badness {
                worst.offer(*badness, thread.process());
            }
            worst.cut();
            let left = worst.processes[..worst.count].iter().flatten();
            left.map(|(badness, _)| *badness).collect::<Vec<_>>()
        };
        assert_eq!(offered(&[5, 9, 7, 9, 3, 4]), [5, 7, 9, 9]);
        assert_eq!(offered(&[1, 2, 1000]), [1000]);
        assert_eq!(offered(&[-5, -3, -9]), [-3]);
        assert_eq!(offered(&[]), [0; 0]);
        let many: Vec<i64> = (0..300).map(|n| 1000 + (n * 7) % 300).collect();
        let kept = i64::try_from(CANDIDATES).unwrap();
        let worst: Vec<i64> = (1300 - kept..1300).collect();
        assert_eq!(offered(&many), worst);
    }

    #[test]
    fn the_adjustment_orders_processes() {
        let of = |resident, score_adj| points(resident, score_adj, 64_000);
        assert!(of(500, 0) > of(400, 0));
        assert!(of(400, 10) > of(500, 0));
        assert!(of(500, -999) < of(1, 0));
        assert!(of(0, -999) > of(64_000, -1000), "nothing is less wanted");
    }
}

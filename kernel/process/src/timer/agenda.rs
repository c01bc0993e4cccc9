//! What is due when, for all processes: what the [worker](super::worker) goes by.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use collections::Map;
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::state::Entry;
use crate::task::process::Process;

/// Something of a process to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// ITIMER_REAL.
    Real,
    /// A POSIX timer.
    Posix(i32),
}

type Agenda = Map<Entry, (Weak<Process>, Due)>;

static AGENDA: SpinLock<Agenda> = SpinLock::new(Map::new());
static CHANGED: WaitQueue = WaitQueue::new();
static SEQUENCE: AtomicU64 = AtomicU64::new(0);
/// There was no memory for an entry: the worker looks for timers without one.
static LOST: AtomicBool = AtomicBool::new(false);
/// How soon it does so, and again.
const LOST_PAUSE_NS: u64 = 10_000_000;

/// Has `due` of `process` looked at when the monotonic clock shows `deadline_ns`, rather than at `old`;
/// with `None` only takes `old` back. The new entry.
pub(super) fn replace(
    old: Option<Entry>,
    process: &Arc<Process>,
    due: Due,
    deadline_ns: Option<u64>,
) -> Option<Entry> {
    remove(old);
    let deadline_ns = deadline_ns?;
    let entry = (deadline_ns, SEQUENCE.fetch_add(1, Ordering::Relaxed));
    let mut agenda = AGENDA.lock();
    let entered = agenda.try_insert(entry, (Arc::downgrade(process), due));
    if entered.is_err() {
        drop(agenda);
        LOST.store(true, Ordering::SeqCst);
        CHANGED.wake_all();
        return None;
    }
    let is_first = agenda
        .first_key_value()
        .is_some_and(|(first, _)| *first == entry);
    drop(agenda);
    if is_first {
        CHANGED.wake_all();
    }
    Some(entry)
}

/// When to look next at what is due at `due_ns`: a short period must not keep the worker busy. Nothing is
/// lost, because a look counts all the times that something was due. `is_idle`: looking earlier would be for
/// nothing, since nobody takes the signals.
pub(super) fn not_too_soon(due_ns: Option<u64>, is_idle: bool) -> Option<u64> {
    const SHORTEST_NS: u64 = 50_000;
    const IDLE_NS: u64 = 1_000_000;
    let least = if is_idle { IDLE_NS } else { SHORTEST_NS };
    due_ns.map(|due| due.max(sched::clock::monotonic_ns() + least))
}

/// Takes an entry back, if it is still there.
pub(super) fn remove(entry: Option<Entry>) {
    if let Some(entry) = entry {
        let removed = AGENDA.lock().remove(&entry);
        drop(removed);
    }
}

fn first_deadline() -> Option<u64> {
    AGENDA
        .lock()
        .first_key_value()
        .map(|((deadline, _), _)| *deadline)
}

/// Something that is due, if there is.
pub(super) fn take_due() -> Option<(Weak<Process>, Due)> {
    let now = sched::clock::monotonic_ns();
    let mut agenda = AGENDA.lock();
    let (first, _) = agenda.first_key_value()?;
    if first.0 > now {
        return None;
    }
    agenda.pop_first().map(|(_, due)| due)
}

/// Whether there are entries that there was no memory for since this was asked last.
pub(super) fn take_lost() -> bool {
    LOST.swap(false, Ordering::SeqCst)
}

/// Waits until something may be due.
pub(super) fn wait() {
    let (first, was_lost) = (first_deadline(), LOST.load(Ordering::SeqCst));
    let soon = sched::clock::monotonic_ns() + LOST_PAUSE_NS;
    let next = if was_lost {
        Some(first.map_or(soon, |first| first.min(soon)))
    } else {
        first
    };
    let is_new = || {
        let lost_more = !was_lost && LOST.load(Ordering::SeqCst);
        (first_deadline() != first || lost_more).then_some(())
    };
    match next {
        // Either there is something new, or the first is due: look again.
        Some(deadline) => drop(CHANGED.wait_deadline(deadline, is_new)),
        None => CHANGED.wait_until(is_new),
    }
}

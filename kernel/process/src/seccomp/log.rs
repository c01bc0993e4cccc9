//! What the log says of filters: which actions, by /proc/sys/kernel/seccomp/actions_logged, and how often.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::action::Action;
use super::call::CallData;
use crate::task::thread::Thread;

/// All but the calls that are just made.
const AT_START: u32 = !Action::Allow.bit();
/// At most so many lines in a while: a program makes as many calls as it likes.
const BURST: u32 = 10;
const WHILE_NS: u64 = 5_000_000_000;

static LOGGED: AtomicU32 = AtomicU32::new(AT_START);
static SINCE_NS: AtomicU64 = AtomicU64::new(0);
static LINES: AtomicU32 = AtomicU32::new(0);

/// The actions that are logged, by their bits.
#[must_use]
pub(crate) fn logged() -> u32 {
    LOGGED.load(Ordering::Relaxed)
}

/// Has those in `actions` logged; false when calls that are just made are among them, which are too many.
pub(crate) fn set_logged(actions: u32) -> bool {
    if actions & Action::Allow.bit() != 0 {
        return false;
    }
    LOGGED.store(actions, Ordering::Relaxed);
    true
}

/// Writes down what happens to a call, if it is to be; `is_wanted` by the filter that decided.
pub(super) fn note(thread: &Thread, call: &CallData, action: Action, is_wanted: bool) {
    let always = matches!(
        action,
        Action::KillProcess | Action::KillThread | Action::Log
    );
    if (!always && !is_wanted) || logged() & action.bit() == 0 || is_too_often() {
        return;
    }
    let name = thread.name();
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    machine::notice!(
        "seccomp: process {} ({}), call {} at {:#x}: {}",
        thread.process().pid().global(),
        name[..end].escape_ascii(),
        call.number,
        call.instruction_pointer,
        Action::ALL[action as usize].2
    );
}

fn is_too_often() -> bool {
    let now = sched::clock::monotonic_ns();
    if now.wrapping_sub(SINCE_NS.load(Ordering::Relaxed)) > WHILE_NS {
        SINCE_NS.store(now, Ordering::Relaxed);
        LINES.store(0, Ordering::Relaxed);
    }
    LINES.fetch_add(1, Ordering::Relaxed) >= BURST
}

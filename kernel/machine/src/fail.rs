//! Allocations that fail on purpose, in builds with `checks`.
//!
//! The command-line word `nacre.fail_alloc=N` makes the N-th allocation after PID 1 has started fail, `N,M` that one and
//! every M-th after it. `paths:N,M` makes allocations fail by the calls that led to them: each path fails when it is first
//! seen, if its hash divided by M leaves N. So M boots let each path fail once, and what follows one failure is not
//! disturbed by the next at once. `retried:N,M` does the same, and has it look as if there had been no memory: the system call
//! that fails so is made again and succeeds, so that no program may see a difference.
//!
//! Counted are allocations of the heap and frames that are taken with a handle. A log line says that one was hit, and one at
//! power-off how many there were and how many of them failed.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::frame::{OutOfMemory, refusal};

mod paths;

const IS_ON: bool = cfg!(feature = "checks");
const WORD: &str = "nacre.fail_alloc";

static FIRST: AtomicU64 = AtomicU64::new(0);
/// Allocations from one that fails to the next; 0 when one fails alone.
static EVERY: AtomicU64 = AtomicU64::new(0);
/// Whether the two are about paths.
static BY_PATH: AtomicBool = AtomicBool::new(false);
/// Whether a call that fails is to be made again.
static IS_RETRIED: AtomicBool = AtomicBool::new(false);
static IS_STARTED: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Reads the command line's word.
pub(crate) fn set_up(value: Option<&str>) {
    let Some(value) = value else { return };
    if !IS_ON {
        crate::log!(
            "{WORD}: this kernel was built without the feature `checks`; nothing will fail"
        );
        return;
    }
    let retried = value.strip_prefix("retried:");
    IS_RETRIED.store(retried.is_some(), Ordering::Relaxed);
    let by_path = retried.or_else(|| value.strip_prefix("paths:"));
    let (first, every) = by_path
        .unwrap_or(value)
        .split_once(',')
        .unwrap_or((value, "0"));
    match (first.parse(), every.parse()) {
        (Ok(first), Ok(every)) if by_path.is_none() || first < every => {
            FIRST.store(first, Ordering::Relaxed);
            EVERY.store(every, Ordering::Relaxed);
            BY_PATH.store(by_path.is_some(), Ordering::Relaxed);
        }
        _ => crate::log!(
            "{WORD}={value}: not a number, or two with a comma between; nothing will fail"
        ),
    }
}

/// PID 1 starts: allocations count from here on.
pub(crate) fn start() {
    if IS_ON && (FIRST.load(Ordering::Relaxed) > 0 || BY_PATH.load(Ordering::Relaxed)) {
        IS_STARTED.store(true, Ordering::Relaxed);
    }
}

/// The machine goes off: says what has become of it.
pub(crate) fn report() {
    if IS_ON && IS_STARTED.load(Ordering::Relaxed) {
        let (failed, seen) = (FAILED.load(Ordering::Relaxed), SEEN.load(Ordering::Relaxed));
        crate::log!("{WORD}: {failed} of {seen} allocations failed");
        if BY_PATH.load(Ordering::Relaxed) {
            let (paths, left_out) = paths::counts();
            crate::log!("{WORD}: {paths} paths, and {left_out} allocations on more of them");
        }
    }
}

/// Whether this allocation is to fail.
#[inline]
pub(crate) fn is_due() -> bool {
    IS_ON && IS_STARTED.load(Ordering::Relaxed) && is_next()
}

/// As [`is_due`], as an error.
#[inline]
pub(crate) fn check() -> Result<(), OutOfMemory> {
    if is_due() { Err(OutOfMemory) } else { Ok(()) }
}

#[cold]
fn is_next() -> bool {
    let number = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    let first = FIRST.load(Ordering::Relaxed);
    let every = EVERY.load(Ordering::Relaxed);
    let is_due = if BY_PATH.load(Ordering::Relaxed) {
        paths::first_seen().is_some_and(|path| path % every == first)
    } else {
        number == first || (number > first && every > 0 && (number - first).is_multiple_of(every))
    };
    if is_due && IS_RETRIED.load(Ordering::Relaxed) {
        refusal::note(1);
    }
    if is_due && FAILED.fetch_add(1, Ordering::Relaxed) == 0 {
        crate::log!("{WORD}: allocation {number} fails");
    }
    is_due
}

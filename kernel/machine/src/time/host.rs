//! Host double: std's clocks, and a thread that makes the timer upcall.

use std::sync::{Condvar, LazyLock, Mutex, Once, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static BOOT: LazyLock<(Instant, u64)> = LazyLock::new(|| {
    let epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (Instant::now(), saturating_ns(epoch))
});

static DEADLINE: Mutex<Option<u64>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static TIMER_THREAD: Once = Once::new();

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since first asked; never goes back.
#[must_use]
pub fn now_ns() -> u64 {
    saturating_ns(BOOT.0.elapsed())
}

/// Unix time in nanoseconds at `now_ns() == 0`.
#[must_use]
pub fn boot_epoch_ns() -> u64 {
    BOOT.1
}

/// Calls the timer upcall at `deadline_ns`, from a thread of its own.
pub fn set_deadline(deadline_ns: Option<u64>) {
    TIMER_THREAD.call_once(|| drop(std::thread::spawn(run_timer)));
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner) = deadline_ns;
    CHANGED.notify_all();
}

fn run_timer() {
    let mut deadline = DEADLINE.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        deadline = match *deadline {
            None => CHANGED
                .wait(deadline)
                .unwrap_or_else(PoisonError::into_inner),
            Some(at) if at <= now_ns() => {
                *deadline = None;
                drop(deadline);
                if let Some(upcalls) = crate::interrupt::upcalls() {
                    (upcalls.timer)();
                }
                DEADLINE.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Some(at) => {
                let left = Duration::from_nanos(at - now_ns().min(at));
                CHANGED
                    .wait_timeout(deadline, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
    }
}

//! Clocks: CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_REALTIME, in nanoseconds.
//!
//! The guest is never suspended, so monotonic and boot time are the same.

use core::sync::atomic::{AtomicI64, Ordering};

/// Correction of the wall clock by clock_settime(2), on top of the host's time at boot.
static REALTIME_ADJUSTMENT_NS: AtomicI64 = AtomicI64::new(0);

/// Nanoseconds since boot; never goes back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    machine::time::now_ns()
}

/// Nanoseconds since boot, suspended time included (there is none).
#[must_use]
pub fn boottime_ns() -> u64 {
    machine::time::now_ns()
}

/// Unix time in nanoseconds.
#[must_use]
pub fn realtime_ns() -> u64 {
    realtime_at(machine::time::now_ns())
}

/// Unix time in nanoseconds at a moment of the monotonic clock.
#[must_use]
pub fn realtime_at(monotonic_ns: u64) -> u64 {
    machine::time::boot_epoch_ns()
        .saturating_add(monotonic_ns)
        .saturating_add_signed(REALTIME_ADJUSTMENT_NS.load(Ordering::Relaxed))
}

/// Sets the wall clock (clock_settime(2)).
pub fn set_realtime(unix_ns: u64) {
    let unadjusted = machine::time::boot_epoch_ns().saturating_add(machine::time::now_ns());
    let adjustment = i128::from(unix_ns) - i128::from(unadjusted);
    let adjustment =
        i64::try_from(adjustment).unwrap_or(if adjustment < 0 { i64::MIN } else { i64::MAX });
    REALTIME_ADJUSTMENT_NS.store(adjustment, Ordering::Relaxed);
}

/// The moment of the monotonic clock at which the wall clock shows `unix_ns`, as things stand.
#[must_use]
pub fn monotonic_of_realtime(unix_ns: u64) -> u64 {
    let now = machine::time::now_ns();
    now.saturating_add_signed(
        i64::try_from(i128::from(unix_ns) - i128::from(realtime_at(now))).unwrap_or(i64::MAX),
    )
}

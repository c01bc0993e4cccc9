//! The clock and the one-shot timer of this CPU.

/// Nanoseconds since boot; never goes back, the same on all CPUs.
#[must_use]
pub fn now_ns() -> u64 {
    todo!()
}

/// Unix time in nanoseconds at `now_ns() == 0`, as the host or the RTC said.
#[must_use]
pub fn boot_epoch_ns() -> u64 {
    todo!()
}

/// Calls [`crate::interrupt::Upcalls::timer`] on this CPU at `deadline_ns` (of [`now_ns`]), or at once
/// when that has passed. `None` cancels. One deadline a CPU.
pub fn set_deadline(deadline_ns: Option<u64>) {
    let _ = deadline_ns;
    todo!()
}

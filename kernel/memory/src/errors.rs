//! Write-back errors of one file, each reported once to every open description (Linux's errseq_t).
//!
//! A description remembers a [`Seen`]: what it had heard when it was opened or last asked. Locking: atomics only.

use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};

/// Bits of the error number.
const ERRNO: u32 = 0xfff;
/// Somebody has seen this error: the next one, even if equal, is another.
const IS_SEEN: u32 = 0x1000;
/// Step of the count of errors.
const STEP: u32 = 0x2000;

/// The last error of a file's write-back, with a count.
#[derive(Debug, Default)]
pub struct WriteErrors(AtomicU32);

/// What one description has heard of a file's errors.
#[derive(Debug, Default)]
pub struct Seen(AtomicU32);

impl WriteErrors {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Notes an error for everybody who has the file open.
    pub fn record(&self, errno: Errno) {
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| {
                let count = if now & IS_SEEN == 0 {
                    now & !ERRNO
                } else {
                    (now & !(ERRNO | IS_SEEN)).wrapping_add(STEP)
                };
                Some(count | u32::from(errno.get()) & ERRNO)
            });
    }

    /// What a description opened now has heard: everything that somebody was told already, so that an error
    /// nobody was told of reaches the next one who asks.
    #[must_use]
    pub fn sample(&self) -> Seen {
        let now = self.0.load(Ordering::Acquire);
        Seen(AtomicU32::new(if now & IS_SEEN == 0 { 0 } else { now }))
    }

    /// The error that `seen` has not heard of.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self, seen: &Seen) -> Result<()> {
        let now = self.0.load(Ordering::Acquire);
        if now & ERRNO == 0 || now == seen.0.load(Ordering::Acquire) {
            return Ok(());
        }
        let told = self.0.fetch_or(IS_SEEN, Ordering::AcqRel) | IS_SEEN;
        seen.0.store(told, Ordering::Release);
        let number = u16::try_from(told & ERRNO).unwrap_or(0);
        Err(Errno::from_raw(number).unwrap_or(Errno::EIO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_description_hears_of_an_error_once() {
        let errors = WriteErrors::new();
        let (first, second) = (errors.sample(), errors.sample());
        assert_eq!(errors.check(&first), Ok(()));
        errors.record(Errno::ENOSPC);
        assert_eq!(errors.check(&first), Err(Errno::ENOSPC));
        assert_eq!(errors.check(&first), Ok(()));
        assert_eq!(errors.check(&second), Err(Errno::ENOSPC));
        errors.record(Errno::ENOSPC);
        assert_eq!(errors.check(&second), Err(Errno::ENOSPC));
        assert_eq!(errors.check(&first), Err(Errno::ENOSPC));
    }

    #[test]
    fn an_error_nobody_was_told_of_waits_for_the_next_description() {
        let errors = WriteErrors::new();
        errors.record(Errno::EIO);
        let late = errors.sample();
        assert_eq!(errors.check(&late), Err(Errno::EIO));
        assert_eq!(errors.check(&errors.sample()), Ok(()));
    }
}

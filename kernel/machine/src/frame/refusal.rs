//! What the running task found no memory for, until somebody asks: a system call that fails with ENOMEM is tried again
//! once there is room, if that is why it failed and not some limit.
//!
//! Noted where an allocation has failed, whatever locks are held there; so the common case costs nothing. What an
//! interrupt handler is refused is noted with the task that it interrupted, which looks once too often then.

#[cfg(target_os = "none")]
mod place {
    use core::sync::atomic::AtomicU32;

    use crate::x86::percpu;

    /// Calls `with` with the running task's word.
    pub(super) fn with<R>(with: impl FnOnce(&AtomicU32) -> R) -> Option<R> {
        // SAFETY: a counted reference, which lasts while the task runs; null before there are tasks.
        let task = unsafe { percpu::here().current.get().as_ref() };
        task.map(|task| with(task.refused()))
    }
}

#[cfg(not(target_os = "none"))]
mod place {
    use core::sync::atomic::AtomicU32;

    std::thread_local! {
        static REFUSED: AtomicU32 = const { AtomicU32::new(0) };
    }

    pub(super) fn with<R>(with: impl FnOnce(&AtomicU32) -> R) -> Option<R> {
        // A thread that ends has no word any more.
        REFUSED.try_with(with).ok()
    }
}

use core::sync::atomic::Ordering;

/// The running task was refused so many frames, or an object of that size.
#[cold]
pub fn note(frames: usize) {
    let frames = u32::try_from(frames.max(1)).unwrap_or(u32::MAX);
    place::with(|refused| refused.fetch_max(frames, Ordering::Relaxed));
}

/// The largest number of frames that the running task was refused at once since this was asked last.
#[must_use]
pub fn take() -> Option<usize> {
    match place::with(|refused| refused.swap(0, Ordering::Relaxed)) {
        None | Some(0) => None,
        Some(frames) => Some(frames as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::{note, take};

    #[test]
    fn the_largest_refusal_is_told_once() {
        assert_eq!(take(), None);
        note(3);
        note(0);
        assert_eq!(take(), Some(3));
        assert_eq!(take(), None);
        note(usize::MAX);
        std::thread::spawn(|| assert_eq!(take(), None))
            .join()
            .unwrap();
        assert_eq!(take(), Some(u32::MAX as usize));
    }
}

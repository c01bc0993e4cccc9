//! The double: free memory is what a test says, and what was reported is counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::Frame;
use crate::addr::PAGE_SIZE;

static FREE: AtomicUsize = AtomicUsize::new(0);
static REPORTED: AtomicUsize = AtomicUsize::new(0);
static TELL_AT: AtomicUsize = AtomicUsize::new(usize::MAX);
static UPCALL: Mutex<Option<fn()>> = Mutex::new(None);

/// Frees so many frames that the host has memory for.
pub fn pretend_free(frames: usize) {
    let unreported = FREE.fetch_add(frames, Ordering::SeqCst) + frames;
    if unreported >= TELL_AT.load(Ordering::SeqCst) {
        tell();
    }
}

/// Frames that were reported so far.
pub fn reported() -> usize {
    REPORTED.load(Ordering::SeqCst)
}

/// Names what is called once the number of [`arm`] is reached.
pub fn set_upcall(upcall: fn()) {
    if let Ok(mut known) = UPCALL.lock() {
        *known = Some(upcall);
    }
}

/// Has the upcall made, once, when `frames` are unreported; at once if they are.
pub fn arm(frames: usize) {
    TELL_AT.store(frames, Ordering::SeqCst);
    if unreported() >= frames {
        tell();
    }
}

fn tell() {
    let is_armed = TELL_AT.swap(usize::MAX, Ordering::SeqCst) != usize::MAX;
    let upcall = UPCALL.lock().ok().and_then(|upcall| *upcall);
    if is_armed && let Some(upcall) = upcall {
        upcall();
    }
}

/// Frames that the host may have memory for.
#[must_use]
pub fn unreported() -> usize {
    FREE.load(Ordering::SeqCst)
}

/// A block of free frames; one that is dropped has not been reported.
#[derive(Debug)]
pub struct FreeBlock {
    first: Frame,
    frames: usize,
}

impl FreeBlock {
    /// Takes one of at most 256 frames.
    #[must_use]
    pub fn take() -> Option<FreeBlock> {
        let take = |free: usize| (free > 0).then(|| free - free.min(256));
        let before = FREE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        Some(FreeBlock {
            frames: before.ok()?.min(256),
            first: Frame::alloc_zeroed().ok()?,
        })
    }

    /// Bytes in it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.frames * PAGE_SIZE
    }

    /// The most of its frames that the host has memory for.
    #[must_use]
    pub fn unreported(&self) -> usize {
        self.frames
    }

    /// Gives it back: the host has taken its memory.
    pub fn give_reported(mut self) {
        REPORTED.fetch_add(core::mem::take(&mut self.frames), Ordering::SeqCst);
    }

    pub(crate) fn first(&self) -> &Frame {
        &self.first
    }
}

impl Drop for FreeBlock {
    fn drop(&mut self) {
        FREE.fetch_add(self.frames, Ordering::SeqCst);
    }
}

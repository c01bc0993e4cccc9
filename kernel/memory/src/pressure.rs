//! When frames run short: who can give some back, and how much must stay free.
//!
//! Small kernel objects come from an allocator that cannot fail politely, so operations that a user can
//! drive call [`ensure_headroom`] first: ENOMEM comes while there still is memory.

use alloc::sync::Weak;
use alloc::vec::Vec;

use abi::{Errno, Result};
use machine::Frame;
use machine::sync::SpinLock;

/// Frames that stay free for the kernel's own small objects.
pub const RESERVE_FRAMES: usize = 256;

/// Something that can free frames on request.
pub trait Shrink: Send + Sync {
    /// Frees up to `wanted` frames that nobody needs right now; returns how many it freed. Must not
    /// sleep or allocate.
    fn shrink(&self, wanted: usize) -> usize;

    /// Writes back what is dirty (sync(2)); may sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn write_back_all(&self) -> Result<()> {
        Ok(())
    }
}

static SHRINKERS: SpinLock<Vec<Weak<dyn Shrink>>> = SpinLock::new(Vec::new());

/// Adds a shrinker for as long as it lives.
///
/// # Errors
/// `ENOMEM`.
pub fn register(shrinker: Weak<dyn Shrink>) -> Result<()> {
    let mut shrinkers = SHRINKERS.lock();
    if shrinkers.len() == shrinkers.capacity() {
        shrinkers.retain(|it| it.strong_count() > 0);
        shrinkers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    }
    shrinkers.push(shrinker);
    Ok(())
}

/// Makes sure that there is memory for small kernel objects.
///
/// # Errors
/// `ENOMEM` when there is not, even after shrinking.
pub fn ensure_headroom() -> Result<()> {
    if machine::frame::free() >= RESERVE_FRAMES || reclaim(RESERVE_FRAMES) > 0 {
        Ok(())
    } else {
        Err(Errno::ENOMEM)
    }
}

/// Waits for nothing, but makes room for a frame or two if that can be done.
///
/// # Errors
/// `ENOMEM` when there is none even after shrinking.
pub fn make_room() -> Result<()> {
    ensure_headroom()
}

/// A frame of zeroes for a user, if there is one at hand.
#[must_use]
pub fn try_zeroed() -> Option<Frame> {
    has_room().then(|| Frame::alloc_zeroed().ok()).flatten()
}

/// A copy of `frame` for a user, if there is a frame at hand.
#[must_use]
pub fn try_copy(frame: &Frame) -> Option<Frame> {
    has_room().then(|| frame.duplicate().ok()).flatten()
}

fn has_room() -> bool {
    machine::frame::free() >= RESERVE_FRAMES
}

/// A frame of zeroes for a user, shrinking caches if need be.
///
/// # Errors
/// `ENOMEM`.
pub fn alloc_zeroed() -> Result<Frame> {
    ensure_headroom()?;
    Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM)
}

/// A copy of `frame` for a user, shrinking caches if need be.
///
/// # Errors
/// `ENOMEM`.
pub fn duplicate(frame: &Frame) -> Result<Frame> {
    ensure_headroom()?;
    frame.duplicate().map_err(|_| Errno::ENOMEM)
}

/// Writes back whatever is dirty anywhere (sync(2)); returns the first error after trying all.
///
/// # Errors
/// What the file systems say.
pub fn write_back_all() -> Result<()> {
    let mut outcome = Ok(());
    let mut at = 0;
    while let Some(shrinker) = nth(at) {
        if let Some(shrinker) = shrinker.upgrade() {
            outcome = outcome.and(shrinker.write_back_all());
        }
        at += 1;
    }
    outcome
}

fn nth(at: usize) -> Option<Weak<dyn Shrink>> {
    SHRINKERS.lock().get(at).cloned()
}

/// Asks the shrinkers for `wanted` frames; returns how many came back.
pub fn reclaim(wanted: usize) -> usize {
    let mut freed = 0;
    let mut at = 0;
    while freed < wanted {
        let Some(shrinker) = nth(at) else { break };
        freed += shrinker
            .upgrade()
            .map_or(0, |shrinker| shrinker.shrink(wanted - freed));
        at += 1;
    }
    freed
}

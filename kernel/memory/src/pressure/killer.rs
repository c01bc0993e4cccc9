//! The OOM killer as memory knows it: who dies is decided further up, where there are processes.

use core::sync::atomic::{AtomicUsize, Ordering};

use abi::{Errno, Result};
use machine::frame;
use sched::WaitQueue;

/// How long a thread waits at most for what somebody else leaves before it looks again.
const WAIT_NS: u64 = 10_000_000;

/// What the killer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A process is dying, whose memory is worth waiting for.
    Wait,
    /// The calling thread is to die itself, or nobody can.
    GiveUp,
}

static KILLER: spin::Once<fn() -> Verdict> = spin::Once::new();
/// Address spaces and caches that are being freed.
static FREEING: AtomicUsize = AtomicUsize::new(0);
/// Threads that wait for memory.
static FREED: WaitQueue = WaitQueue::new();

/// Names who decides; once, at start-up. It is called by threads that hold no spin lock, and must not wait for
/// memory itself.
pub fn set_killer(killer: fn() -> Verdict) {
    KILLER.call_once(|| killer);
}

/// An address space or a cache is being freed, which nobody need die for: held meanwhile. At its end those who wait look
/// again.
#[derive(Debug)]
pub struct Freeing(());

impl Freeing {
    /// It begins.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it counts, and is no value")]
    pub fn new() -> Self {
        FREEING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        FREEING.fetch_sub(1, Ordering::Relaxed);
        FREED.wake_all();
    }
}

/// Has a process die for memory, or waits for one that is dying already.
///
/// # Errors
/// `ENOMEM` when waiting is no use.
pub(super) fn kill_or_wait() -> Result<()> {
    // The last that can be had without a death: less than is worth it otherwise.
    if frame::kept() > 0 && frame::release_kept() > 0 {
        return Ok(());
    }
    let verdict = match KILLER.get() {
        Some(_) if FREEING.load(Ordering::Relaxed) > 0 => Verdict::Wait,
        Some(killer) => killer(),
        None => Verdict::GiveUp,
    };
    if verdict == Verdict::GiveUp {
        return Err(Errno::ENOMEM);
    }
    let deadline_ns = sched::clock::monotonic_ns().saturating_add(WAIT_NS);
    // Running out of time is no failure: the caller looks again.
    let _ = FREED.wait_deadline(deadline_ns, || super::has_room().then_some(()));
    Ok(())
}

//! The OOM killer as memory knows it: who dies is decided further up, where there are processes.

use abi::{Errno, Result};
use machine::frame;
use sched::WaitQueue;

use crate::group::MemoryGroup;

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

static KILLER: spin::Once<fn(MemoryGroup) -> Verdict> = spin::Once::new();
/// Threads that wait for memory.
static FREED: WaitQueue = WaitQueue::new();

/// Names who decides, of a group and those below it; once, at start-up. It is called by threads that hold no spin lock, and must not wait for
/// memory itself.
pub fn set_killer(killer: fn(MemoryGroup) -> Verdict) {
    KILLER.call_once(|| killer);
}

/// An address space or a cache is being freed, which nobody need die for: held meanwhile. At its end those who wait look
/// again.
#[derive(Debug)]
pub struct Freeing(MemoryGroup);

impl Freeing {
    /// It begins.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it counts, and is no value")]
    pub fn new() -> Self {
        let group = MemoryGroup::current();
        group.count_freeing(true);
        Self(group)
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        self.0.count_freeing(false);
        FREED.wake_all();
    }
}

/// Has a process of a group die for memory, or waits for one that is dying already.
///
/// # Errors
/// `ENOMEM` when waiting is no use.
pub(super) fn kill_or_wait(group: MemoryGroup) -> Result<()> {
    // The last that can be had without a death: less than is worth it otherwise.
    if group == MemoryGroup::ROOT && frame::kept() > 0 && frame::release_kept() > 0 {
        return Ok(());
    }
    group.note_oom();
    let verdict = match KILLER.get() {
        Some(_) if group.is_freeing() => Verdict::Wait,
        Some(killer) => killer(group),
        None => Verdict::GiveUp,
    };
    if verdict == Verdict::GiveUp {
        return Err(Errno::ENOMEM);
    }
    let deadline_ns = sched::clock::monotonic_ns().saturating_add(WAIT_NS);
    // Running out of time is no failure: the caller looks again.
    let _ = FREED.wait_deadline(deadline_ns, || group.has_room().then_some(()));
    Ok(())
}

//! The OOM killer as memory knows it: who dies is decided further up, where there are processes.

use abi::{Errno, Result};
use machine::frame;
use sched::WaitQueue;

use crate::group::{Event, MemoryGroup};

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

/// What memory is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A page that a program cannot go on without: it dies itself if nobody else can.
    Page,
    /// A system call, which can fail.
    Call,
}

/// What is decided further up.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Has a process of a group or of those below it die. It is called by threads that hold no spin lock, and must not wait
    /// for memory itself.
    pub kill: fn(MemoryGroup, Need) -> Verdict,
    /// Whether the calling thread may use some of the frames that stay free otherwise, so that what has to keep order gets
    /// on where a fork bomb has all the memory that there is.
    pub may_use_reserve: fn() -> bool,
}

static POLICY: spin::Once<Policy> = spin::Once::new();
/// Threads that wait for memory.
static FREED: WaitQueue = WaitQueue::new();

/// Names who decides; once, at start-up.
pub fn set_policy(policy: Policy) {
    POLICY.call_once(|| policy);
}

/// [`Policy::may_use_reserve`].
#[cold]
pub(crate) fn may_use_reserve() -> bool {
    POLICY
        .get()
        .is_some_and(|policy| (policy.may_use_reserve)())
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

/// Has a process of a group die for memory, or waits for one that is dying already: until there is room for a page and
/// `more` beside it, or it is time to look again.
///
/// # Errors
/// `ENOMEM` when waiting is no use.
pub(super) fn kill_or_wait(group: MemoryGroup, more: usize, need: Need) -> Result<()> {
    // The last that can be had without a death: less than is worth it otherwise.
    if group == MemoryGroup::ROOT && frame::kept() > 0 && frame::release_kept() > 0 {
        return Ok(());
    }
    group.note(Event::Oom);
    let verdict = match POLICY.get() {
        Some(_) if group.is_freeing() => Verdict::Wait,
        Some(policy) => (policy.kill)(group, need),
        None => Verdict::GiveUp,
    };
    let me = sched::thread::current();
    if verdict == Verdict::GiveUp || me.is_killed() {
        return Err(Errno::ENOMEM);
    }
    let deadline_ns = sched::clock::monotonic_ns().saturating_add(WAIT_NS);
    // Running out of time is no failure: the caller looks again.
    let is_over = || (group.has_room(more) || me.is_killed()).then_some(());
    let _ = FREED.wait_deadline(deadline_ns, is_over);
    Ok(())
}

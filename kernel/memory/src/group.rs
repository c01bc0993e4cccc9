//! Memory groups: what a cgroup of the memory controller is to memory. Each has an account that its tasks' frames are
//! charged to (`machine::frame::account`), a limit that can be changed at any moment, queues of its pages, and counts of
//! what happened at its limit. The root group is the machine, or as much of it as its limit says.
//!
//! A thread is charged for what it allocates, by the account of its task; a process hands its group on to its children
//! (`process::Process::memory_group`). What reaches a limit is reclaimed in that group and those below it
//! ([`crate::pressure`]), and then a process of theirs dies.
//!
//! [`MemoryGroup`] names a group, [`OwnedGroup`] keeps it. When the last owner is gone, pages that are still in use
//! stay charged and in their queues, and its number is not given out again before the last one is freed.
//!
//! Locking: counters are atomics; the queues' lock is [`crate::pressure`]'s.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use machine::Frame;
use machine::frame::account::{self, AccountId, Table};
use machine::sync::SpinLock;

use self::events::Counts;
use crate::pressure::{self, Line, Queues, RESERVE_FRAMES};

mod events;

pub use events::{Event, Notifier};

/// A group, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryGroup(AccountId);

/// Keeps a group open, and those above it.
#[derive(Debug)]
pub struct OwnedGroup {
    group: MemoryGroup,
    /// Closed after it.
    above: Option<Arc<OwnedGroup>>,
}

/// What the OOM killer remembers of a group.
#[derive(Debug)]
pub struct Killing {
    /// Who was chosen last.
    pub chosen: SpinLock<Option<Weak<dyn Any + Send + Sync>>>,
    /// Until when that one is waited for, on the monotonic clock.
    pub patient_until_ns: AtomicU64,
    /// How often nobody was found since somebody was.
    pub without_victim: AtomicU32,
}

/// What memory knows of a group beside its account.
#[derive(Debug)]
struct State {
    queues: Queues,
    counts: Counts,
    /// Frames beyond which its threads are slowed down, and what reclaim leaves it if it can, and in any case.
    high: AtomicUsize,
    low: AtomicUsize,
    min: AtomicUsize,
    /// `memory.swap.max` and `memory.swap.high`: they hold, as there is no swap.
    swap: [AtomicUsize; 2],
    /// Its processes die together.
    dies_whole: AtomicBool,
    /// Address spaces that its threads are freeing.
    freeing: AtomicUsize,
    killing: Killing,
    /// Those that may use the reserve wait in the second one.
    lines: [Line; 2],
}

static ROOT: State = State::new();
static STATES: Table<State> = Table::new(State::new);

impl State {
    const fn new() -> Self {
        Self {
            queues: Queues::new(),
            counts: Counts::new(),
            high: AtomicUsize::new(usize::MAX),
            low: AtomicUsize::new(0),
            min: AtomicUsize::new(0),
            swap: [const { AtomicUsize::new(usize::MAX) }; 2],
            dies_whole: AtomicBool::new(false),
            freeing: AtomicUsize::new(0),
            killing: Killing {
                chosen: SpinLock::new(None),
                patient_until_ns: AtomicU64::new(0),
                without_victim: AtomicU32::new(0),
            },
            lines: [const { Line::new() }; 2],
        }
    }

    /// As a new group has it. No page is in the queues: its account was free.
    fn reset(&self) {
        self.counts.reset();
        self.high.store(usize::MAX, Ordering::Relaxed);
        self.low.store(0, Ordering::Relaxed);
        self.min.store(0, Ordering::Relaxed);
        for limit in &self.swap {
            limit.store(usize::MAX, Ordering::Relaxed);
        }
        self.dies_whole.store(false, Ordering::Relaxed);
        self.killing.patient_until_ns.store(0, Ordering::Relaxed);
        self.killing.without_victim.store(0, Ordering::Relaxed);
        drop(self.killing.chosen.lock().take());
    }
}

impl MemoryGroup {
    /// The machine's.
    pub const ROOT: MemoryGroup = MemoryGroup(AccountId::ROOT);

    /// That of the calling thread.
    #[must_use]
    pub fn current() -> Self {
        Self(account::current())
    }

    /// The one that a frame is charged to.
    pub(crate) fn of(frame: &Frame) -> Self {
        Self(frame.account())
    }

    /// The account, for [`sched::Thread::set_memory_account`].
    #[must_use]
    pub const fn account(self) -> AccountId {
        self.0
    }

    /// The group above.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        account::parent(self.0).map(Self)
    }

    /// Whether it is `other` or below it.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        other == Self::ROOT || self.up().any(|group| group == other)
    }

    /// It and those above it.
    pub(crate) fn up(self) -> impl Iterator<Item = Self> {
        core::iter::successors(Some(self), |group| group.parent())
    }

    /// Whether programs may have another page, and `more` beside it, as far as its own limit goes.
    pub(crate) fn has_room(self, more: usize) -> bool {
        if self == Self::ROOT {
            return pressure::has_frames(more);
        }
        account::has_room(self.0, more)
    }

    /// Which of it and those above it has no room for a page and `more`; not the root.
    pub(crate) fn short(self, more: usize) -> Option<Self> {
        account::short(self.0, more).map(Self)
    }

    /// Where its threads wait for each other before they look for room.
    pub(crate) fn line(self) -> &'static Line {
        &self.state().lines[usize::from(pressure::may_use_reserve())]
    }

    /// It and those below it, those among them that are closed and still have pages.
    pub(crate) fn subtree(self) -> impl Iterator<Item = Self> {
        account::all()
            .map(Self)
            .filter(move |group| group.is_within(self))
    }

    /// Frames charged to it and those below it; a few of them may be held for the next ones.
    #[must_use]
    pub fn usage(self) -> usize {
        account::usage(self.0)
    }

    /// The most that it was; not known of the root.
    #[must_use]
    pub fn peak(self) -> Option<usize> {
        account::peak(self.0)
    }

    /// The most frames that may be charged.
    #[must_use]
    pub fn limit(self) -> usize {
        account::limit(self.0)
    }

    /// Sets the limit. What is charged beyond it is taken back, or else processes of the group die, as far as they can
    /// and unless the calling thread is to die. The root's limit is what /proc/meminfo says there is.
    pub fn set_limit(self, frames: usize) {
        account::set_limit(self.0, frames);
        pressure::enforce(self, frames);
    }

    /// As [`Self::set_limit`], but nobody dies for it: the limit is lowered once what is in use leaves some room below it.
    ///
    /// # Errors
    /// `EBUSY` when not enough can be taken back.
    pub fn try_set_limit(self, frames: usize) -> Result<()> {
        let is_lower = frames < self.limit();
        if is_lower && !pressure::take_back(self, frames.saturating_sub(RESERVE_FRAMES)) {
            return Err(Errno::EBUSY);
        }
        account::set_limit(self.0, frames);
        Ok(())
    }

    /// Takes back what it has beyond `frames`, as far as nobody has to die for it; whether that was enough.
    #[must_use]
    pub fn reclaim_to(self, frames: usize) -> bool {
        pressure::take_back(self, frames)
    }

    /// The frames beyond which its threads are slowed down (`memory.high`).
    #[must_use]
    pub fn high(self) -> usize {
        self.state().high.load(Ordering::Relaxed)
    }

    /// Sets that, and takes back what is beyond.
    pub fn set_high(self, frames: usize) {
        self.state().high.store(frames, Ordering::Relaxed);
        // What cannot be taken back now slows its threads down.
        let _ = self.reclaim_to(frames);
    }

    /// What others' need of memory leaves it: if there is anything else (`memory.low`), and in any case (`memory.min`).
    #[must_use]
    pub fn protection(self) -> (usize, usize) {
        let state = self.state();
        let get = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
        (get(&state.low), get(&state.min))
    }

    /// Sets the former; `None` leaves one as it is.
    pub fn set_protection(self, low: Option<usize>, min: Option<usize>) {
        let state = self.state();
        let (old_low, old_min) = self.protection();
        state.low.store(low.unwrap_or(old_low), Ordering::Relaxed);
        state.min.store(min.unwrap_or(old_min), Ordering::Relaxed);
    }

    /// Whether reclaim for the sake of `root` is to leave it alone: it, or one above it and below `root`, has no more than
    /// is its own. `is_pressed`: there is nothing else, so what is only better left is not.
    pub(crate) fn is_protected(self, root: Self, is_pressed: bool) -> bool {
        self.up().take_while(|group| *group != root).any(|group| {
            let (low, min) = group.protection();
            let kept = if is_pressed { min } else { low.max(min) };
            kept > 0 && group.usage() <= kept
        })
    }

    /// The limits on its swap, `max` and `high`, of which there is none.
    #[must_use]
    pub fn swap_limits(self) -> [usize; 2] {
        let limits = &self.state().swap;
        [0, 1].map(|which| limits[which].load(Ordering::Relaxed))
    }

    /// Sets one of them.
    pub fn set_swap_limit(self, which: usize, frames: usize) {
        if let Some(limit) = self.state().swap.get(which) {
            limit.store(frames, Ordering::Relaxed);
        }
    }

    /// Whether its processes die together when one has to for want of memory (`memory.oom.group`).
    #[must_use]
    pub fn dies_whole(self) -> bool {
        self.state().dies_whole.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn set_dies_whole(self, is_whole: bool) {
        self.state().dies_whole.store(is_whole, Ordering::Relaxed);
    }

    /// The topmost group that is to die as a whole when a process of it has to, for the sake of `root`.
    #[must_use]
    pub fn dying_whole(self, root: Self) -> Option<Self> {
        let mut found = None;
        for group in self.up() {
            if group.dies_whole() {
                found = Some(group);
            }
            if group == root {
                break;
            }
        }
        found
    }

    /// Pages of files that can be read again, in it and below: those that are used often, and the others.
    #[must_use]
    pub fn cached(self) -> (usize, usize) {
        self.subtree().fold((0, 0), |sum, group| {
            let (active, inactive) = group.queues().lens();
            (sum.0 + active, sum.1 + inactive)
        })
    }

    /// What the OOM killer remembers of it.
    #[must_use]
    pub fn killing(self) -> &'static Killing {
        &self.state().killing
    }

    /// Counts an address space that is being freed, or one less.
    pub(crate) fn count_freeing(self, more: bool) {
        for group in self.up() {
            let freeing = &group.state().freeing;
            if more {
                freeing.fetch_add(1, Ordering::Relaxed);
            } else {
                freeing.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether an address space is being freed in it or below.
    pub(crate) fn is_freeing(self) -> bool {
        self.state().freeing.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn queues(self) -> &'static Queues {
        &self.state().queues
    }

    fn state(self) -> &'static State {
        if self == Self::ROOT {
            return &ROOT;
        }
        // Made when the group was; a frame names no other.
        STATES.get(self.0.index()).unwrap_or(&ROOT)
    }
}

impl OwnedGroup {
    /// A group of at most `limit` frames, below another one or the root.
    ///
    /// # Errors
    /// `ENOMEM`, also when there are too many.
    pub fn new(above: Option<Arc<OwnedGroup>>, limit: usize) -> Result<Arc<Self>> {
        let parent = above.as_ref().map_or(MemoryGroup::ROOT, |it| it.group);
        let id = account::open(parent.0, limit).map_err(|_| Errno::ENOMEM)?;
        let made = STATES.make(id.index()).map(State::reset);
        let group = Self {
            group: MemoryGroup(id),
            above,
        };
        made.map_err(|_| Errno::ENOMEM)?;
        Ok(collections::try_arc(group)?)
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> MemoryGroup {
        self.group
    }
}

impl Drop for OwnedGroup {
    /// Those above one after the other: they may be many, and all closed with it.
    fn drop(&mut self) {
        account::close(self.group.0);
        let mut next = self.above.take();
        while let Some(mut last) = next.and_then(Arc::into_inner) {
            next = last.above.take();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

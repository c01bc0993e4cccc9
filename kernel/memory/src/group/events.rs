//! What happens in groups, how often, and who waits for it (`memory.events`).
//!
//! Locking: atomics. Those that wait are woken without a spin lock held.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sched::WaitQueue;

use super::MemoryGroup;

/// What happens. In the order of `memory.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It was reclaimed from although it has no more than is to be left to it.
    Low,
    /// It has more than it should.
    High,
    /// The limit was reached.
    Max,
    /// Nothing could be taken back.
    Oom,
    /// A process died for it.
    OomKill,
    /// All its processes did.
    OomGroupKill,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 6;

impl Event {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); KINDS] = [
        (Event::Low, "low"),
        (Event::High, "high"),
        (Event::Max, "max"),
        (Event::Oom, "oom"),
        (Event::OomKill, "oom_kill"),
        (Event::OomGroupKill, "oom_group_kill"),
    ];
}

/// Counts the changes of something, and tells those that wait for one.
#[derive(Debug)]
pub struct Notifier {
    version: AtomicU64,
    /// It has changed since those that wait were told.
    is_untold: AtomicBool,
    /// Where they wait.
    pub changed: WaitQueue,
}

impl Notifier {
    /// One that counts its making as the first change.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is in statics")]
    pub const fn new() -> Self {
        Self {
            version: AtomicU64::new(1),
            is_untold: AtomicBool::new(false),
            changed: WaitQueue::new(),
        }
    }

    /// How often it has changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// It has changed. Somebody is to [`tell`](Self::tell) it when there is no spin lock held.
    pub fn count(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.is_untold.store(true, Ordering::SeqCst);
    }

    /// Wakes those that wait, if it has changed.
    pub fn tell(&self) {
        if self.is_untold.swap(false, Ordering::SeqCst) {
            self.changed.wake_all();
        }
    }
}

/// The counts of a group: of what happened in it or below, and of what happened in it alone.
#[derive(Debug)]
pub(super) struct Counts {
    all: [AtomicU64; KINDS],
    own: [AtomicU64; KINDS],
    notifiers: [Notifier; 2],
}

impl Counts {
    pub(super) const fn new() -> Self {
        Self {
            all: [const { AtomicU64::new(0) }; KINDS],
            own: [const { AtomicU64::new(0) }; KINDS],
            notifiers: [const { Notifier::new() }; 2],
        }
    }

    pub(super) fn reset(&self) {
        for count in self.all.iter().chain(&self.own) {
            count.store(0, Ordering::Relaxed);
        }
    }
}

impl MemoryGroup {
    /// How often something happened, in it and below or (`is_local`) in it alone.
    #[must_use]
    pub fn events(self, event: Event, is_local: bool) -> u64 {
        let counts = &self.state().counts;
        let kinds = if is_local { &counts.own } else { &counts.all };
        kinds[event as usize].load(Ordering::Relaxed)
    }

    /// What tells that the former have changed.
    #[must_use]
    pub fn event_notifier(self, is_local: bool) -> &'static Notifier {
        &self.state().counts.notifiers[usize::from(is_local)]
    }

    /// Something has happened in it. No spin lock is held.
    pub fn note(self, event: Event) {
        let own = &self.state().counts;
        own.own[event as usize].fetch_add(1, Ordering::Relaxed);
        own.notifiers[1].count();
        own.notifiers[1].tell();
        for group in self.up() {
            let counts = &group.state().counts;
            counts.all[event as usize].fetch_add(1, Ordering::Relaxed);
            counts.notifiers[0].count();
            counts.notifiers[0].tell();
        }
    }
}

//! What gives memory back: the pages of files by age ([`lru`]), then other caches, asked in turn.
//!
//! Locking: the list is a leaf spin lock, never held while one of its members is asked.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicUsize, Ordering};

use abi::Result;
use collections::Vec;
use machine::frame;
use machine::sync::SpinLock;

use super::lru::FILES;
use crate::group::{Event, MemoryGroup};

/// How often other caches are asked before a process of a group dies.
const ROUNDS: usize = 4;

/// Something that can free frames on request.
pub trait Shrink: Send + Sync {
    /// Frees up to `wanted` frames that nobody needs right now; returns how many it freed. Must not
    /// sleep or allocate.
    fn shrink(&self, wanted: usize) -> usize;
}

/// Who is asked, in a circle.
struct Shrinkers(SpinLock<Circle>);

struct Circle {
    all: Vec<Weak<dyn Shrink>>,
    /// Who is next.
    hand: usize,
}

static SHRINKERS: Shrinkers = Shrinkers::new();

/// Adds a shrinker for as long as it lives.
///
/// # Errors
/// `ENOMEM`.
pub fn register(shrinker: Weak<dyn Shrink>) -> Result<()> {
    SHRINKERS.add(shrinker)
}

/// Takes `wanted` frames back in a group and those below it: what CPUs and pools keep, the pages of files that are
/// least worth keeping, what other caches have. Returns how many came back. May give the CPU away: no spin lock may be
/// held.
pub(super) fn reclaim_in(group: MemoryGroup, wanted: usize) -> usize {
    if group == MemoryGroup::ROOT {
        return reclaim(wanted);
    }
    let pages = reclaim_pages(group, wanted);
    if pages > 0 {
        return pages;
    }
    let before = group.usage();
    // What CPUs hold charged, and objects whose pages it has paid for.
    frame::release_kept();
    // Other caches are nobody's: a neighbour's entries may go along with the group's own, which is better than that a
    // process dies for what can be found again. What counts is what the group has less of.
    for _ in 0..ROUNDS {
        if group.usage() < before || SHRINKERS.reclaim(wanted) == 0 {
            break;
        }
        frame::release_kept();
    }
    before.saturating_sub(group.usage())
}

fn reclaim(wanted: usize) -> usize {
    let mut freed = 0;
    if frame::kept() >= wanted {
        freed += frame::release_kept();
    }
    if freed < wanted {
        freed += reclaim_pages(MemoryGroup::ROOT, wanted - freed);
    }
    if freed < wanted {
        freed += SHRINKERS.reclaim(wanted - freed);
    }
    freed
}

/// Takes pages of files back that a group or one below it has paid for, from one group more or less after the
/// other.
fn reclaim_pages(group: MemoryGroup, wanted: usize) -> usize {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let count = group.subtree().count();
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % count.max(1);
    let in_turn = group.subtree().skip(turn).chain(group.subtree().take(turn));
    let mut freed = 0;
    for member in in_turn.filter(|member| !member.is_protected(group, false)) {
        if freed >= wanted {
            break;
        }
        freed += member.queues().reclaim(wanted - freed);
    }
    if freed > 0 {
        return freed;
    }
    // Nothing but what was to be left if there is anything else.
    let is_low = |member: &MemoryGroup| {
        member.is_protected(group, false) && !member.is_protected(group, true)
    };
    for member in group.subtree().filter(is_low) {
        if freed >= wanted {
            break;
        }
        let taken = member.queues().reclaim(wanted - freed);
        if taken > 0 {
            member.note(Event::Low);
        }
        freed += taken;
    }
    freed
}

/// Lets go of every page of a file that can be read again and that nobody uses (/proc/sys/vm/drop_caches).
pub fn drop_pages() {
    for group in MemoryGroup::ROOT.subtree() {
        let queues = group.queues();
        let mut before = queues.lens();
        // One look takes no more than what was not used since the last one.
        while queues.reclaim(usize::MAX) > 0 && queues.lens() != before {
            before = queues.lens();
        }
    }
}

/// Writes back whatever is dirty anywhere (sync(2)); returns the first error after trying all.
///
/// # Errors
/// What the file systems say.
pub fn write_back_all() -> Result<()> {
    let mut outcome = Ok(());
    FILES.each(|mapping| {
        outcome = outcome.and(mapping.write_back(0..u64::MAX));
        false
    });
    outcome
}

impl Shrinkers {
    const fn new() -> Self {
        Self(SpinLock::new(Circle {
            all: Vec::new(),
            hand: 0,
        }))
    }

    fn add(&self, shrinker: Weak<dyn Shrink>) -> Result<()> {
        let mut circle = self.0.lock();
        if circle.all.len() == circle.all.capacity() {
            circle.all.retain(|it| it.strong_count() > 0);
        }
        Ok(circle.all.try_push(shrinker)?)
    }

    /// Asks each at most once, beginning behind the one that was asked last.
    fn reclaim(&self, wanted: usize) -> usize {
        let count = self.0.lock().all.len();
        let mut freed = 0;
        for _ in 0..count {
            if freed >= wanted {
                break;
            }
            // Its last reference may be dropped here, with no lock held.
            if let Some(shrinker) = self.next() {
                freed += shrinker.shrink(wanted - freed);
            }
        }
        freed
    }

    fn next(&self) -> Option<Arc<dyn Shrink>> {
        let mut circle = self.0.lock();
        let count = circle.all.len();
        let at = circle.hand.checked_rem(count)?;
        if let Some(shrinker) = circle.all[at].upgrade() {
            circle.hand = at + 1;
            return Some(shrinker);
        }
        // The last one takes the place of one that is gone, and is asked next.
        drop(circle.all.swap_remove(at));
        circle.hand = at;
        None
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Cache(AtomicUsize);

    impl Shrink for Cache {
        fn shrink(&self, wanted: usize) -> usize {
            let had = self.0.load(Ordering::Relaxed);
            self.0.store(had.saturating_sub(wanted), Ordering::Relaxed);
            had.min(wanted)
        }
    }

    #[test]
    fn caches_are_asked_in_turn() {
        let shrinkers = Shrinkers::new();
        let caches = [10, 10].map(|frames| Arc::new(Cache(AtomicUsize::new(frames))));
        for cache in &caches {
            let weak: Weak<dyn Shrink> = Arc::<Cache>::downgrade(cache);
            shrinkers.add(weak).unwrap();
        }
        let gone: Arc<dyn Shrink> = Arc::new(Cache(AtomicUsize::new(100)));
        shrinkers.add(Arc::downgrade(&gone)).unwrap();
        drop(gone);
        assert_eq!(shrinkers.reclaim(4), 4);
        assert_eq!(shrinkers.reclaim(4), 4);
        assert!(
            caches.iter().all(|it| it.0.load(Ordering::Relaxed) == 6),
            "one after the other"
        );
        assert_eq!(shrinkers.reclaim(15), 12);
        assert_eq!(shrinkers.reclaim(15), 0);
    }
}

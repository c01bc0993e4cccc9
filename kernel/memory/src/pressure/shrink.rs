//! What gives memory back: caches, asked in turn.
//!
//! Locking: the list is a leaf spin lock, never held while one of its members is asked.

use alloc::sync::{Arc, Weak};

use abi::Result;
use collections::Vec;
use machine::sync::SpinLock;

/// Something that can free frames on request.
pub trait Shrink: Send + Sync {
    /// Frees up to `wanted` frames that nobody needs right now; returns how many it freed. Must not
    /// sleep or allocate.
    fn shrink(&self, wanted: usize) -> usize;

    /// As [`Self::shrink`], and takes away what programs have mapped but did not use lately.
    fn shrink_mapped(&self, wanted: usize) -> usize {
        let _ = wanted;
        0
    }

    /// Writes back what is dirty (sync(2)); may sleep.
    ///
    /// # Errors
    /// What the file system says.
    fn write_back_all(&self) -> Result<()> {
        Ok(())
    }
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

/// Takes `wanted` frames back: from caches that nobody maps, and if that is not enough from programs. Returns how
/// many came back.
pub fn reclaim(wanted: usize) -> usize {
    SHRINKERS.reclaim(wanted)
}

/// Writes back whatever is dirty anywhere (sync(2)); returns the first error after trying all.
///
/// # Errors
/// What the file systems say.
pub fn write_back_all() -> Result<()> {
    let mut outcome = Ok(());
    let mut at = 0;
    while let Some(shrinker) = SHRINKERS.nth(at) {
        if let Some(shrinker) = shrinker.upgrade() {
            outcome = outcome.and(shrinker.write_back_all());
        }
        at += 1;
    }
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

    fn reclaim(&self, wanted: usize) -> usize {
        let freed = self.ask_in_turn(wanted, |shrinker, wanted| shrinker.shrink(wanted));
        if freed >= wanted {
            return freed;
        }
        freed
            + self.ask_in_turn(wanted - freed, |shrinker, wanted| {
                shrinker.shrink_mapped(wanted)
            })
    }

    /// Asks each at most once, beginning behind the one that was asked last.
    fn ask_in_turn(&self, wanted: usize, ask: impl Fn(&dyn Shrink, usize) -> usize) -> usize {
        let count = self.0.lock().all.len();
        let mut freed = 0;
        for _ in 0..count {
            if freed >= wanted {
                break;
            }
            // Its last reference may be dropped here, with no lock held.
            if let Some(shrinker) = self.next() {
                freed += ask(&*shrinker, wanted - freed);
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

    fn nth(&self, at: usize) -> Option<Weak<dyn Shrink>> {
        self.0.lock().all.get(at).cloned()
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Cache {
        free: AtomicUsize,
        mapped: AtomicUsize,
    }

    impl Cache {
        fn new(free: usize, mapped: usize) -> Arc<Self> {
            Arc::new(Self {
                free: AtomicUsize::new(free),
                mapped: AtomicUsize::new(mapped),
            })
        }
    }

    fn take(from: &AtomicUsize, wanted: usize) -> usize {
        let had = from.load(Ordering::Relaxed);
        from.store(had.saturating_sub(wanted), Ordering::Relaxed);
        had.min(wanted)
    }

    impl Shrink for Cache {
        fn shrink(&self, wanted: usize) -> usize {
            take(&self.free, wanted)
        }

        fn shrink_mapped(&self, wanted: usize) -> usize {
            take(&self.mapped, wanted)
        }
    }

    #[test]
    fn caches_are_asked_in_turn_and_what_is_mapped_goes_last() {
        let shrinkers = Shrinkers::new();
        let caches = [Cache::new(10, 3), Cache::new(10, 4)];
        for cache in &caches {
            let weak: Weak<dyn Shrink> = Arc::<Cache>::downgrade(cache);
            shrinkers.add(weak).unwrap();
        }
        let gone: Arc<dyn Shrink> = Cache::new(100, 100);
        shrinkers.add(Arc::downgrade(&gone)).unwrap();
        drop(gone);
        let left = |of: fn(&Cache) -> &AtomicUsize| -> usize {
            caches.iter().map(|it| of(it).load(Ordering::Relaxed)).sum()
        };
        assert_eq!(shrinkers.reclaim(4), 4);
        assert_eq!(shrinkers.reclaim(4), 4);
        assert!(
            caches.iter().all(|it| it.free.load(Ordering::Relaxed) == 6),
            "one after the other"
        );
        assert_eq!(left(|it| &it.mapped), 7);
        assert_eq!(shrinkers.reclaim(15), 15);
        assert_eq!((left(|it| &it.free), left(|it| &it.mapped)), (0, 4));
        assert_eq!(shrinkers.reclaim(15), 4);
    }
}

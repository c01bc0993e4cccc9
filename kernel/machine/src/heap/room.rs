//! What an allocation does that has found no memory: where it may sleep it has room made for it, by who knows what can be
//! taken back and who can die ([`set_room_maker`]), and tries again. Where it may not it fails at once.
//!
//! Sleeping locks may be held, whose holders those that are to give memory back may wait for: so room is asked for a bounded
//! number of times, and in the end the allocation fails.

use super::slab::Place;
use crate::sync::may_sleep;

/// So often an allocation asks for room.
const MOST_TRIES: usize = 100;
/// Up to so many pages an allocation is worth somebody's life (Linux's `PAGE_ALLOC_COSTLY_ORDER`).
const FEW_PAGES: usize = 8;

/// How far to go for an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Take back so many frames that nobody misses.
    Reclaim(usize),
    /// A small one: also have a process die.
    Kill,
}

static ROOM_MAKER: spin::Once<fn(Effort) -> bool> = spin::Once::new();

/// Names who makes room; once, at start-up. It is called where the caller may sleep, must not allocate without
/// noticing that it is called by itself, and says whether it is worth trying again.
pub fn set_room_maker(maker: fn(Effort) -> bool) {
    ROOM_MAKER.call_once(|| maker);
}

/// Tries again while room is made for `place`.
#[cold]
pub(super) fn find<T>(place: Place, take: impl FnMut() -> Option<T>) -> Option<T> {
    if !may_sleep() {
        return None;
    }
    find_with(*ROOM_MAKER.get()?, effort_for(place), take)
}

fn effort_for(place: Place) -> Effort {
    match place {
        Place::Object(_) => Effort::Kill,
        Place::Pages { count, .. } if count <= FEW_PAGES => Effort::Kill,
        Place::Pages { count, .. } => Effort::Reclaim(count),
    }
}

fn find_with<T>(
    make_room: impl Fn(Effort) -> bool,
    effort: Effort,
    mut take: impl FnMut() -> Option<T>,
) -> Option<T> {
    (0..MOST_TRIES)
        .take_while(|_| make_room(effort))
        .find_map(|_| take())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_large_is_worth_no_life() {
        let pages = |count| Place::Pages {
            count,
            beside: true,
            mapped: true,
        };
        assert_eq!(effort_for(Place::Object(3)), Effort::Kill);
        assert_eq!(effort_for(pages(8)), Effort::Kill);
        assert_eq!(effort_for(pages(9)), Effort::Reclaim(9));
    }

    #[test]
    fn it_is_tried_again_while_room_is_made_and_not_for_ever() {
        let rounds = Cell::new(0);
        let count = |_| {
            rounds.set(rounds.get() + 1);
            true
        };
        let third = || (rounds.get() == 3).then_some(7);
        assert_eq!(find_with(count, Effort::Kill, third), Some(7));
        rounds.set(0);
        assert_eq!(find_with(count, Effort::Kill, || None::<()>), None);
        assert_eq!(rounds.get(), MOST_TRIES);
        assert_eq!(find_with(|_| false, Effort::Kill, || Some(7)), None);
    }

    #[test]
    fn who_may_not_sleep_has_no_room_made() {
        set_room_maker(|_| true);
        assert_eq!(find(Place::Object(0), || Some(7)), Some(7));
        let lock = crate::sync::SpinLock::new(());
        let _held = lock.lock();
        assert_eq!(find(Place::Object(0), || Some(7)), None);
    }
}

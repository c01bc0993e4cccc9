//! The living threads of a process, oldest first.
//!
//! Part of the signal state and under its lock. A thread knows its place, so that leaving does not look at
//! the others.

use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::Ordering;

use abi::Result;
use collections::Map;

use crate::task::numbers::Place;
use crate::task::thread::Thread;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    places: Map<Place, Arc<Thread>>,
    last: u64,
}

impl Threads {
    /// Adds the youngest.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push(&mut self, thread: &Arc<Thread>) -> Result<()> {
        self.last += 1;
        thread.place.store(self.last, Ordering::Relaxed);
        self.places.try_insert(Place(self.last), thread.clone())?;
        Ok(())
    }

    /// Takes `thread` out, if it is here.
    pub(crate) fn remove(&mut self, thread: &Thread) {
        // Not the last reference: the caller has one.
        self.places.remove(&thread.place());
    }

    /// The threads, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Thread>> {
        self.places.values()
    }

    /// The thread at `place`.
    pub(crate) fn at(&self, place: Place) -> Option<&Arc<Thread>> {
        self.places.get(&place)
    }

    /// The oldest of those that came behind `place`.
    pub(crate) fn behind(&self, place: Place) -> Option<&Arc<Thread>> {
        let behind = (Bound::Excluded(place), Bound::Unbounded);
        self.places.range(behind).next().map(|(_, thread)| thread)
    }

    /// The oldest.
    pub(crate) fn first(&self) -> Option<&Arc<Thread>> {
        self.places.first_key_value().map(|(_, thread)| thread)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

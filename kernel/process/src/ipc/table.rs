//! The objects of one kind in a namespace, by id and by key.
//!
//! An id is a place and how often places were gone through (Linux's `ipc_ids`), so that an id which was used is not
//! given again soon.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use sched::Mutex;

use super::header::{Header, Permission};
use super::{CREATE, EXCLUSIVE};

/// Bits of an id that are the place.
const PLACE_BITS: u32 = 15;
/// Places there are; no limit on objects can be higher.
pub const PLACES: u32 = 1 << PLACE_BITS;
/// Rounds through the places before ids begin anew.
const ROUNDS: u32 = (i32::MAX >> PLACE_BITS).unsigned_abs();
/// Places that are gone through at least before one is used again.
const CYCLE: u32 = 64;

/// An object of a kind.
pub trait Object {
    /// What it has in common with others.
    fn header(&self) -> &Header;
}

/// What a `*get` call found.
#[derive(Debug)]
pub enum Found<T> {
    /// One that was there.
    Old(Arc<T>),
    /// One that was made.
    New(Arc<T>),
}

/// See the module.
#[derive(Debug)]
pub struct Table<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    /// By place; the last is taken.
    objects: Vec<Option<Arc<T>>>,
    /// How many places are taken.
    len: u32,
    keys: Keys,
    /// The place given last.
    last: Option<u32>,
    round: u32,
}

/// Which place a key leads to, in the order of the keys.
#[derive(Debug)]
struct Keys(Vec<(i32, u32)>);

impl Keys {
    fn find(&self, key: i32) -> core::result::Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }

    fn get(&self, key: i32) -> Option<u32> {
        self.find(key).ok().map(|at| self.0[at].1)
    }

    fn insert(&mut self, key: i32, place: u32) -> Result<()> {
        if let Err(at) = self.find(key) {
            self.0.try_insert(at, (key, place))?;
        }
        Ok(())
    }

    fn remove(&mut self, key: i32) {
        if let Ok(at) = self.find(key) {
            self.0.remove(at);
        }
    }
}

impl<T: Object> Table<T> {
    /// An empty one.
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Inner {
            objects: Vec::new(),
            len: 0,
            keys: Keys(Vec::new()),
            last: None,
            round: 0,
        }))
    }

    /// The object that `permission.key` names, or a new one that `make` makes (with `make` failing, none); `most` objects
    /// there may be.
    ///
    /// # Errors
    /// `ENOENT` without [`CREATE`], `EEXIST` with [`EXCLUSIVE`], `ENOSPC`, `ENOMEM`, and those of `make`.
    pub fn find_or_make(
        &self,
        permission: Permission,
        flags: u32,
        most: u32,
        make: impl FnOnce(Header) -> Result<T>,
    ) -> Result<Found<T>> {
        let mut inner = self.0.lock();
        if permission.key != 0 {
            let place = inner.keys.get(permission.key);
            if let Some(object) = place.and_then(|place| inner.get(place)) {
                return match flags & (CREATE | EXCLUSIVE) {
                    both if both == CREATE | EXCLUSIVE => Err(Errno::EEXIST),
                    _ => Ok(Found::Old(object.clone())),
                };
            }
            if flags & CREATE == 0 {
                return Err(Errno::ENOENT);
            }
        }
        let (place, round) = inner.free_place(most)?;
        let id = round << PLACE_BITS | place;
        let object = try_arc(make(Header::new(id.cast_signed(), permission))?)?;
        if permission.key != 0 {
            inner.keys.insert(permission.key, place)?;
        }
        if let Err(errno) = inner.put(place, object.clone()) {
            inner.keys.remove(permission.key);
            return Err(errno);
        }
        (inner.last, inner.round) = (Some(place), round);
        Ok(Found::New(object))
    }

    /// The object with this id.
    ///
    /// # Errors
    /// `EINVAL` when there is none.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        let place = id.cast_unsigned() & (PLACES - 1);
        let object = self.0.lock().get(place).cloned();
        let object = object.filter(|object| object.header().id() == id);
        object.ok_or(Errno::EINVAL)
    }

    /// The object at a place: what `*_STAT` commands ask for.
    ///
    /// # Errors
    /// `EINVAL` when there is none.
    pub fn at_place(&self, place: i32) -> Result<Arc<T>> {
        let place = place.cast_unsigned() & (PLACES - 1);
        let object = self.0.lock().get(place).cloned();
        object.ok_or(Errno::EINVAL)
    }

    /// All of them, in the order of their places. What comes and goes meanwhile may be missed.
    pub fn iter(&self) -> impl Iterator<Item = Arc<T>> {
        let mut next = 0;
        core::iter::from_fn(move || {
            sched::cond_resched();
            let inner = self.0.lock();
            let rest = inner.objects.get(next..)?;
            let skipped = rest.iter().position(Option::is_some)?;
            next += skipped + 1;
            rest[skipped].clone()
        })
    }

    /// How many there are, and the highest place that is taken (0 when none is).
    #[must_use]
    pub fn extent(&self) -> (u32, u32) {
        let inner = self.0.lock();
        let places = u32::try_from(inner.objects.len()).unwrap_or(u32::MAX);
        (inner.len, places.saturating_sub(1))
    }

    /// Takes an object out; whether it was there.
    pub(super) fn remove(&self, object: &T) -> bool {
        let mut inner = self.0.lock();
        inner.forget_key(object);
        let place = object.header().id().cast_unsigned() & (PLACES - 1);
        let is_there = inner
            .get(place)
            .is_some_and(|there| core::ptr::eq(Arc::as_ptr(there), object));
        let gone = if is_there { inner.take(place) } else { None };
        drop(inner);
        drop(gone);
        is_there
    }

    /// Has its key find it no more.
    pub(super) fn forget_key(&self, object: &T) {
        self.0.lock().forget_key(object);
    }
}

impl<T: Object> Inner<T> {
    fn get(&self, place: u32) -> Option<&Arc<T>> {
        self.objects.get(place as usize)?.as_ref()
    }

    fn put(&mut self, place: u32, object: Arc<T>) -> Result<()> {
        let place = place as usize;
        while self.objects.len() <= place {
            self.objects.try_push(None)?;
        }
        self.objects[place] = Some(object);
        self.len += 1;
        Ok(())
    }

    fn take(&mut self, place: u32) -> Option<Arc<T>> {
        let gone = self.objects.get_mut(place as usize)?.take()?;
        self.len -= 1;
        while let Some(None) = self.objects.last() {
            self.objects.pop();
        }
        Some(gone)
    }

    /// Where the next object goes, and in which round.
    fn free_place(&self, most: u32) -> Result<(u32, u32)> {
        if self.len >= most {
            return Err(Errno::ENOSPC);
        }
        // As on Linux, so that as many again as half of those in use are gone through before one is used again.
        let end = (self.len * 3 / 2).clamp(CYCLE, PLACES);
        let from = self.last.map_or(0, |last| last + 1);
        let is_free = |place: &u32| self.get(*place).is_none();
        let place = (from..end).find(is_free);
        let place = place.or_else(|| (0..from.min(end)).find(is_free));
        let place = place.ok_or(Errno::ENOSPC)?;
        let round = match self.last {
            Some(last) if place <= last => (self.round + 1) % ROUNDS,
            _ => self.round,
        };
        Ok((place, round))
    }

    fn forget_key(&mut self, object: &T) {
        let header = object.header();
        let key = header.permission().key;
        if key != 0 {
            self.keys.remove(key);
            header.forget_key();
        }
    }
}

impl<T> Drop for Table<T> {
    /// One by one: there may be thousands, each with what it holds.
    fn drop(&mut self) {
        let inner = self.0.get_mut();
        while let Some(gone) = inner.objects.pop() {
            drop(gone);
            sched::cond_resched();
        }
    }
}

//! The table of names: finds what a name in a directory stands for without a lock, and keeps alive what nobody uses
//! at the moment. It is bounded; a set that is full lets go of what was not looked up since it last had to.
//!
//! **Readers** ([`find`]) hold an RCU read section. An [`Entry`] holds for as long as its generation is the dentry's:
//! whoever changes what a name means counts that up first ([`Dentry::end_name`]), so that nobody finds the old
//! meaning after the change, whatever is still in the table.
//!
//! **Writers** hold `CHANGES`, a leaf spin lock. What they take out is let go of with no spin lock held, once no
//! reader can be at it.
//!
//! When memory is short a kernel thread takes out what was not looked up lately, and with the last name of an inode that
//! nobody uses goes the inode: letting go of it may sleep, which who looks for memory must not. Nobody dies for want of
//! memory while the thread is at it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use abi::Result;
use collections::try_arc;
use machine::sync::SpinLock;
use memory::pressure::{self, Freeing, Shrink};
use sched::WaitQueue;
use sched::rcu::{self, Rcu, ReadGuard, Retired};
use sched::thread::ThreadBuilder;

use super::Dentry;
use crate::file_system::SuperBlock;

const SETS: usize = 2048;
const WAYS: usize = 4;
/// With fewer entries there is nothing worth taking back.
const FEW: usize = 256;
/// A small machine has fewer entries than the table has room for: one for so many frames.
const FRAMES_PER_ENTRY: usize = 16;
/// Entries that are let go of for each frame that is wanted: their objects share pages with others.
const ENTRIES_PER_FRAME: usize = 16;

/// Sets that share a word of [`OCCUPIED`].
const PER_WORD: usize = u64::BITS as usize;

type Set = [Rcu<Entry>; WAYS];

static TABLE: [Set; SETS] = [const { [const { Rcu::empty() }; WAYS] }; SETS];
/// A bit for each set, clear only if the set is empty: most are, and a walk over the table leaves them out. Changed
/// with `CHANGES` held.
static OCCUPIED: [AtomicU64; SETS / PER_WORD] = [const { AtomicU64::new(0) }; SETS / PER_WORD];
static CHANGES: SpinLock<Changes> = SpinLock::new(Changes {
    len: 0,
    hand: 0,
    pruner: None,
});

/// What one name in one directory stands for.
#[derive(Debug)]
struct Entry {
    /// The address of the directory's dentry, which the dentry below keeps alive while the entry holds.
    directory: usize,
    name: Arc<[u8]>,
    dentry: Arc<Dentry>,
    /// The dentry's when this was made.
    generation: u32,
}

impl Entry {
    fn holds(&self) -> bool {
        self.dentry.generation() == self.generation
    }

    fn is_of(&self, directory: &Dentry, name: &[u8]) -> bool {
        self.directory == address(directory) && *self.name == *name
    }
}

struct Changes {
    /// Entries in the table.
    len: usize,
    /// Where the search for one to evict begins.
    hand: usize,
    /// Made with the first entries that are worth it.
    pruner: Option<Arc<Pruner>>,
}

fn address(dentry: &Dentry) -> usize {
    core::ptr::from_ref(dentry).addr()
}

/// The number of the set for `name` in `directory`.
fn number_of(directory: &Dentry, name: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = address(directory) as u64;
    let words = name.chunks_exact(8);
    let rest = words.remainder();
    for word in words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        hash = (hash ^ u64::from_ne_bytes(bytes)).wrapping_mul(FACTOR);
        hash ^= hash >> 32;
    }
    let rest = rest
        .iter()
        .fold(1_u64, |rest, byte| rest << 8 | u64::from(*byte));
    hash = (hash ^ rest).wrapping_mul(FACTOR);
    usize::try_from(hash >> 40).unwrap_or(0) % SETS
}

/// The set for `name` in `directory`.
fn set_of(directory: &Dentry, name: &[u8]) -> &'static Set {
    &TABLE[number_of(directory, name)]
}

/// The word and the bit of a set in [`OCCUPIED`].
fn occupied(number: usize) -> (&'static AtomicU64, u64) {
    (&OCCUPIED[number / PER_WORD], 1 << (number % PER_WORD))
}

/// What `name` in `directory` stands for, if the table knows. An answer that was true when the guard was made, or
/// later.
#[inline]
pub(crate) fn find<'g>(
    guard: &'g ReadGuard,
    directory: &Dentry,
    name: &[u8],
) -> Option<&'g Arc<Dentry>> {
    let entry = set_of(directory, name)
        .iter()
        .filter_map(|way| way.get(guard))
        .find(|entry| entry.is_of(directory, name))?;
    entry.dentry.note_use();
    entry.holds().then_some(&entry.dentry)
}

/// Enters `dentry`, which was `name` in `directory` at `generation`, in place of what the table said of the name.
/// Without memory the table says nothing of it.
pub(super) fn keep(dentry: &Arc<Dentry>, directory: &Dentry, name: &Arc<[u8]>, generation: u32) {
    let new = try_arc(Entry {
        directory: address(directory),
        name: name.clone(),
        dentry: dentry.clone(),
        generation,
    });
    let new = new.ok();
    let number = number_of(directory, name);
    let mut changes = CHANGES.lock();
    let way = changes.way_for(&TABLE[number], directory, name);
    let super_block = dentry.super_block();
    if new.is_some() {
        let (word, bit) = occupied(number);
        word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        changes.len += 1;
        super_block.count_cached(1);
    }
    let old = changes.replace(way, new);
    let needs_pruner = changes.pruner.is_none() && changes.len > 2 * FEW;
    drop(changes);
    old.into_iter().for_each(rcu::retire);
    if needs_pruner {
        // Without memory for it the table is bounded nevertheless.
        let _ = Pruner::start();
    }
}

/// Takes `dentry` out where it is entered as `name` in `directory`: the name is gone, so nobody will look it up
/// again, and what it holds should go with its last user.
pub(super) fn forget(dentry: &Dentry, directory: &Dentry, name: &[u8]) {
    let is_it = |entry: &Entry| core::ptr::eq(Arc::as_ptr(&entry.dentry), dentry);
    let mut changes = CHANGES.lock();
    let way = set_of(directory, name)
        .iter()
        .find(|way| way.read(|entry| entry.is_some_and(is_it)));
    let old = way.and_then(|way| changes.replace(way, None));
    drop(changes);
    old.into_iter().for_each(rcu::retire);
}

impl Changes {
    /// The way of `set` that has the name, or is empty, or is to be given up.
    fn way_for<'s>(&mut self, set: &'s Set, directory: &Dentry, name: &[u8]) -> &'s Rcu<Entry> {
        let guard = ReadGuard::new();
        let mut free = None;
        for way in set {
            match way.get(&guard) {
                Some(entry) if entry.is_of(directory, name) => return way,
                Some(entry) if entry.holds() => {}
                _ => free = free.or(Some(way)),
            }
        }
        let is_full = self.len >= machine::frame::total() / FRAMES_PER_ENTRY;
        if let Some(way) = free.filter(|_| !is_full || self.len <= FEW) {
            return way;
        }
        self.hand = self.hand.wrapping_add(1);
        let was_used =
            |way: &Rcu<Entry>| way.read(|entry| entry.is_some_and(|entry| entry.dentry.take_use()));
        let order = (0..WAYS).map(|step| &set[(self.hand + step) % WAYS]);
        let mut taken = order.filter(|way| way.read(|entry| entry.is_some()));
        let first = taken.clone().next();
        let unused = taken.find(|way| !was_used(way));
        unused.or(first).or(free).unwrap_or(&set[0])
    }

    /// Puts `new` in and counts what was there out.
    fn replace(&mut self, way: &Rcu<Entry>, new: Option<Arc<Entry>>) -> Option<Retired> {
        way.read(|old| {
            if let Some(old) = old {
                self.len -= 1;
                old.dentry.super_block().count_cached(-1);
            }
        });
        way.swap(new)
    }
}

/// Takes the entry of a way out if it `is_wanted`; whether it was.
fn take_out(way: &Rcu<Entry>, is_wanted: impl Fn(&Entry) -> bool) -> bool {
    let has = || way.read(|entry| entry.is_some_and(&is_wanted));
    if !has() {
        return false;
    }
    let mut changes = CHANGES.lock();
    // Another one may be there by now.
    let old = has().then(|| changes.replace(way, None)).flatten();
    drop(changes);
    let was_there = old.is_some();
    old.into_iter().for_each(rcu::retire);
    was_there
}

/// Takes out what `is_wanted` of the table, set by set, until `is_done`. What is entered meanwhile may stay.
fn clear(is_wanted: impl Fn(&Entry) -> bool, is_done: impl Fn() -> bool) {
    for (word, sets) in OCCUPIED.iter().zip(TABLE.chunks(PER_WORD)) {
        let mut left = word.load(Ordering::Relaxed);
        while left != 0 {
            if is_done() {
                return;
            }
            let number = left.trailing_zeros();
            left &= left - 1;
            let set = &sets[number as usize];
            for way in set {
                take_out(way, &is_wanted);
            }
            note_if_empty(word, 1 << number, set);
            sched::cond_resched();
        }
    }
}

/// Clears a set's bit if the set is empty now.
fn note_if_empty(word: &AtomicU64, bit: u64, set: &Set) {
    // Nobody enters a name meanwhile.
    let changes = CHANGES.lock();
    if set.iter().all(|way| way.read(|entry| entry.is_none())) {
        word.store(word.load(Ordering::Relaxed) & !bit, Ordering::Relaxed);
    }
    drop(changes);
}

/// Takes up to `wanted` entries out, beginning behind where it last stopped: what was looked up since then stays if there
/// is enough else. At least [`FEW`] stay.
fn prune(wanted: usize) {
    static HAND: AtomicUsize = AtomicUsize::new(0);
    let mut left = wanted;
    for step in 0..2 * SETS {
        if left == 0 || CHANGES.lock().len <= FEW {
            return;
        }
        let number = HAND.fetch_add(1, Ordering::Relaxed) % SETS;
        let (word, bit) = occupied(number);
        if word.load(Ordering::Relaxed) & bit == 0 {
            continue;
        }
        let set = &TABLE[number];
        for way in set {
            let is_old = |entry: &Entry| step >= SETS || !entry.dentry.is_used();
            if take_out(way, is_old) {
                left = left.saturating_sub(1);
            } else {
                way.read(|entry| entry.map(|entry| entry.dentry.take_use()));
            }
        }
        sched::cond_resched();
    }
}

/// Lets go of every name that nobody uses, and of the inodes that only names kept (/proc/sys/vm/drop_caches). Waits until they
/// are gone.
pub fn drop_unused() {
    clear(|_| true, || false);
    rcu::barrier();
}

/// Lets go of every entry of `super_block`: its last mount is gone.
pub(crate) fn forget_super_block(super_block: &Arc<SuperBlock>) {
    clear(
        |entry| Arc::ptr_eq(entry.dentry.super_block(), super_block),
        || !super_block.has_cached(),
    );
}

/// The thread that takes entries out when memory is short.
#[derive(Debug, Default)]
struct Pruner {
    /// Entries; 0 when it has nothing to do.
    wanted: AtomicUsize,
    work: WaitQueue,
    /// Held from when it is asked until it is done.
    freeing: SpinLock<Option<Freeing>>,
}

impl Pruner {
    fn start() -> Result<()> {
        let new = try_arc(Self::default())?;
        let mut changes = CHANGES.lock();
        if changes.pruner.is_some() {
            return Ok(());
        }
        changes.pruner = Some(new.clone());
        drop(changes);
        let shrink: Arc<dyn Shrink> = new.clone();
        pressure::register(Arc::downgrade(&shrink))?;
        ThreadBuilder::new(b"dentries", move || {
            loop {
                new.work();
            }
        })
        .spawn()
        .map(drop)
    }

    fn work(&self) {
        let wanted = || Some(self.wanted.load(Ordering::Acquire)).filter(|wanted| *wanted > 0);
        prune(self.work.wait_until(wanted));
        rcu::barrier();
        let freeing = self.freeing.lock().take();
        self.wanted.store(0, Ordering::Release);
        drop(freeing);
    }
}

impl Shrink for Pruner {
    /// What is freed is freed soon.
    fn shrink(&self, wanted: usize) -> usize {
        let entries = wanted.saturating_mul(ENTRIES_PER_FRAME);
        if CHANGES.lock().len > FEW && self.wanted.fetch_max(entries, Ordering::AcqRel) == 0 {
            *self.freeing.lock() = Some(Freeing::new());
            self.work.wake_all();
        }
        0
    }
}

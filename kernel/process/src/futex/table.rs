//! The table of waiters, by key. Knows nothing of user memory.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Result;
use collections::{Vec, try_arc};
use machine::sync::{SpinGuard, SpinLock};
use sched::{Sleep, ThreadRef};

/// The bitset that every waker and waiter matches.
pub const ANY: u32 = u32::MAX;

/// What two threads must agree on to meet at a futex. It holds no reference, and a waiter may be moved to a key of another
/// process: so memory is named by serial numbers, which are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// In one address space: its serial number, and the address.
    Private(u64, u64),
    /// In memory shared between address spaces: what it comes from, and the offset in it.
    Shared(u64, u64),
    /// As `Private`, for who says that others may be meant although no others can be: it does not meet who
    /// says that they are not.
    Unshared(u64, u64),
}

impl Key {
    fn bucket(self) -> usize {
        let mixed = match self {
            Key::Private(space, addr) => addr ^ space.rotate_left(17),
            Key::Shared(source, offset) => offset ^ source.rotate_left(29) ^ 0x5bd1_e995,
            Key::Unshared(space, addr) => addr ^ space.rotate_left(17) ^ 0x27d4_eb2f,
        };
        let spread = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        usize::try_from(spread).unwrap_or(0) % BUCKETS
    }
}

const BUCKETS: usize = 64;

#[derive(Debug)]
struct Waiter {
    thread: ThreadRef,
    bitset: u32,
    woken: AtomicBool,
    /// Changed by requeueing, with the buckets of both keys locked.
    key: SpinLock<Key>,
}

type Bucket = Vec<Arc<Waiter>>;

static TABLE: [SpinLock<Bucket>; BUCKETS] = [const { SpinLock::new(Vec::new()) }; BUCKETS];

/// What a look at the word says.
pub(super) enum Look {
    /// It is as expected: wait.
    Wait,
    /// It could not be read without resolving a fault: resolve it and look again.
    Fault,
}

/// Waits at `key` unless `look`, called with the bucket locked, says otherwise. `resolve` is called
/// without the lock after [`Look::Fault`].
pub(super) fn wait(
    key: Key,
    bitset: u32,
    deadline_ns: Option<u64>,
    mut look: impl FnMut() -> Result<Look>,
    mut resolve: impl FnMut() -> Result<()>,
) -> Result<()> {
    let waiter = try_arc(Waiter {
        thread: sched::thread::current(),
        bitset,
        woken: AtomicBool::new(false),
        key: SpinLock::new(key),
    })?;
    loop {
        let mut bucket = TABLE[key.bucket()].lock();
        match look()? {
            Look::Fault => {
                drop(bucket);
                resolve()?;
            }
            Look::Wait => {
                bucket.try_push(waiter.clone())?;
                break;
            }
        }
    }
    let woken = || waiter.woken.load(Ordering::SeqCst).then_some(());
    let result = sched::park(Sleep::Interruptible, deadline_ns, woken);
    if result.is_err() && !take_off(&waiter) {
        // A wake-up came in the meantime: it counts.
        return Ok(());
    }
    result
}

/// Takes a waiter out of its bucket; `false` when a waker had.
fn take_off(waiter: &Arc<Waiter>) -> bool {
    loop {
        let key = *waiter.key.lock();
        let mut bucket = TABLE[key.bucket()].lock();
        if *waiter.key.lock() != key {
            continue;
        }
        let before = bucket.len();
        bucket.retain(|other| !Arc::ptr_eq(other, waiter));
        return bucket.len() != before;
    }
}

/// Wakes at most `count` waiters at `key` that share a bit with `bitset`.
pub(super) fn wake(key: Key, count: usize, bitset: u32) -> usize {
    wake_in(&mut TABLE[key.bucket()].lock(), key, count, bitset)
}

fn wake_in(bucket: &mut Bucket, key: Key, count: usize, bitset: u32) -> usize {
    let mut woken = 0;
    bucket.retain(|waiter| {
        let wanted = woken < count && *waiter.key.lock() == key && waiter.bitset & bitset != 0;
        if wanted {
            woken += 1;
            waiter.woken.store(true, Ordering::SeqCst);
            waiter.thread.wake();
        }
        !wanted
    });
    woken
}

/// Wakes at most `wake` waiters at `from` and moves at most `requeue` others to `to`, if `look`,
/// called with both buckets locked, agrees. Woken and moved, or `None` for "resolve a fault".
pub(super) fn requeue(
    from: Key,
    to: Key,
    wake: usize,
    requeue: usize,
    look: impl FnOnce() -> Result<Look>,
) -> Result<Option<(usize, usize)>> {
    let mut buckets = Pair::lock(from, to);
    if let Look::Fault = look()? {
        return Ok(None);
    }
    let woken = wake_in(buckets.first(), from, wake, ANY);
    let mut moved = Vec::new();
    buckets.first().retain(|waiter| {
        let wanted = moved.len() < requeue
            && *waiter.key.lock() == from
            && moved.try_push(waiter.clone()).is_ok();
        if wanted {
            *waiter.key.lock() = to;
        }
        !wanted
    });
    let count = moved.len();
    let target = buckets.second();
    // Room for them was not there before: those that do not fit are woken, which is always allowed.
    for waiter in moved {
        if target.try_push(waiter.clone()).is_err() {
            waiter.woken.store(true, Ordering::SeqCst);
            waiter.thread.wake();
        }
    }
    Ok(Some((woken, count)))
}

/// Wakes at two keys, the second only if `change`, called with both buckets locked, says so.
/// How many, or `None` for "resolve a fault".
pub(super) fn wake_two(
    keys: (Key, Key),
    counts: (usize, usize),
    change: impl FnOnce() -> Result<Option<bool>>,
) -> Result<Option<usize>> {
    let mut buckets = Pair::lock(keys.0, keys.1);
    let Some(second) = change()? else {
        return Ok(None);
    };
    let mut woken = wake_in(buckets.first(), keys.0, counts.0, ANY);
    if second {
        woken += wake_in(buckets.second(), keys.1, counts.1, ANY);
    }
    Ok(Some(woken))
}

/// Two buckets, locked in index order; one lock when they are the same.
struct Pair {
    first: SpinGuard<'static, Bucket>,
    second: Option<SpinGuard<'static, Bucket>>,
}

impl Pair {
    fn lock(first: Key, second: Key) -> Pair {
        let (a, b) = (first.bucket(), second.bucket());
        if a == b {
            return Pair {
                first: TABLE[a].lock(),
                second: None,
            };
        }
        if a < b {
            let first = TABLE[a].lock();
            let second = Some(TABLE[b].lock());
            Pair { first, second }
        } else {
            let second = Some(TABLE[b].lock());
            let first = TABLE[a].lock();
            Pair { first, second }
        }
    }

    fn first(&mut self) -> &mut Bucket {
        &mut self.first
    }

    fn second(&mut self) -> &mut Bucket {
        self.second.as_mut().unwrap_or(&mut self.first)
    }
}

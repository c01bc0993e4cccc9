//! Making room: by taking pages back, by writing some, and by a death. One thread at a time looks for room in a group, and
//! the others stand in line ([`Line`]): a fork bomb is thousands of them, who would use all CPUs up with looking.
//!
//! Locking: no spin lock may be held, and no lock of an address space: pages may be written back, which takes those. A turn
//! in the line is held while somebody dies, and not while pages are written.

use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use machine::frame::refusal;
use sched::WaitQueue;

use super::killer::{self, Need};
use super::lru::FILES;
use super::{BATCH, reclaim_in, short};
use crate::group::MemoryGroup;
use crate::numbers;

/// Up to so many frames an allocation is worth somebody's life (Linux's `PAGE_ALLOC_COSTLY_ORDER`).
const FEW_FRAMES: usize = 8;

/// Who looks for room, and who waits for that, first come, first served.
#[derive(Debug)]
pub(crate) struct Line {
    is_taken: AtomicBool,
    waiting: WaitQueue,
}

/// The calling thread is the one that looks.
struct Turn(&'static Line);

impl Line {
    pub(crate) const fn new() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            waiting: WaitQueue::new(),
        }
    }

    /// Waits for the turn. `None`: the calling thread is to die.
    fn turn(&'static self) -> Option<Turn> {
        let me = sched::thread::current();
        let is_mine = self.waiting.wait_until_alone(|| {
            if me.is_killed() {
                return Some(false);
            }
            (!self.is_taken.swap(true, Ordering::Acquire)).then_some(true)
        });
        if !is_mine {
            // It may have been woken for a turn that it does not take.
            self.waiting.wake_one();
        }
        is_mine.then_some(Turn(self))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
        self.0.waiting.wake_one();
    }
}

/// Waits until a user may take another frame; a process dies for it if need be, the caller's own if there is no other.
///
/// # Errors
/// `ENOMEM` when the calling thread is to die.
pub fn make_room() -> Result<()> {
    make_room_for(0, Need::Page)
}

/// As [`make_room`], for a frame and `more` beside it.
fn make_room_for(more: usize, need: Need) -> Result<()> {
    while let Some(group) = short(more) {
        if reclaim_in(group, BATCH.max(more)) > 0 || write_some_back(group) {
            if more == 0 {
                return Ok(());
            }
            if sched::thread::current().is_killed() {
                return Err(Errno::ENOMEM);
            }
            continue;
        }
        let turn = group.line().turn().ok_or(Errno::ENOMEM)?;
        // While it stood in line somebody else may have left some.
        while !group.has_room(more) && reclaim_in(group, BATCH.max(more)) == 0 {
            killer::kill_or_wait(group, more, need)?;
        }
        drop(turn);
    }
    Ok(())
}

/// Takes back what a group has beyond `limit`, with the means of [`make_room`]; ends when there are none left, or
/// the calling thread is to die.
pub(crate) fn enforce(group: MemoryGroup, limit: usize) {
    let thread = sched::thread::current();
    loop {
        let over = group.usage().saturating_sub(limit);
        if over == 0 || thread.is_killed() {
            return;
        }
        let is_less = reclaim_in(group, over.min(BATCH)) > 0 || write_some_back(group);
        if !is_less && killer::kill_or_wait(group, 0, Need::Page).is_err() {
            return;
        }
    }
}

/// Takes back what a group has beyond `limit`, as far as nobody has to die for it; whether that was enough.
pub(crate) fn take_back(group: MemoryGroup, limit: usize) -> bool {
    let thread = sched::thread::current();
    let mut is_drained = false;
    loop {
        let over = group.usage().saturating_sub(limit);
        if over == 0 {
            return true;
        }
        let is_less = reclaim_in(group, over.min(BATCH)) > 0 || write_some_back(group);
        if !is_less {
            if is_drained {
                return false;
            }
            machine::frame::release_kept();
            is_drained = true;
        }
        if thread.is_killed() {
            return false;
        }
        sched::cond_resched();
    }
}

/// Writes one file's dirty pages back, so that they can be taken. `false` when there are none.
fn write_some_back(group: MemoryGroup) -> bool {
    if numbers::DIRTY.get() == 0 {
        return false;
    }
    if group != MemoryGroup::ROOT {
        return group.subtree().any(|group| group.queues().relieve_one());
    }
    let mut is_relieved = false;
    FILES.each(|mapping| {
        is_relieved = mapping.relieve();
        is_relieved
    });
    is_relieved
}

/// Makes a system call, and makes it again after making room when it has failed with `ENOMEM` because something
/// found no memory; such a call has undone what it did. No lock is held. What is more than [`FEW_FRAMES`] at once is worth no
/// death, only what can be taken back.
///
/// # Errors
/// Those of the call; `ENOMEM` when there is no room to be made, or the calling thread is to die.
#[inline]
pub fn persist<R>(mut call: impl FnMut() -> Result<R>) -> Result<R> {
    match call() {
        Err(Errno::ENOMEM) => again(call),
        result => result,
    }
}

/// As [`persist`], behind the first attempt, which has failed with `ENOMEM`.
///
/// # Errors
/// As [`persist`].
#[cold]
pub fn again<R>(mut call: impl FnMut() -> Result<R>) -> Result<R> {
    let mut room = Room { more: 0 };
    loop {
        let refused = refusal::take().ok_or(Errno::ENOMEM)?;
        room.make(refused)?;
        match call() {
            Err(Errno::ENOMEM) => {}
            result => return result,
        }
    }
}

/// The result of what a call does after it has changed something that another attempt would meet, such as a name that the
/// server of a file system has made: if there was no memory for it the call fails, and is not made again.
///
/// # Errors
/// Those of `result`.
#[inline]
pub fn settled<R>(result: Result<R>) -> Result<R> {
    if matches!(result, Err(Errno::ENOMEM)) {
        // Nobody needs room any more.
        let _ = refusal::take();
    }
    result
}

/// The room that a call needs: its objects were freed as it failed, so what it needs in all is found by doubling.
struct Room {
    more: usize,
}

impl Room {
    fn make(&mut self, refused: usize) -> Result<()> {
        self.more = (2 * self.more).max(BATCH.saturating_add(refused));
        let group = MemoryGroup::current();
        let most = machine::frame::total().min(group.limit()) / 2;
        if self.more > most || sched::thread::current().is_killed() {
            return Err(Errno::ENOMEM);
        }
        if refused <= FEW_FRAMES {
            return make_room_for(self.more, Need::Call);
        }
        while let Some(group) = short(self.more) {
            if reclaim_in(group, self.more) == 0 {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(())
    }
}

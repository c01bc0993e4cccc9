//! Memory that runs short: who gives some back, who waits for it, and who dies for it.
//!
//! [`try_zeroed`] and [`try_copy`] take a frame that is at hand and wait for nothing. Whoever gets none and holds no
//! spin lock calls [`make_room`], which takes pages back (`shrink`) and at the end asks the OOM killer,
//! and tries again. Some frames stay free for what cannot wait ([`RESERVE_FRAMES`]).
//!
//! What is short is the machine or the calling thread's memory group, or one above that ([`MemoryGroup`]): pages are
//! taken back there, and who dies is of there.
//!
//! Locking: what gives memory back may be asked with any sleeping lock held, so it takes its own locks only if
//! they are free, and neither sleeps nor allocates.

mod killer;
mod lru;
mod shrink;

use abi::{Errno, Result};
use machine::Frame;
use machine::frame::{Kind, LargeFrame, OutOfMemory, account};

use crate::group::MemoryGroup;
use crate::numbers;

pub use killer::{Freeing, Verdict, set_killer};
pub(crate) use lru::{FILES, Queues};
use shrink::reclaim_in;
pub use shrink::{Shrink, drop_pages, register, write_back_all};

/// Frames that stay free for the kernel's own small objects.
pub const RESERVE_FRAMES: usize = 256;
/// Frames that are taken back at a time: a few more than one needs, so that not each fault has to.
const BATCH: usize = 64;

/// Whether a user may take another frame. What other CPUs keep does not count: this one could not have it.
fn has_frames() -> bool {
    machine::frame::at_hand() >= RESERVE_FRAMES
}

/// The group in which memory is short for the calling thread.
fn short() -> Option<MemoryGroup> {
    if !has_frames() {
        return Some(MemoryGroup::ROOT);
    }
    if account::current_has_room() {
        return None;
    }
    // There may be room by now.
    let group = MemoryGroup::current().short()?;
    group.note_max();
    Some(group)
}

/// Makes sure that there is memory for what a system call is about to allocate.
///
/// # Errors
/// `ENOMEM` when there is not, even after taking back what can be.
pub fn ensure_headroom() -> Result<()> {
    match short() {
        Some(group) if reclaim_in(group, BATCH) == 0 => Err(Errno::ENOMEM),
        _ => Ok(()),
    }
}

/// Waits until a user may take another frame; a process dies for it if need be. No spin lock may be held, and no lock
/// of an address space: pages may be written back, which takes those.
///
/// # Errors
/// `ENOMEM` when the calling thread is to die itself, or nobody can.
pub fn make_room() -> Result<()> {
    loop {
        let Some(group) = short() else {
            return Ok(());
        };
        if reclaim_in(group, BATCH) > 0 || write_some_back(group) {
            return Ok(());
        }
        killer::kill_or_wait(group)?;
    }
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
        if !is_less && killer::kill_or_wait(group).is_err() {
            return;
        }
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

/// A frame of zeroes for a program's own memory, if there is one at hand.
#[must_use]
pub fn try_zeroed() -> Option<Frame> {
    as_anonymous(has_frames().then(Frame::alloc_zeroed))
}

/// A copy of `frame` for a program's own memory, if there is a frame at hand.
#[must_use]
pub fn try_copy(frame: &Frame) -> Option<Frame> {
    as_anonymous(has_frames().then(|| frame.duplicate()))
}

/// 2 MiB of zeroes for a program's own memory, if so much is at hand that nobody misses what it may not use of
/// them: three quarters of all memory, or some for who asked for such pages (`is_advised`).
#[must_use]
pub(crate) fn try_large(is_advised: bool) -> Option<LargeFrame> {
    /// Frames of four large pages.
    const SOME: usize = 4 * 512;
    let needed = if is_advised {
        RESERVE_FRAMES + SOME
    } else {
        machine::frame::total() / 4 * 3
    };
    (machine::frame::at_hand() >= needed)
        .then(LargeFrame::alloc_zeroed)?
        .ok()
}

fn as_anonymous(frame: Option<core::result::Result<Frame, OutOfMemory>>) -> Option<Frame> {
    let frame = frame?.ok()?;
    frame.set_kind(Kind::Anon);
    Some(frame)
}

/// A frame of zeroes for a user, taking memory back if need be.
///
/// # Errors
/// `ENOMEM`.
pub fn alloc_zeroed() -> Result<Frame> {
    ensure_headroom()?;
    Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM)
}

/// A copy of `frame` for a user, taking memory back if need be.
///
/// # Errors
/// `ENOMEM`.
pub fn duplicate(frame: &Frame) -> Result<Frame> {
    ensure_headroom()?;
    frame.duplicate().map_err(|_| Errno::ENOMEM)
}

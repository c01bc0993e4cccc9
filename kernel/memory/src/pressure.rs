//! Memory that runs short: who gives some back, who waits for it, and who dies for it.
//!
//! [`try_zeroed`] and [`try_copy`] take a frame that is at hand and wait for nothing. Whoever gets none and holds no
//! lock calls [`make_room`], which takes pages back (`shrink`) and at the end asks the OOM killer,
//! and tries again. Some frames stay free for what cannot wait ([`RESERVE_FRAMES`]).
//!
//! Everything else that is allocated (the kernel's objects, pages of files) fails where there is no memory, whatever locks
//! are held there. Then the whole system call fails with ENOMEM, undoes what it has done and lets its locks go; and only
//! then room is made, and the call is made again ([`persist`]). So nothing needs to know whether it may sleep, and nobody waits
//! for another's death with a lock that the other one needs.
//!
//! What is short is the machine or the calling thread's memory group, or one above that ([`MemoryGroup`]): pages are
//! taken back there, and who dies is of there.
//!
//! Locking: what gives memory back may be asked with any sleeping lock held, so it takes its own locks only if
//! they are free, and neither sleeps nor allocates.

mod high;
mod killer;
mod lru;
mod room;
mod shrink;

use abi::{Errno, Result};
use machine::Frame;
use machine::frame::{Kind, LargeFrame, OutOfMemory, account, refusal};

use crate::group::{Event, MemoryGroup};

pub use high::heed_high;
pub(crate) use killer::may_use_reserve;
pub use killer::{Freeing, Need, Policy, Verdict, set_policy};
pub(crate) use lru::{FILES, Queues};
pub(crate) use room::{Line, enforce, take_back};
pub use room::{again, make_room, persist, settled};
use shrink::reclaim_in;
pub use shrink::{Shrink, drop_pages, register, write_back_all};

/// Frames that stay free for the kernel's own small objects.
pub const RESERVE_FRAMES: usize = 256;
/// Frames that stay free for them where who needs a page may use the reserve.
const LAST_RESERVE_FRAMES: usize = RESERVE_FRAMES / 4;
/// Frames that are taken back at a time: a few more than one needs, so that not each fault has to.
const BATCH: usize = 64;

/// Whether the calling thread may have another frame and `more` beside it. What other CPUs keep does not count: this one
/// could not have it.
pub(crate) fn has_frames(more: usize) -> bool {
    let at_hand = machine::frame::at_hand();
    at_hand >= RESERVE_FRAMES + more || at_hand >= LAST_RESERVE_FRAMES + more && may_use_reserve()
}

/// The group in which memory is short for the calling thread, which wants a frame and `more` beside it.
fn short(more: usize) -> Option<MemoryGroup> {
    if !has_frames(more) {
        return Some(MemoryGroup::ROOT);
    }
    if more == 0 && account::current_has_room() {
        return None;
    }
    // There may be room by now.
    let group = MemoryGroup::current().short(more)?;
    group.note(Event::Max);
    Some(group)
}

/// Makes sure that there is memory for what a system call is about to allocate.
///
/// # Errors
/// `ENOMEM` when there is not, even after taking back what can be: [`persist`] makes room then.
pub fn ensure_headroom() -> Result<()> {
    match short(0) {
        Some(group) if reclaim_in(group, BATCH) == 0 => {
            refusal::note(1);
            Err(Errno::ENOMEM)
        }
        _ => Ok(()),
    }
}

/// A frame of zeroes for a program's own memory, if there is one at hand.
#[must_use]
pub fn try_zeroed() -> Option<Frame> {
    as_anonymous(has_frames(0).then(Frame::alloc_zeroed))
}

/// A copy of `frame` for a program's own memory, if there is a frame at hand.
#[must_use]
pub fn try_copy(frame: &Frame) -> Option<Frame> {
    as_anonymous(has_frames(0).then(|| frame.duplicate()))
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

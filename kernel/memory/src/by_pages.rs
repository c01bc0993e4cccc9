//! Reading and writing what lies in pages: the loop that [`crate::PageCache`] and [`crate::shm::Shm`] share.
//! They differ in where a page's frame comes from.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use machine::{Frame, PAGE_SIZE};

use crate::io::{IoReader, IoWriter};

const PAGE: u64 = PAGE_SIZE as u64;
/// The largest file offset there is.
const MOST_BYTES: u64 = i64::MAX.unsigned_abs();

/// Reads from `offset` on, up to `size`, as far as `to` takes it. `frame` gives page `index`; `None` is a
/// hole.
///
/// # Errors
/// `EFAULT` from `to`, or what `frame` says, when not a byte was read.
pub(crate) fn read(
    offset: u64,
    to: &mut IoWriter<'_>,
    size: &AtomicU64,
    mut frame: impl FnMut(u64) -> Result<Option<Frame>>,
) -> Result<usize> {
    let mut done = 0;
    while to.remaining() > 0 {
        let at = offset.saturating_add(done as u64);
        let left = size.load(Ordering::Acquire).saturating_sub(at);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let start = offset_in_page(at);
        let part = to.remaining().min(PAGE_SIZE - start).min(left);
        if part == 0 {
            break;
        }
        let moved = frame(at / PAGE).and_then(|frame| match frame {
            Some(frame) => to.write_frame(&frame, start, part),
            None => to.zero(part),
        });
        if !goes_on(moved, part, &mut done)? {
            break;
        }
    }
    Ok(done)
}

/// Writes at `offset`, growing `size` if need be. `write_page(at, len, from)` writes within one page.
///
/// # Errors
/// `EFBIG`, or what `write_page` says, when not a byte was written.
pub(crate) fn write(
    offset: u64,
    from: &mut IoReader<'_>,
    size: &AtomicU64,
    mut write_page: impl FnMut(u64, usize, &mut IoReader<'_>) -> Result<usize>,
) -> Result<usize> {
    let mut done = 0;
    while from.remaining() > 0 {
        let at = offset.saturating_add(done as u64);
        let part = from.remaining().min(PAGE_SIZE - offset_in_page(at));
        let moved = if at.saturating_add(part as u64) > MOST_BYTES {
            Err(Errno::EFBIG)
        } else {
            write_page(at, part, from)
        };
        if let Ok(moved) = moved {
            size.fetch_max(at + moved as u64, Ordering::AcqRel);
        }
        if !goes_on(moved, part, &mut done)? {
            break;
        }
    }
    Ok(done)
}

/// Adds what was moved of `part` to `done`; whether there is a point in going on. An error counts only when
/// nothing is done yet.
fn goes_on(moved: Result<usize>, part: usize, done: &mut usize) -> Result<bool> {
    match moved {
        Ok(moved) => {
            *done += moved;
            Ok(moved == part)
        }
        Err(_) if *done > 0 => Ok(false),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn offset_in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE).unwrap_or(0)
}

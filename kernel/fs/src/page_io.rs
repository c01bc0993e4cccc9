//! Frames between a caller's memory and a device: laid out as the pages of the file that they are of.

use abi::Result;
use collections::Vec;
use machine::virtio::Segment;
use machine::{Frame, PAGE_SIZE};
use memory::io::{IoReader, IoWriter};

const PAGE: u64 = PAGE_SIZE as u64;

/// New frames of zeroes.
pub(crate) fn allocate(count: usize) -> Result<Vec<Frame>> {
    let mut frames = Vec::try_with_capacity(count)?;
    for _ in 0..count {
        frames.try_push(memory::pressure::alloc_zeroed()?)?;
    }
    Ok(frames)
}

pub(crate) fn page_offset(offset: u64) -> usize {
    usize::try_from(offset % PAGE).unwrap_or(0)
}

/// The parts of pages that `len` bytes from `start` of the first page on take: offset and length each.
fn parts(start: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = start + len;
    (0..end.div_ceil(PAGE_SIZE)).map(move |page| {
        let at = if page == 0 { start } else { 0 };
        (at, (end - page * PAGE_SIZE).min(PAGE_SIZE) - at)
    })
}

/// The `len` bytes of `frames` from `start` of the first one on, for the device.
pub(crate) fn segments(frames: &[Frame], start: usize, len: usize) -> Result<Vec<Segment>> {
    let mut segments = Vec::try_with_capacity(frames.len())?;
    for (frame, (at, count)) in frames.iter().zip(parts(start, len)) {
        segments.try_extend(Segment::new(frame.clone(), at, count))?;
    }
    Ok(segments)
}

/// Takes bytes of the caller into new frames, laid out as from `offset` on, `most_pages` of them at most; how many.
pub(crate) fn take(
    from: &mut IoReader<'_>,
    offset: u64,
    most_pages: usize,
) -> Result<(Vec<Frame>, usize)> {
    let start = page_offset(offset);
    let len = from.remaining().min(most_pages * PAGE_SIZE - start);
    let frames = allocate((start + len).div_ceil(PAGE_SIZE))?;
    let mut taken = 0;
    for (frame, (at, part)) in frames.iter().zip(parts(start, len)) {
        match from.read_frame(frame, at, part) {
            Ok(count) => {
                taken += count;
                if count < part {
                    break;
                }
            }
            Err(errno) if taken == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok((frames, taken))
}

/// Gives the caller `len` bytes of `frames` from `start` of the first one on; how many it took.
pub(crate) fn give(
    frames: &[Frame],
    start: usize,
    len: usize,
    to: &mut IoWriter<'_>,
) -> Result<usize> {
    let mut done = 0;
    for (frame, (at, part)) in frames.iter().zip(parts(start, len)) {
        match to.write_frame(frame, at, part) {
            Ok(count) => {
                done += count;
                if count < part {
                    break;
                }
            }
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Takes all that the caller writes, as `part` does, which is told how much is done; what was done before a failure
/// counts.
pub(crate) fn take_all(
    from: &mut IoReader<'_>,
    mut part: impl FnMut(&mut IoReader<'_>, u64) -> Result<usize>,
) -> Result<usize> {
    let mut done = 0;
    while from.remaining() > 0 {
        match part(from, done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        sched::cond_resched();
    }
    Ok(done)
}

/// Gives the caller all that it reads, as `part` does, which is told how much is done and says how much it gave and whether
/// that was the end; what was done before a failure counts.
pub(crate) fn give_all(
    to: &mut IoWriter<'_>,
    mut part: impl FnMut(&mut IoWriter<'_>, u64) -> Result<(usize, bool)>,
) -> Result<usize> {
    let mut done = 0;
    while to.remaining() > 0 {
        match part(to, done as u64) {
            Ok((count, is_end)) => {
                done += count;
                if is_end {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        sched::cond_resched();
    }
    Ok(done)
}

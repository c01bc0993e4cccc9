//! Free-page reporting (virtio 1.2, section 5.5.6.7): memory that has been free for a while is told to the host, which takes
//! it back.
//!
//! A thread sleeps until the allocator has so much to report that it is worth it ([`WORTH_FRAMES`]), lets it lie for
//! [`REST_NS`], since most of what is freed is soon wanted again, has everybody give back what they keep, and reports all
//! larger free blocks, a few at a time. So a machine that frees nothing does not wake; what files have cached stays.
//!
//! What is reported is free all the time but for a moment: nothing is taken back by a request, as from a balloon that is
//! inflated. The device is set up when there is first something to tell it.
//!
//! Locking: none; the thread is alone.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use collections::{Vec, try_arc};
use machine::frame::release_kept;
use machine::frame::reporting::{FreeBlock, arm, set_upcall, unreported};
use machine::virtio::{Device, RequestQueue, Segment, SetupError};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;

/// Features (section 5.5.3), as bits. The first two have a queue each before that of reports.
const STATS_VQ: u64 = 1 << 1;
const FREE_PAGE_HINT: u64 = 1 << 3;
const REPORTING: u64 = 1 << 5;
/// Queues that every balloon has.
const BALLOON_QUEUES: u16 = 2;
/// Blocks that are told at once.
const BATCH: u16 = 32;
/// Frames that are worth waking for: 1 MiB.
const WORTH_FRAMES: usize = 256;
/// How long memory lies before it is told.
const REST_NS: u64 = 2_000_000_000;

static IS_WANTED: AtomicBool = AtomicBool::new(false);
static WANTED: WaitQueue = WaitQueue::new();

/// Blocks that were told, until the device is done with them.
type Reports = RequestQueue<Vec<FreeBlock>>;

/// Takes a balloon device into use.
///
/// # Errors
/// Why it cannot be driven.
pub fn add_device(device: Device) -> Result<(), SetupError> {
    set_upcall(|| {
        IS_WANTED.store(true, Ordering::Release);
        WANTED.wake_all();
    });
    let thread = ThreadBuilder::new(b"pagereport", || run(device));
    thread
        .spawn()
        .map(drop)
        .map_err(|_| SetupError::OutOfMemory)
}

fn run(device: Device) {
    wait_for(WORTH_FRAMES);
    match set_up(device) {
        Ok(Some(reporter)) => reporter.run(),
        Ok(None) => {}
        Err(reason) => machine::log!("balloon: {reason}; freed memory stays with the machine"),
    }
}

/// Sleeps until so many frames are unreported.
fn wait_for(frames: usize) {
    arm(frames);
    WANTED.wait_until(|| IS_WANTED.swap(false, Ordering::Acquire).then_some(()));
}

/// `None` when the device takes no reports.
fn set_up(mut device: Device) -> Result<Option<Reporter>, SetupError> {
    let features = device.negotiate(STATS_VQ | FREE_PAGE_HINT | REPORTING)?;
    if features & REPORTING == 0 {
        return Ok(None);
    }
    let before = (features & (STATS_VQ | FREE_PAGE_HINT)).count_ones();
    let index = BALLOON_QUEUES + u16::try_from(before).unwrap_or(0);
    let activity = try_arc(WaitQueue::new())?;
    let woken = activity.clone();
    let queue = device.queue(index, BATCH, 0, try_arc(move || woken.wake_all())?)?;
    device.start()?;
    Ok(Some(Reporter { queue, activity }))
}

/// The device is broken.
struct Broken;

struct Reporter {
    queue: Arc<Reports>,
    activity: Arc<WaitQueue>,
}

impl Reporter {
    fn run(&self) {
        loop {
            let end = sched::clock::monotonic_ns().saturating_add(REST_NS);
            // Only the deadline ends this sleep.
            let _ = self.activity.wait_deadline(end, || None::<()>);
            release_kept();
            let Ok(reported) = self.report_all() else {
                return;
            };
            let left = unreported();
            if reported == 0 {
                // Too little is free to take some away: not before there is more.
                wait_for(left + WORTH_FRAMES);
            } else if left < WORTH_FRAMES {
                wait_for(WORTH_FRAMES);
            }
        }
    }

    /// Reports as much as there is now; how many frames that was.
    fn report_all(&self) -> Result<usize, Broken> {
        let all = unreported();
        let mut reported = 0;
        while reported < all {
            let frames = self.report_some().ok_or(Broken)?;
            if frames == 0 {
                break;
            }
            reported += frames;
            sched::cond_resched();
        }
        Ok(reported)
    }

    /// Reports a batch, and waits until the host has taken it; `None` when the device is broken.
    fn report_some(&self) -> Option<usize> {
        let (mut blocks, mut segments) = (Vec::new(), Vec::new());
        let most = self.queue.size();
        // Without memory for the lists there is none to report.
        let room = blocks
            .try_reserve(most)
            .and_then(|()| segments.try_reserve(most));
        if room.is_err() {
            return Some(0);
        }
        let blocks_to_tell = core::iter::from_fn(FreeBlock::take).take(most);
        for block in blocks_to_tell {
            let _ = segments.push_within_capacity(Segment::of_free(&block));
            let _ = blocks.push_within_capacity(block);
        }
        if blocks.is_empty() {
            return Some(0);
        }
        self.queue.submit(Vec::new(), segments, blocks).ok()?;
        let done = self.activity.wait_until(|| match self.queue.completed() {
            None if self.queue.is_broken() => Some(None),
            None => None,
            done => Some(done),
        })?;
        // The segments hold the blocks.
        drop(done.writable);
        let mut frames = 0;
        for block in done.context {
            frames += block.unreported();
            block.give_reported();
        }
        Some(frames)
    }
}

#[cfg(test)]
mod tests;

//! The entropy device (virtio 1.2, section 5.4): feeds [`crate::random`] at start-up and from time to time.

use alloc::sync::Arc;

use collections::{Vec, try_arc};
use machine::Frame;
use machine::virtio::{Device, RequestQueue, Segment, SetupError};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;

use crate::random;

const REQUEST_QUEUE: u16 = 0;
/// Bytes asked for at a time.
const SEED_LEN: usize = 64;
/// Time between two seeds.
const INTERVAL_NS: u64 = 300_000_000_000;

/// Takes an entropy device into use.
///
/// # Errors
/// Why it cannot be driven.
pub fn add_device(mut device: Device) -> Result<(), SetupError> {
    device.negotiate(0)?;
    let activity = try_arc(WaitQueue::new())?;
    let woken = activity.clone();
    let events = try_arc(move || woken.wake_all())?;
    let queue: Arc<RequestQueue<()>> = device.queue(REQUEST_QUEUE, 4, 0, events)?;
    device.start()?;
    let frame = Frame::alloc_zeroed()?;
    let mut buffer = Vec::new();
    buffer.try_extend(Segment::new(frame, 0, SEED_LEN))?;
    let thread = ThreadBuilder::new(b"hwrng", move || feed(&queue, &activity, buffer));
    thread
        .spawn()
        .map(drop)
        .map_err(|_| SetupError::OutOfMemory)
}

/// Asks for bytes again and again, until the device breaks.
fn feed(queue: &RequestQueue<()>, activity: &WaitQueue, mut buffer: Vec<Segment>) {
    loop {
        if queue.submit(Vec::new(), buffer, ()).is_err() {
            return;
        }
        let done = activity.wait_until(|| match queue.completed() {
            None if queue.is_broken() => Some(None),
            None => None,
            done => Some(done),
        });
        let Some(done) = done else { return };
        buffer = done.writable;
        if let Some(segment) = buffer.first() {
            let mut seed = [0; SEED_LEN];
            let len = done.written.min(SEED_LEN);
            segment.read(0, &mut seed[..len]);
            random::add_entropy(&seed[..len]);
        }
        let next = sched::clock::monotonic_ns().saturating_add(INTERVAL_NS);
        // Only the deadline ends this sleep.
        let _ = activity.wait_deadline(next, || None::<()>);
    }
}

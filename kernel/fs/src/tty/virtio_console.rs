//! The virtio console (virtio 1.2, section 5.3), port 0, as the terminal `hvc0`.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use collections::{Vec, try_arc};
use machine::virtio::{Device, RequestQueue, Segment, SetupError};
use machine::{Frame, PAGE_SIZE};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;

use super::console;
use super::terminal::{Line, Terminal};
use crate::metadata::DeviceId;

/// `/dev/hvc0`.
const HVC0: DeviceId = DeviceId::new(229, 0);
const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;
/// Bytes of input that are taken at a time.
const INPUT_PIECE: usize = 256;
/// Frames of output on their way at most.
const OUTPUT_FRAMES: usize = 16;

/// Output to the device: a frame each write.
struct ConsoleLine {
    transmit: Arc<RequestQueue<()>>,
    /// Frames for output that the device does not have.
    spare: machine::sync::SpinLock<Vec<Frame>>,
}

impl ConsoleLine {
    /// Takes back what the device has written out.
    fn take_completed(&self) {
        while let Some(done) = self.transmit.completed() {
            let mut spare = self.spare.lock();
            for segment in done.readable {
                // There is room for as many frames as there are.
                let _ = spare.push_within_capacity(segment.into_frame());
            }
        }
    }
}

impl Line for ConsoleLine {
    fn send(&self, bytes: &[u8]) -> usize {
        self.take_completed();
        let mut sent = 0;
        while sent < bytes.len() {
            let Ok(mut segments) = Vec::try_with_capacity(1) else {
                break;
            };
            let Some(frame) = self.spare.lock().pop() else {
                break;
            };
            let count = (bytes.len() - sent).min(PAGE_SIZE);
            frame.write(0, &bytes[sent..sent + count]);
            if segments.try_extend(Segment::new(frame, 0, count)).is_err() {
                break;
            }
            if self.transmit.submit(segments, Vec::new(), ()).is_err() {
                break;
            }
            sent += count;
        }
        sent
    }

    fn room(&self) -> usize {
        self.take_completed();
        self.spare.lock().len() * PAGE_SIZE
    }
}

/// Takes a console device into use; it becomes the console when `is_console`.
///
/// # Errors
/// Why it cannot be driven.
pub fn add_console(mut device: Device, is_console: bool) -> Result<(), SetupError> {
    device.negotiate(0)?;
    let activity = try_arc(WaitQueue::new())?;
    // Set by interrupts for output that was written out: then there is room again.
    let interrupted = try_arc(AtomicBool::new(false))?;
    let woken = activity.clone();
    let received = try_arc(move || woken.wake_all())?;
    let (woken, flag) = (activity.clone(), interrupted.clone());
    let written = try_arc(move || {
        flag.store(true, Ordering::Release);
        woken.wake_all();
    })?;
    let receive: Arc<RequestQueue<()>> = device.queue(RECEIVE_QUEUE, 16, 0, received)?;
    let transmit = device.queue(TRANSMIT_QUEUE, 64, 0, written)?;
    device.start()?;
    let mut spare = Vec::try_with_capacity(OUTPUT_FRAMES)?;
    for _ in 0..OUTPUT_FRAMES {
        spare.try_push(Frame::alloc_zeroed()?)?;
    }
    let line = try_arc(ConsoleLine {
        transmit,
        spare: machine::sync::SpinLock::new(spare),
    })?;
    let no_memory = |_| SetupError::OutOfMemory;
    let terminal = Terminal::new(HVC0, line).map_err(no_memory)?;
    console::register_terminal(&terminal, "hvc0").map_err(no_memory)?;
    if is_console {
        console::set_console(terminal.clone());
    }
    for _ in 0..4 {
        let writable = Vec::try_from([Segment::page(Frame::alloc_zeroed()?)])?;
        let _ = receive.submit(Vec::new(), writable, ());
    }
    let thread = ThreadBuilder::new(b"hvc0", move || {
        attend(&receive, &terminal, &activity, &interrupted);
    });
    thread
        .spawn()
        .map(drop)
        .map_err(|_| SetupError::OutOfMemory)
}

/// Takes input in and passes output on, for ever.
fn attend(
    receive: &RequestQueue<()>,
    terminal: &Terminal,
    activity: &WaitQueue,
    interrupted: &AtomicBool,
) {
    loop {
        let done = activity.wait_until(|| match receive.completed() {
            Some(done) => Some(Some(done)),
            None => interrupted.swap(false, Ordering::AcqRel).then_some(None),
        });
        let Some(done) = done else {
            terminal.line_ready();
            continue;
        };
        if let Some(segment) = done.writable.first() {
            let mut bytes = [0; INPUT_PIECE];
            let len = done.written.min(segment.len());
            for start in (0..len).step_by(INPUT_PIECE) {
                let piece = &mut bytes[..INPUT_PIECE.min(len - start)];
                segment.read(start, piece);
                // Typed faster than it is read: the rest is lost.
                let _ = terminal.receive(piece);
            }
        }
        let _ = receive.submit(Vec::new(), done.writable, ());
        if receive.is_broken() {
            machine::log!("hvc0: the device is broken; no more input");
            return;
        }
    }
}

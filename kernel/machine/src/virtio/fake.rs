//! The double of a device: a closure answers requests, so that drivers are tested on the host.
//!
//! The closure sees what a device would see: buffers to read, buffers to write, nothing else. It
//! may answer at once, or keep the [`Pending`] and answer later and in any order.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::device::Events;
use super::queue::{Notify, RequestQueue, Ring, Segment, Used};
use crate::sync::IrqLock;

/// A request as the device sees it.
#[derive(Debug)]
pub struct Pending {
    /// The request's place in the ring.
    pub head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Pending {
    /// All bytes that the driver gave.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in &self.readable {
            let start = bytes.len();
            bytes.resize(start + segment.len(), 0);
            segment.read(0, &mut bytes[start..]);
        }
        bytes
    }

    /// Bytes that an answer may have.
    #[must_use]
    pub fn room(&self) -> usize {
        self.writable.iter().map(Segment::len).sum()
    }

    fn write(&self, mut answer: &[u8]) {
        for segment in &self.writable {
            let (here, rest) = answer.split_at(answer.len().min(segment.len()));
            segment.write(0, here);
            answer = rest;
        }
    }
}

/// The device's end of a fake queue.
#[derive(Clone)]
pub struct FakeDevice {
    used: Arc<IrqLock<Vec<(u16, u32)>>>,
    events: Arc<IrqLock<Option<Events>>>,
}

impl core::fmt::Debug for FakeDevice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FakeDevice")
    }
}

impl FakeDevice {
    /// What the device's interrupt calls.
    pub fn set_events(&self, events: Events) {
        *self.events.lock() = Some(events);
    }

    /// Writes `answer` into the request's buffers (what fits), completes it and interrupts.
    #[expect(clippy::needless_pass_by_value, reason = "a request is answered once")]
    pub fn answer(&self, pending: Pending, answer: &[u8]) {
        pending.write(answer);
        self.claim(
            pending.head,
            u32::try_from(answer.len()).unwrap_or(u32::MAX),
        );
    }

    /// Claims that request `head` is done with `written` bytes written, true or not.
    pub fn claim(&self, head: u16, written: u32) {
        self.used.lock().push((head, written));
        let events = self.events.lock().clone();
        if let Some(events) = events {
            events();
        }
    }
}

/// What a device does when it is notified of a request.
pub type Handler = Box<dyn FnMut(&FakeDevice, Pending) + Send>;

/// A queue of `size` entries, and the device that takes its requests to `handler`.
pub fn queue<T: Send>(size: usize, handler: Handler) -> (Arc<RequestQueue<T>>, FakeDevice) {
    let device = FakeDevice {
        used: Arc::new(IrqLock::new(Vec::new())),
        events: Arc::new(IrqLock::new(None)),
    };
    let available = Arc::new(IrqLock::new(Vec::new()));
    let ring = FakeRing {
        size,
        in_use: alloc::vec![0; size],
        available: available.clone(),
        used: device.used.clone(),
    };
    let own = device.clone();
    let handler = IrqLock::new(handler);
    let notify = move || {
        loop {
            let pending = available.lock().pop();
            let Some(pending) = pending else { break };
            (handler.lock())(&own, pending);
        }
    };
    let notify = Notify::Call(Box::new(notify));
    match RequestQueue::new(Box::new(ring), notify, None) {
        Ok(queue) => (Arc::new(queue), device),
        Err(error) => panic!("{error}"),
    }
}

struct FakeRing {
    size: usize,
    /// Descriptors each head holds; 0 is a free head.
    in_use: Vec<usize>,
    available: Arc<IrqLock<Vec<Pending>>>,
    used: Arc<IrqLock<Vec<(u16, u32)>>>,
}

impl Ring for FakeRing {
    fn size(&self) -> usize {
        self.size
    }

    fn add(&mut self, readable: &[Segment], writable: &[Segment]) -> Option<u16> {
        let needed = readable.len() + writable.len();
        assert!(
            needed > 0 && needed <= self.size,
            "a request has 1 to {} buffers",
            self.size
        );
        // As with indirect descriptors: one entry a request.
        let head = self.in_use.iter().position(|held| *held == 0)?;
        self.in_use[head] = needed;
        let head = u16::try_from(head).ok()?;
        let pending = Pending {
            head,
            readable: readable.to_vec(),
            writable: writable.to_vec(),
        };
        self.available.lock().insert(0, pending);
        Some(head)
    }

    fn needs_notify(&mut self) -> bool {
        true
    }

    fn next_used(&mut self) -> Option<Used> {
        let mut used = self.used.lock();
        let (head, written) = (!used.is_empty()).then(|| used.remove(0))?;
        Some(Used {
            head: head.into(),
            written,
        })
    }

    fn release(&mut self, head: u16) {
        self.in_use[usize::from(head)] = 0;
    }
}

#[cfg(test)]
mod tests;

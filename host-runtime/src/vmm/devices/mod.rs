//! The devices of a microVM, each behind virtio-mmio, each treating every descriptor as hostile.
//!
//! [`transport`] owns the registers and hands a device its queues when the driver is ready; the event
//! loop (or, for the file system, a thread of its own) calls [`VirtioDevice::kicked`] when the guest
//! notifies a queue. A queue that the guest broke stays still until the driver resets the device.

pub mod console;
pub mod fs;
pub mod rng;
#[cfg(test)]
pub(crate) mod testing;
pub mod transport;
pub mod vsock;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_queue::{Queue, QueueT};
use vm_memory::ByteValued;
use vmm_sys_util::eventfd::EventFd;

use super::memory::Memory;

/// A descriptor chain of guest memory.
pub type Chain = virtio_queue::DescriptorChain<Arc<Memory>>;

/// What the transport needs of a device.
pub trait VirtioDevice: Debug + Send {
    /// The device type's number in the virtio specification.
    fn id(&self) -> u32;
    /// The largest size of each queue.
    fn queue_sizes(&self) -> &'static [u16];
    /// The device's own feature bits; the transport adds the general ones.
    fn features(&self) -> u64 {
        0
    }
    /// The configuration space, read-only to the guest.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The driver is ready: take the queues and look at each once.
    fn activate(&mut self, active: Active);
    /// The guest notified a queue.
    fn kicked(&mut self, queue: usize);
    /// The driver reset the device: give the queues up.
    fn reset(&mut self);
}

/// The most chains taken from, or given to, one queue in a row: a guest that adds buffers as fast as they are
/// used must not keep a thread from its other work, the parent's messages above all.
pub const MOST_IN_A_ROW: usize = 1024;

/// What a device works with from activation to reset.
#[derive(Debug)]
pub struct Active {
    /// Guest memory.
    pub memory: Arc<Memory>,
    /// The queues, as many as the device has; those the driver did not set up are not ready.
    pub queues: Vec<Queue>,
    /// How to interrupt the guest.
    pub interrupt: Arc<Interrupt>,
    /// What the guest's notifications become, a queue each; written to here when there is more to do.
    pub kicks: Arc<[EventFd]>,
}

/// The interrupt line of one device and its status register.
#[derive(Debug)]
pub struct Interrupt {
    status: AtomicU32,
    line: EventFd,
}

impl Interrupt {
    const USED_BUFFER: u32 = 1;
    const CONFIG_CHANGE: u32 = 2;

    /// A line that KVM drives when `line` is written to.
    #[must_use]
    pub fn new(line: EventFd) -> Self {
        Self {
            status: AtomicU32::new(0),
            line,
        }
    }

    /// The status register.
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// The guest acknowledges these bits.
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::AcqRel);
        // The counter of an eventfd that KVM drains does not overflow.
        let _ = self.line.write(1);
    }

    /// The device used buffers.
    pub fn used(&self) {
        self.raise(Self::USED_BUFFER);
    }

    /// The device needs a reset.
    pub fn broken(&self) {
        self.raise(Self::CONFIG_CHANGE);
    }
}

impl Active {
    /// Takes the available chains of a queue, [`MOST_IN_A_ROW`] for now; `handle` says how many bytes it
    /// wrote to each.
    pub fn drain(&mut self, at: usize, mut handle: impl FnMut(&Memory, Chain) -> u32) {
        let Some(queue) = self.queues.get_mut(at).filter(|queue| queue.ready()) else {
            return;
        };
        let mut left = MOST_IN_A_ROW;
        while left > 0 {
            let _ = queue.disable_notification(&*self.memory);
            while left > 0
                && let Some(chain) = queue.pop_descriptor_chain(Arc::clone(&self.memory))
            {
                let head = chain.head_index();
                let written = handle(&self.memory, chain);
                if queue.add_used(&*self.memory, head, written).is_err() {
                    return;
                }
                left -= 1;
            }
            match queue.enable_notification(&*self.memory) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
        let needed = left < MOST_IN_A_ROW && queue_needs(queue, &self.memory);
        self.notify_for(needed);
        if left == 0 {
            self.kick(at);
        }
    }

    /// Makes the thread of this device come back to a queue.
    pub fn kick(&self, queue: usize) {
        if let Some(kick) = self.kicks.get(queue) {
            // The counter of an eventfd that is polled does not overflow.
            let _ = kick.write(1);
        }
    }

    /// Interrupts the guest if it asked to be told of buffers as just used.
    pub fn notify(&mut self, queue: usize) {
        let needed = self
            .queues
            .get_mut(queue)
            .map(|queue| queue_needs(queue, &self.memory));
        self.notify_for(needed.unwrap_or(false));
    }

    fn notify_for(&self, needed: bool) {
        if needed {
            self.interrupt.used();
        }
    }
}

fn queue_needs(queue: &mut Queue, memory: &Memory) -> bool {
    queue.needs_notification(memory).unwrap_or(false)
}

/// The bytes of a configuration structure.
#[must_use]
pub fn config_bytes<T: ByteValued>(config: &T) -> Vec<u8> {
    config.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::testing::{BUFFERS, Driver, ENTRIES};
    use super::*;
    use std::sync::Mutex;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    #[test]
    fn a_guest_that_never_stops_adding_does_not_hold_the_thread() {
        let mut driver = Driver::new(Arc::new(Mutex::new(rng::Rng::default())));
        let mut queue = Queue::new(ENTRIES).expect("a power of two");
        queue.set_desc_table_address(Some(0x1_0000), None);
        queue.set_avail_ring_address(Some(0x1_1000), None);
        queue.set_used_ring_address(Some(0x1_2000), None);
        queue.set_ready(true);
        let event = || EventFd::new(EFD_NONBLOCK).expect("a descriptor");
        let mut active = Active {
            memory: Arc::clone(&driver.memory),
            queues: vec![queue],
            interrupt: Arc::new(Interrupt::new(event())),
            kicks: Arc::new([event()]),
        };
        driver.add(0, &[(BUFFERS, 1, 0)]);
        let mut handled = 0;
        active.drain(0, |_, _| {
            driver.add(0, &[(BUFFERS, 1, 0)]);
            handled += 1;
            assert!(handled <= MOST_IN_A_ROW, "it goes on and on");
            0
        });
        assert_eq!(handled, MOST_IN_A_ROW);
        assert_eq!(active.kicks[0].read().expect("it comes back"), 1);
    }
}

//! The virtio devices of a microVM, each treating every descriptor of its guest as hostile.
//!
//! A [`VirtioDevice`] knows neither its machine nor how it is found: it is handed its queues, guest memory
//! ([`Space`]) and a way to tell the guest ([`Notifier`]) when the driver is ready, and is called when the guest
//! notifies a queue. On our own VMM a [`transport`] is between the device and its driver, and [`mmio`] the registers
//! by which the driver reaches it. A queue that the guest broke stays still until the driver resets the device. All of
//! it can be saved, and gone on from ([`state`]).

#![forbid(unsafe_code)]

pub mod balloon;
pub mod blk;
pub mod console;
pub mod fs;
pub mod mmio;
pub mod net;
pub mod rng;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod vsock;

use std::fmt::Debug;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::epoll::{self, EventData, EventFlags};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

use state::{Saved, StateError};

/// Guest memory as devices reach it: a mapping that stays, or one that its owner exchanges as the guest grows.
pub trait Space:
    GuestAddressSpace<T: Debug + Send + Sync, M: Debug> + Clone + Debug + Send + Sync + 'static
{
}

impl<S> Space for S where
    S: GuestAddressSpace<T: Debug + Send + Sync, M: Debug> + Clone + Debug + Send + Sync + 'static
{
}

/// A descriptor chain of guest memory.
pub type Chain<S> = virtio_queue::DescriptorChain<<S as GuestAddressSpace>::T>;

/// A device that several threads share.
pub type SharedDevice<S> = Arc<Mutex<dyn VirtioDevice<S>>>;

/// How a device tells its guest of something; what that is depends on the transport.
pub trait Notifier: Debug + Send + Sync {
    /// Buffers of this queue were used.
    fn used(&self, queue: usize);
    /// The configuration changed, or the device needs a reset.
    fn config_changed(&self);
}

/// What a transport needs of a device.
pub trait VirtioDevice<S: Space>: Debug + Send {
    /// The device type's number in the virtio specification.
    fn id(&self) -> u32;
    /// What people call it.
    fn name(&self) -> &'static str;
    /// The largest size of each queue.
    fn queue_sizes(&self) -> &'static [u16];
    /// The device's own feature bits, of which it uses those that the driver accepts ([`Active::features`]); the
    /// transport adds the general ones.
    fn features(&self) -> u64 {
        0
    }
    /// The configuration space. A change is told by [`Notifier::config_changed`] before the device's lock is let go.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }
    /// The guest writes to the configuration space, on a CPU's thread; where that is read-only, it goes nowhere.
    fn write_config(&mut self, at: usize, data: &[u8]) {
        let _ = (at, data);
    }
    /// The driver is ready: take the queues and look at each once. The thread is a CPU's, which only may [kick](Active::kick)
    /// the device's own.
    fn activate(&mut self, active: Active<S>);
    /// The guest notified a queue.
    fn kicked(&mut self, queue: usize);
    /// What else its thread is to wait for: that something comes, or that there is room ([`watch`]).
    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
    /// One of the descriptors that are [watched](Self::watched) has become ready.
    fn ready(&mut self, which: usize) {
        let _ = which;
    }
    /// Give the queues up and keep everything else, to go on when activated again: the guest's CPUs have stopped.
    fn suspend(&mut self) -> Option<Active<S>>;
    /// The driver reset the device: give the queues up, and forget the driver. On a CPU's thread, too.
    fn reset(&mut self) {
        self.suspend();
    }
    /// What the device has to remember besides its queues, which it has given up ([`suspend`](Self::suspend)).
    ///
    /// # Errors
    /// When it holds what cannot be saved.
    fn save(&self) -> Result<Saved, StateError> {
        Saved::new(self.name(), 1, &())
    }
    /// Remembers what was saved, before it is activated.
    ///
    /// # Errors
    /// When that is no state of this device.
    fn restore(&mut self, saved: &Saved) -> Result<(), StateError> {
        saved.fields(self.name(), 1)
    }
}

/// The bit of a poller's tokens for what a device [watches](VirtioDevice::watched); its place is in the lower bits.
pub const WATCHED_TOKEN: u64 = 1 << 33;

/// Has a poller tell of what a device watches, each time that it has become ready.
///
/// # Errors
/// What the poller said.
pub fn watch<S: Space>(
    device: &dyn VirtioDevice<S>,
    poller: &OwnedFd,
) -> Result<(), rustix::io::Errno> {
    for (which, descriptor) in (0u64..).zip(device.watched()) {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let token = EventData::new_u64(WATCHED_TOKEN | which);
        epoll::add(poller, descriptor, token, flags)?;
    }
    Ok(())
}

/// The most chains taken from, or given to, one queue in a row: a guest that adds buffers as fast as they are
/// used must not keep a thread from its other work, the parent's messages above all.
pub const MOST_IN_A_ROW: usize = 1024;

/// What a device works with from activation to reset.
#[derive(Debug)]
pub struct Active<S> {
    /// Guest memory.
    pub memory: S,
    /// The features that the driver accepted.
    pub features: u64,
    /// The queues, as many as the device has; those the driver did not set up are not ready.
    pub queues: Vec<Queue>,
    /// How to tell the guest.
    pub notifier: Arc<dyn Notifier>,
    /// What the guest's notifications become, a queue each; written to here when there is more to do.
    pub kicks: Arc<[EventFd]>,
    /// Counts the chains that were used.
    pub requests: Arc<AtomicU64>,
}

impl<S: Space> Active<S> {
    /// Takes the available chains of a queue, [`MOST_IN_A_ROW`] for now; `handle` says how many bytes it
    /// wrote to each.
    pub fn drain(&mut self, at: usize, mut handle: impl FnMut(&S::M, Chain<S>) -> u32) {
        let Some(queue) = self.queues.get_mut(at).filter(|queue| queue.ready()) else {
            return;
        };
        let memory = self.memory.memory();
        let mut left = MOST_IN_A_ROW;
        let mut is_promised = false;
        while left > 0 {
            let before = left;
            let _ = queue.disable_notification(&*memory);
            while left > 0
                && let Some(chain) = queue.pop_descriptor_chain(memory.clone())
            {
                let head = chain.head_index();
                let written = handle(&memory, chain);
                if queue.add_used(&*memory, head, written).is_err() {
                    return;
                }
                left -= 1;
            }
            match queue.enable_notification(&*memory) {
                // An index that lies names chains that cannot be taken, for ever.
                Ok(true) if is_promised && left == before => break,
                Ok(true) => is_promised = true,
                Ok(false) => break,
                Err(_) => return,
            }
        }
        self.count(MOST_IN_A_ROW - left);
        if left < MOST_IN_A_ROW {
            self.notify(at);
        }
        if left == 0 {
            self.kick(at);
        }
    }

    /// Adds to what has been counted of this device.
    pub fn count(&self, used: usize) {
        self.requests.fetch_add(used as u64, Ordering::Relaxed);
    }

    /// Makes the thread of this device come back to a queue; whether it will.
    pub fn kick(&self, queue: usize) -> bool {
        let Some(kick) = self.kicks.get(queue) else {
            return false;
        };
        // The counter of an eventfd that is polled does not overflow.
        kick.write(1).is_ok()
    }

    /// Tells the guest, if it asked to be told, of buffers just used.
    pub fn notify(&mut self, queue: usize) {
        let memory = self.memory.memory();
        let Some(used) = self.queues.get_mut(queue) else {
            return;
        };
        if used.needs_notification(&*memory).unwrap_or(false) {
            self.notifier.used(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{BUFFERS, Driver, ENTRIES};
    use super::*;
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
            features: 0,
            queues: vec![queue],
            notifier: Arc::new(mmio::Interrupt::new(event())),
            kicks: Arc::new([event()]),
            requests: Arc::default(),
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
        assert_eq!(active.requests.load(Ordering::Relaxed), 1024);
        assert_eq!(active.kicks[0].read().expect("it comes back"), 1);
    }
}

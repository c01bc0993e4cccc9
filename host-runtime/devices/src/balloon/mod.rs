//! virtio balloon (virtio 1.2, section 5.5), for one of the things it can do: the guest reports memory that it has no use
//! for, and the host takes that back until the guest touches it again.
//!
//! No memory is ever asked of the guest: the size in the configuration stays zero, and what a guest puts into the inflate
//! queue all the same it gets back at once. What memory is, and how it is taken back, is the machine's to know ([`Discard`]).

use std::fmt::Debug;
use std::io;

use vm_memory::GuestAddress;

use super::{Active, Chain, Space, VirtioDevice};

/// `VIRTIO_BALLOON_F_REPORTING`.
const F_REPORTING: u64 = 1 << 5;
/// The queue of reports, behind inflate and deflate: there is neither one of statistics nor one of hints.
const REPORTS: usize = 2;
/// The unit of reports.
const PAGE: u64 = 4096;
/// The most buffers of a report: as many as the queue has entries.
const MOST: u16 = 32;

/// Takes memory back from a guest.
pub trait Discard: Debug + Send {
    /// Gives the host's memory behind so many bytes up; from now on they are zero. Both numbers are the guest's word, and
    /// multiples of [`PAGE`].
    ///
    /// # Errors
    /// When that is not RAM from end to end, or the host refuses.
    fn discard(&self, start: GuestAddress, bytes: u64) -> io::Result<()>;
}

/// The balloon device.
#[derive(Debug)]
pub struct Balloon<S> {
    ram: Box<dyn Discard>,
    active: Option<Active<S>>,
}

impl<S> Balloon<S> {
    /// A device of a guest with this memory.
    #[must_use]
    pub fn new(ram: Box<dyn Discard>) -> Self {
        Self { ram, active: None }
    }
}

impl<S: Space> VirtioDevice<S> for Balloon<S> {
    fn id(&self) -> u32 {
        5
    }

    fn name(&self) -> &'static str {
        "balloon"
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[MOST, MOST, MOST]
    }

    fn features(&self) -> u64 {
        F_REPORTING
    }

    /// The pages that the host wants, and those that it has: none.
    fn config(&self) -> Vec<u8> {
        vec![0; 8]
    }

    fn activate(&mut self, active: Active<S>) {
        let comes = active.kick(REPORTS);
        self.active = Some(active);
        if !comes {
            self.kicked(REPORTS);
        }
    }

    fn kicked(&mut self, queue: usize) {
        let Some(active) = &mut self.active else {
            return;
        };
        let ram = &*self.ram;
        active.drain(queue, |_, chain| {
            if queue == REPORTS {
                take_back::<S>(ram, chain);
            }
            0
        });
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }
}

/// Takes back what a report names. What cannot be taken stays the guest's, who is not to know: its pages may be as they were.
fn take_back<S: Space>(ram: &dyn Discard, chain: Chain<S>) {
    for buffer in chain.writable().take(MOST.into()) {
        let (start, bytes) = (buffer.addr(), u64::from(buffer.len()));
        if bytes > 0 && start.0.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE) {
            let _ = ram.discard(start, bytes);
        }
    }
}

#[cfg(test)]
mod tests;

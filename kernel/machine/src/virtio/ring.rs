//! The split ring: `virtio-drivers`' `VirtQueue` as a [`Ring`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result as DriverResult};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::device::{Registers, RingAddresses, SetupError};
use super::hal::Machine;
use super::queue::{Ring, Segment};

/// A ring for queue `index`: the largest size known here that neither the device nor `wanted` forbids.
/// A ring of up to 128 entries fits the two frames that it is given.
pub(super) fn new(
    registers: &mut dyn Registers,
    index: u16,
    wanted: u16,
    indirect: bool,
    event_index: bool,
) -> Result<Box<dyn Ring>, SetupError> {
    let size = registers.max_queue_size(index).min(wanted.into());
    match size {
        128.. => sized::<128>(registers, index, indirect, event_index),
        64.. => sized::<64>(registers, index, indirect, event_index),
        16.. => sized::<16>(registers, index, indirect, event_index),
        4.. => sized::<4>(registers, index, indirect, event_index),
        _ => Err(SetupError::NoQueue(index)),
    }
}

fn sized<const SIZE: usize>(
    registers: &mut dyn Registers,
    index: u16,
    indirect: bool,
    event_index: bool,
) -> Result<Box<dyn Ring>, SetupError> {
    let queue =
        VirtQueue::new(&mut Adapter(registers), index, indirect, event_index).map_err(|error| {
            match error {
                Error::DmaError => SetupError::OutOfMemory,
                _ => SetupError::NoQueue(index),
            }
        })?;
    Ok(Box::new(SplitRing::<SIZE> { queue, added: 0 }))
}

struct SplitRing<const SIZE: usize> {
    queue: VirtQueue<Machine, SIZE>,
    /// Requests added so far, as the available index counts them.
    added: u16,
}

impl<const SIZE: usize> Ring for SplitRing<SIZE> {
    fn size(&self) -> usize {
        SIZE
    }

    fn add(&mut self, readable: &[Segment], writable: &[Segment]) -> Option<u16> {
        let inputs = readable_slices(readable);
        let mut outputs = writable_slices(writable);
        // SAFETY: the buffers are in frames whose handles `RequestQueue` keeps in `in_flight` until
        // `pop` succeeds with this head; nothing reads or writes them through the slices, which
        // end with this call.
        let head = unsafe { self.queue.add(&inputs, &mut outputs) }.ok()?;
        self.added = self.added.wrapping_add(1);
        Some(head)
    }

    fn needs_notify(&mut self) -> bool {
        // The index was published by a store; the device's wish must not be read before that.
        fence(Ordering::SeqCst);
        // `should_notify` compares indices without regard to their wrap-around at 65536, and could
        // hold a notification back just after it.
        usize::from(self.added) <= SIZE || self.queue.should_notify()
    }

    fn peek(&mut self) -> Option<u16> {
        // `pop` published how far this side has come; completions that the device added without
        // an interrupt because it had not seen that must be seen here.
        fence(Ordering::SeqCst);
        self.queue.peek_used()
    }

    fn pop(&mut self, head: u16, readable: &[Segment], writable: &[Segment]) -> Option<u32> {
        let inputs = readable_slices(readable);
        let mut outputs = writable_slices(writable);
        // SAFETY: `RequestQueue` passes the segments that it gave to `add` for this head.
        unsafe { self.queue.pop_used(head, &inputs, &mut outputs) }.ok()
    }
}

fn readable_slices(segments: &[Segment]) -> Vec<&[u8]> {
    let slice = |segment: &Segment| {
        // SAFETY: the segment lies in a live frame. The slice only carries address and length to
        // `VirtQueue`, which takes both without reading through it.
        unsafe { segment.bytes().as_ref() }
    };
    segments.iter().map(slice).collect()
}

/// The slices end with the call of `VirtQueue` that they are made for; they borrow nothing of the segments,
/// which do not own the bytes: a frame's bytes have no Rust type, and two segments may be of one frame.
fn writable_slices<'a>(segments: &[Segment]) -> Vec<&'a mut [u8]> {
    let slice = |segment: &Segment| {
        // SAFETY: as in `readable_slices`: address and length are taken, nothing is written
        // through the slice.
        unsafe { segment.bytes().as_mut() }
    };
    segments.iter().map(slice).collect()
}

/// [`Registers`] as `VirtQueue::new` wants them; it asks four things and sets the queue.
struct Adapter<'a>(&'a mut dyn Registers);

impl Transport for Adapter<'_> {
    fn device_type(&self) -> DeviceType {
        DeviceType::EntropySource
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.device_features()
    }
    fn write_driver_features(&mut self, features: u64) {
        self.0.set_driver_features(features);
    }
    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.0.max_queue_size(queue)
    }
    fn notify(&mut self, queue: u16) {
        self.0.notify(queue);
    }
    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.0.status().into())
    }
    fn set_status(&mut self, status: DeviceStatus) {
        self.0.set_status((status.bits() & 0xff) as u8);
    }
    fn set_guest_page_size(&mut self, _size: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver: PhysAddr,
        device: PhysAddr,
    ) {
        self.0.set_queue(
            queue,
            size,
            RingAddresses {
                descriptors,
                driver,
                device,
            },
        );
    }
    fn queue_unset(&mut self, _queue: u16) {}
    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.queue_in_use(queue)
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(self.0.acknowledge())
    }
    fn read_config_generation(&self) -> u32 {
        self.0.config_generation()
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, _offset: usize) -> DriverResult<T> {
        Err(Error::Unsupported)
    }
    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _offset: usize,
        _value: T,
    ) -> DriverResult<()> {
        Err(Error::Unsupported)
    }
}

//! Devices that do not do what the specification has them do.

use crate::test_vec;
use core::ptr::NonNull;

use super::registers::Messages;
use super::*;
use crate::frame::Frame;
use crate::virtio::doorbell::{Doorbell, LineStatus};

/// A device whose registers read as the fields say, whatever is written.
#[derive(Debug)]
struct Stubborn {
    features: u64,
    status: u8,
}

impl Registers for Stubborn {
    fn device_features(&mut self) -> u64 {
        self.features
    }
    fn set_driver_features(&mut self, _features: u64) {}
    fn status(&self) -> u8 {
        self.status
    }
    fn set_status(&mut self, _status: u8) {}
    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        0
    }
    fn queue_in_use(&mut self, _queue: u16) -> bool {
        false
    }
    fn set_queue(&mut self, _: u16, _: u16, _: RingAddresses, _: u16) {}
    fn doorbell(&mut self, _queue: u16) -> Option<Doorbell> {
        None
    }
    fn shared_memory(&mut self, _id: u8) -> Option<SharedMemory> {
        SharedMemory::checked(u64::MAX, u64::MAX)
    }
    fn config_generation(&self) -> u32 {
        0
    }
    fn config_len(&self) -> usize {
        8
    }
    fn config_byte(&self, _offset: usize) -> u8 {
        7
    }
    fn config_word(&self, _offset: usize) -> u32 {
        7
    }
}

/// No message is ever to be had.
#[derive(Debug)]
struct Speechless;

impl Messages for Speechless {
    fn assign(&mut self, _cpu: CpuId, _events: Events) -> Option<u16> {
        None
    }
}

fn device(features: u64, status: u8) -> Device {
    let registers = Box::new(Stubborn { features, status });
    let wiring = Wiring::Messages(Box::new(Speechless));
    Device::new(Kind::Entropy, registers, wiring).unwrap()
}

#[test]
fn a_device_that_does_not_follow_the_steps_is_given_up() {
    let cases = [
        (feature::VERSION_1, 0xff, SetupError::NoReset),
        (0, 0, SetupError::Legacy),
        (feature::VERSION_1, 0, SetupError::FeaturesRefused),
    ];
    for (features, status, error) in cases {
        assert_eq!(device(features, status).negotiate(0), Err(error));
    }
}

#[test]
fn configuration_is_read_only_where_it_is() {
    let device = device(0, 0);
    assert!(device.read_config(4, &mut [0; 4]) && device.config_u32(4) == Some(7));
    assert!(!device.read_config(5, &mut [0; 4]) && !device.read_config(usize::MAX, &mut [0]));
    assert_eq!(
        [1, 8, usize::MAX - 3].map(|at| device.config_u32(at)),
        [None; 3]
    );
}

/// A device with queues. It notes how many hold `buffer` whenever it is reset.
#[derive(Debug)]
struct Working {
    buffer: Frame,
    holders_at_reset: Arc<IrqLock<Vec<usize>>>,
    /// Resets that it still obeys.
    resets: usize,
    status: u8,
    word: NonNull<u32>,
}

// SAFETY: the word is leaked, and the tests use it from one thread.
unsafe impl Send for Working {}

impl Registers for Working {
    fn device_features(&mut self) -> u64 {
        feature::VERSION_1 | feature::EVENT_IDX
    }
    fn set_driver_features(&mut self, _features: u64) {}
    fn status(&self) -> u8 {
        self.status
    }
    fn set_status(&mut self, status: u8) {
        if status != 0 {
            self.status = status;
        } else if self.resets > 0 {
            self.resets -= 1;
            self.status = 0;
            let holders = self.buffer.handles() - 1;
            self.holders_at_reset.lock().try_push(holders).unwrap();
        }
    }
    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        16
    }
    fn queue_in_use(&mut self, _queue: u16) -> bool {
        false
    }
    fn set_queue(&mut self, _: u16, _: u16, _: RingAddresses, _: u16) {}
    fn doorbell(&mut self, queue: u16) -> Option<Doorbell> {
        Some(Doorbell::Wide(self.word, queue.into()))
    }
    fn shared_memory(&mut self, _id: u8) -> Option<SharedMemory> {
        SharedMemory::checked(0x1_0000_0000, 0x1000)
    }
    fn config_generation(&self) -> u32 {
        0
    }
    fn config_len(&self) -> usize {
        0
    }
    fn config_byte(&self, _offset: usize) -> u8 {
        0
    }
    fn config_word(&self, _offset: usize) -> u32 {
        0
    }
}

/// Holders of a buffer in flight at each reset, and after its queue was dropped, by a device that obeys
/// `resets` of them.
fn drop_queue_in_use(resets: usize) -> (Vec<usize>, usize) {
    let buffer = Frame::alloc_zeroed().unwrap();
    let holders_at_reset = Arc::new(IrqLock::new(Vec::new()));
    let word = NonNull::from(Box::leak(Box::new(7_u32)));
    let registers = Working {
        buffer: buffer.clone(),
        holders_at_reset: holders_at_reset.clone(),
        resets,
        status: 0,
        word,
    };
    let status = LineStatus {
        status: word,
        acknowledge: word,
    };
    let wiring = Wiring::Line { gsi: 0, status };
    let mut device = Device::new(Kind::Entropy, Box::new(registers), wiring).unwrap();
    device.negotiate(0).unwrap();
    let queue = device.queue::<()>(3, 64, 0, Arc::new(|| {})).unwrap();
    let running = device.start().unwrap();
    let segment = super::super::Segment::page(buffer.clone());
    queue
        .submit(Vec::new(), Vec::try_from([segment]).unwrap(), ())
        .unwrap();
    // SAFETY: leaked above, and nothing else looks at it now.
    let rung = unsafe { word.read_volatile() };
    assert_eq!(rung, 3, "the doorbell has the queue's number");
    drop(queue);
    let noted = holders_at_reset.lock().try_clone().unwrap();
    let left = buffer.handles() - 2;
    drop(running);
    (noted, left)
}

#[test]
fn a_queue_resets_its_device_before_its_memory_is_freed() {
    // The first reset is that of the negotiation.
    assert_eq!(drop_queue_in_use(9), (test_vec![1, 2], 0));
}

#[test]
fn memory_of_a_device_that_does_not_reset_stays_its_own() {
    assert_eq!(drop_queue_in_use(1), (test_vec![1], 1));
}

#[test]
fn shared_memory_is_a_claim() {
    let cases = [
        (0, 1),
        (1, 0),
        (u64::MAX, 2),
        (1 << 52, 1),
        (u64::MAX, u64::MAX),
    ];
    for (base, len) in cases {
        assert_eq!(SharedMemory::checked(base, len), None, "{base:#x} {len:#x}");
    }
    assert!(SharedMemory::checked(1 << 40, 1 << 40).is_some());
}

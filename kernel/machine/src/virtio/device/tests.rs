//! Devices that do not do what the specification has them do.

use super::*;

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
    fn set_queue(&mut self, _queue: u16, _size: u32, _addresses: RingAddresses) {}
    fn notify(&mut self, _queue: u16) {}
    fn acknowledge(&mut self) -> u32 {
        u32::MAX
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

fn device(features: u64, status: u8) -> Device {
    Device::new(
        Kind::Entropy,
        Box::new(Stubborn { features, status }),
        Wiring::Messages,
        HandlerSlot::default(),
    )
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

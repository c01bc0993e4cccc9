//! What a running machine has counted.

use serde::{Deserialize, Serialize};

/// Counters since the machine's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// How often each CPU came out of the guest to the VMM.
    pub exits: Vec<u64>,
    /// How many requests each device has served.
    pub devices: Vec<DeviceStats>,
}

/// One device's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// Which device, as people call it.
    pub name: String,
    /// Descriptor chains used.
    pub requests: u64,
}

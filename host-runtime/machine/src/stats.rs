//! What a running machine has counted.

use serde::{Deserialize, Serialize};

/// Counters since the machine's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// How often each CPU came out of the guest to the VMM.
    pub exits: Vec<u64>,
    /// How many requests each device has served.
    pub devices: Vec<DeviceStats>,
    /// How many instructions its CPUs have executed, where [they are counted](crate::MachineSpec::counts_instructions).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

/// One device's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// Which device, as people call it.
    pub name: String,
    /// Descriptor chains used.
    pub requests: u64,
}

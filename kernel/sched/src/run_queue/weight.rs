//! Weights of nice values, and virtual time.

use crate::attributes::{Attributes, Policy};

/// The band of fair threads; lower bands run first. Real-time priority 99 is band 0.
pub const FAIR_BAND: u8 = 99;
/// The weight of nice 0, and of a group with cpu.weight 100.
pub const UNIT_WEIGHT: u32 = 1024;

const IDLE_WEIGHT: u32 = 3;
const WEIGHTS: [u32; 40] = weights();

/// The weight of nice -20 to 19: each step is a factor of 1.25.
const fn weights() -> [u32; 40] {
    let mut weights = [UNIT_WEIGHT; 40];
    let mut step = 1;
    while step <= 20 {
        weights[20 - step] = weights[21 - step] * 5 / 4;
        if step < 20 {
            weights[20 + step] = weights[19 + step] * 4 / 5;
        }
        step += 1;
    }
    weights
}

/// The band and the weight of a thread with these attributes.
#[must_use]
pub fn standing(attributes: Attributes) -> (u8, u32) {
    match attributes.policy {
        Policy::Fifo | Policy::RoundRobin => (99 - attributes.priority.clamp(1, 99), UNIT_WEIGHT),
        Policy::Idle => (FAIR_BAND, IDLE_WEIGHT),
        Policy::Other | Policy::Batch => (
            FAIR_BAND,
            WEIGHTS[usize::from((attributes.nice.clamp(-20, 19) + 20).unsigned_abs())],
        ),
    }
}

/// Virtual time of `ran_ns` at `weight`.
#[must_use]
pub fn virtual_time(ran_ns: u64, weight: u32) -> u64 {
    if weight == UNIT_WEIGHT {
        return ran_ns;
    }
    ran_ns.saturating_mul(u64::from(UNIT_WEIGHT)) / u64::from(weight.max(1))
}

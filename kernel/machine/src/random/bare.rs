//! RDSEED or RDRAND when CPUID has them, else the TSC stirred: better than nothing, not vouched for.

use core::arch::asm;

use crate::x86::features::{self, Features};
use crate::x86::read_tsc;

/// The manual's advice: more failures in a row than this mean that the generator is broken.
const TRIES: usize = 10;

/// 64 bits from RDRAND/RDSEED when CPUID has them, else from the TSC's jitter; `true` in the
/// second field when the CPU vouches for them.
#[must_use]
pub fn cpu_entropy() -> (u64, bool) {
    let seed = features::has(Features::RDSEED)
        .then(|| (0..TRIES).find_map(|_| rdseed()))
        .flatten();
    let random = || {
        features::has(Features::RDRAND)
            .then(|| (0..TRIES).find_map(|_| rdrand()))
            .flatten()
    };
    match seed.or_else(random) {
        Some(value) => (value, true),
        None => (jitter(), false),
    }
}

fn rdseed() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: CPUID has RDSEED.
    unsafe {
        asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack));
    }
    (ok != 0).then_some(value)
}

fn rdrand() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: CPUID has RDRAND.
    unsafe {
        asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack));
    }
    (ok != 0).then_some(value)
}

/// Sixteen readings of the clock, each stirred in with the finaliser of splitmix64.
fn jitter() -> u64 {
    (0..16).fold(0, |pool: u64, _| {
        let mixed = (pool ^ read_tsc()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    })
}

//! Entropy the CPU has. The random number generator proper is in `fs::random` above.

/// 64 bits from RDRAND/RDSEED when CPUID has them, else from the TSC's jitter; `true` in the
/// second field when the CPU vouches for them.
#[must_use]
pub fn cpu_entropy() -> (u64, bool) {
    todo!()
}

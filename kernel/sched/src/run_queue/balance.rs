//! Which CPU a thread goes to when CPUs have unlike numbers of them.
//!
//! A CPU looks at the end of a slice, when it has threads that wait: one that has nothing to wait for has no
//! slices and is not disturbed. A difference of two is evened out at once. A difference of one cannot be, so
//! the surplus thread goes round: every [`ROTATION_NS`] the fuller CPU gives one away, not one that came lately.

use machine::cpu::CpuId;

/// How often a surplus thread moves on.
pub const ROTATION_NS: u64 = 50_000_000;
/// How long a thread stays at least where it came to, if it goes round.
pub const SETTLE_NS: u64 = 2 * ROTATION_NS - ROTATION_NS / 4;

/// What to give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// To whom.
    pub to: CpuId,
    /// Not one that came less than [`SETTLE_NS`] ago.
    pub settled_only: bool,
}

/// What a CPU with `load` threads (running and waiting) gives away, `others` being the loads of the CPUs that
/// it may give to, the next one first: so that a surplus thread goes all the way round.
#[must_use]
pub fn push(
    load: usize,
    others: impl Iterator<Item = (CpuId, usize)>,
    is_rotation_due: bool,
) -> Option<Push> {
    let (to, least) = others.min_by_key(|(_, load)| *load)?;
    if load >= least + 2 {
        Some(Push {
            to,
            settled_only: false,
        })
    } else if load == least + 1 && load > 1 && is_rotation_due {
        Some(Push {
            to,
            settled_only: true,
        })
    } else {
        None
    }
}

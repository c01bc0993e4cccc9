//! Load averages: how many threads wanted to run, over 1, 5 and 15 minutes.
//!
//! There is no tick to sample on: a sample is taken when somebody asks, and stands for the time since
//! the last one.

use core::fmt;

use machine::sync::SpinLock;

/// Bits behind the point.
const SHIFT: u32 = 11;
const ONE: u64 = 1 << SHIFT;
const STEP_NS: u64 = 5_000_000_000;
/// exp(-5 s / 1, 5, 15 min), in fixed point.
const DECAY: [u64; 3] = [1884, 2014, 2037];
/// Older samples have no weight left.
const MOST_STEPS: u64 = 720;

struct State {
    averages: [u64; 3],
    sampled_ns: u64,
}

static STATE: SpinLock<State> = SpinLock::new(State {
    averages: [0; 3],
    sampled_ns: 0,
});

/// The averages, with 11 bits behind the point.
#[must_use]
pub fn averages() -> [u64; 3] {
    let now = sched::clock::monotonic_ns();
    let active = sched::stats::runnable_threads() as u64 * ONE;
    let mut state = STATE.lock();
    let steps = now.saturating_sub(state.sampled_ns) / STEP_NS;
    if steps > 0 {
        state.sampled_ns += steps * STEP_NS;
        for _ in 0..steps.min(MOST_STEPS) {
            state.averages = advance(state.averages, active);
        }
    }
    state.averages
}

fn advance(averages: [u64; 3], active: u64) -> [u64; 3] {
    let mut next = averages;
    for (average, decay) in next.iter_mut().zip(DECAY) {
        *average = (*average * decay + active * (ONE - decay)) >> SHIFT;
    }
    next
}

/// An average, shown as "1.23".
#[derive(Debug, Clone, Copy)]
pub struct Average(pub u64);

impl fmt::Display for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.0 * 100 + ONE / 2) >> SHIFT;
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn averages_approach_what_is_active() {
        let mut averages = [0; 3];
        for _ in 0..720 {
            averages = advance(averages, 2 * ONE);
        }
        assert!(
            averages[0] > 2 * ONE - 80 && averages[0] <= 2 * ONE,
            "{averages:?}"
        );
        assert_eq!(Average(ONE + ONE / 4).to_string(), "1.25");
    }
}

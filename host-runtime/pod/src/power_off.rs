//! Waiting for the end of a machine whose guest was asked to power off.
//!
//! What a guest has to write back takes as long as the host lets it. So time alone says nothing: a guest is given
//! up when its machine has hardly used a CPU for a while, or, if it only keeps busy, after minutes.

use std::time::{Duration, Instant};

use host_machine::bounds;
use host_machine::{ExitReason, Machine};

/// What counts as doing something within [`bounds::POWER_OFF_QUIET`], in clock ticks (10 ms) of CPU time: more than an idle guest uses.
const WORK_TICKS: u64 = 5;
/// How often the machine's CPU time is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for the machine's end.
///
/// # Errors
/// How long it was waited for when the guest does not get on with it; it still runs.
pub(crate) fn wait(machine: &dyn Machine) -> Result<ExitReason, Duration> {
    let begun = Instant::now();
    let mut patience = Patience::new(cpu_ticks(machine.pid()));
    loop {
        if let Some(reason) = machine.wait(Some(LOOK)) {
            return Ok(reason);
        }
        let waited = begun.elapsed();
        if patience.is_over(waited, cpu_ticks(machine.pid())) {
            return Err(waited);
        }
    }
}

/// What was seen of a guest's work.
struct Patience {
    ticks: u64,
    worked_at: Duration,
}

impl Patience {
    fn new(ticks: Option<u64>) -> Self {
        Self {
            ticks: ticks.unwrap_or(0),
            worked_at: Duration::ZERO,
        }
    }

    /// Whether to give up after having `waited`, the machine having used `ticks`; `None` when nobody knows.
    fn is_over(&mut self, waited: Duration, ticks: Option<u64>) -> bool {
        let ticks = ticks.unwrap_or(self.ticks);
        if ticks >= self.ticks + WORK_TICKS {
            self.ticks = ticks;
            self.worked_at = waited;
        }
        waited >= bounds::POWER_OFF.get()
            || waited - self.worked_at >= bounds::POWER_OFF_QUIET.get()
    }
}

/// CPU time that a process of ours has used, in clock ticks (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::{Duration, Patience, bounds, cpu_ticks};

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_guest_that_works_is_waited_for() {
        let mut patience = Patience::new(Some(100));
        for second in 1..bounds::POWER_OFF.get().as_secs() {
            assert!(!patience.is_over(seconds(second), Some(100 + second)));
        }
        assert!(patience.is_over(bounds::POWER_OFF.get(), Some(1000)));
    }

    #[test]
    fn a_guest_that_idles_is_given_up() {
        let mut patience = Patience::new(Some(100));
        assert!(!patience.is_over(seconds(5), Some(120)));
        assert!(!patience.is_over(seconds(14), Some(123)));
        assert!(patience.is_over(seconds(5) + bounds::POWER_OFF_QUIET.get(), Some(124)));
        let mut unknown = Patience::new(None);
        assert!(!unknown.is_over(seconds(9), None));
        assert!(unknown.is_over(bounds::POWER_OFF_QUIET.get(), None));
    }

    #[test]
    fn cpu_time_of_a_process_is_read() {
        let mut sum = 0u64;
        while cpu_ticks(std::process::id()).expect("our own /proc") == 0 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(cpu_ticks(u32::MAX), None);
    }
}

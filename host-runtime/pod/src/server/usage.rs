//! What processes of the host use, from `/proc`.

use std::fs;

/// Processor time in nanoseconds; 0 for a process that cannot be read.
pub(super) fn cpu_ns(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    ticks(&text).saturating_mul(1_000_000_000 / per_second)
}

/// Its proportional share of memory in bytes; what is resident where that may not be read.
pub(super) fn memory_bytes(pid: u32) -> u64 {
    let share = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let share = share.ok().and_then(|text| kilobytes(&text, "Pss:"));
    let resident = || {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        kilobytes(&text, "VmRSS:")
    };
    share.or_else(resident).unwrap_or(0).saturating_mul(1024)
}

/// User and system time, the fields 14 and 15 of proc_pid_stat(5). The name in field 2 may hold anything.
fn ticks(stat: &str) -> u64 {
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_a_gone_one_nothing() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 12 30 5 6 20 0";
        assert_eq!(ticks(stat), 42);
        assert!(memory_bytes(std::process::id()) > 100_000);
        assert_eq!(memory_bytes(u32::MAX), 0);
        assert_eq!(cpu_ns(u32::MAX), 0);
    }
}

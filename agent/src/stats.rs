//! What processes use, by `/proc`: of one container, and of the guest.

use std::fs;

use agent_protocol::StatsResponse;

use crate::pod::Pod;
use crate::refusal::Answer;

/// The figures of a container.
pub(crate) fn of(pod: &Pod, container: &str) -> Answer<StatsResponse> {
    pod.lock().container(container)?;
    let members = pod.members(container);
    pod.note_oom(None);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut stats = StatsResponse {
        processes: u32::try_from(members.len()).unwrap_or(u32::MAX),
        oom_kills: pod.lock().container(container)?.oom_kills,
        guest_cpu_ns: nanoseconds(busy(&read("/proc/stat")), ticks),
        ..Default::default()
    };
    let memory = read("/proc/meminfo");
    stats.guest_memory_bytes = kilobytes(&memory, "MemTotal:") * 1024;
    stats.guest_available_bytes = kilobytes(&memory, "MemAvailable:") * 1024;
    if let Some(cgroup) = pod.cgroup(container) {
        stats.memory_bytes = cgroup.number("memory.current").unwrap_or(0);
        stats.memory_peak_bytes = cgroup.number("memory.peak").unwrap_or(0);
        stats.memory_limit_bytes = cgroup.number("memory.max").unwrap_or(0);
        stats.inactive_file_bytes = cgroup.keyed("memory.stat", "inactive_file");
        stats.tasks = cgroup.number("pids.current").unwrap_or(0);
        stats.task_limit = cgroup.number("pids.max").unwrap_or(0);
    }
    for pid in members {
        let used = used(&read(&format!("/proc/{pid}/stat")));
        stats.cpu_ns += nanoseconds(used.ticks, ticks);
        stats.resident_bytes += used.pages * page;
    }
    Ok(stats)
}

/// How many processes the kernel has killed for want of memory since it booted.
pub(crate) fn oom_kills() -> u64 {
    let text = read("/proc/vmstat");
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Used {
    ticks: u64,
    pages: u64,
}

/// Fields 14, 15 and 24 of proc_pid_stat(5). The name in field 2 may hold anything; a process that has gone uses nothing.
fn used(stat: &str) -> Used {
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<_> = rest.split_whitespace().collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
    };
    Used {
        ticks: number(11).unwrap_or(0) + number(12).unwrap_or(0),
        pages: number(21).unwrap_or(0),
    }
}

/// User, nice and system time of all processors.
fn busy(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let times = line.unwrap_or_default().split_whitespace().take(3);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn nanoseconds(ticks: u64, per_second: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / per_second)
}

/// What cannot be read counts nothing.
fn read(path: &str) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Used, busy, kilobytes, used};

    #[test]
    fn figures_are_found_past_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 12 30 5 6 20 0 1 0 99 4096 55 0";
        let (ticks, pages) = (42, 55);
        assert_eq!(used(stat), Used { ticks, pages });
        assert_eq!(used(""), Used::default());
        assert_eq!(busy("cpu  1 2 3 400 0\ncpu0 1 2 3 400 0\n"), 6);
        assert_eq!(kilobytes("MemTotal:  16 kB\n", "MemTotal:"), 16);
    }
}

//! What an idle pod costs the host: memory of each of its processes, and how often they wake.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;

/// For how long nothing may wake.
const WATCHED: Duration = Duration::from_secs(30);
/// How long a pod may take to come to rest.
const REST_BOUND: Duration = Duration::from_secs(120);

/// Prints the processes of the pod that a process owns, and fails when any of them wakes.
pub(crate) fn check(owner: u32) -> anyhow::Result<()> {
    let pids = family(owner);
    let begun = Instant::now();
    let mut before = switches(&pids);
    loop {
        std::thread::sleep(Duration::from_secs(3));
        let now = switches(&pids);
        if now == before {
            break;
        }
        ensure!(
            begun.elapsed() < REST_BOUND,
            "the pod does not come to rest"
        );
        before = now;
    }
    std::thread::sleep(WATCHED);
    let after = switches(&pids);
    let mut total = 0;
    for pid in &pids {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let (name, share) = (name.trim_end(), share(*pid));
        total += share;
        eprintln!("    idle pod: {share:>6} KiB of memory (PSS), {name}");
    }
    eprintln!("    idle pod: {total:>6} KiB in all");
    let woken = after
        .iter()
        .filter(|line| !before.contains(line))
        .collect::<Vec<_>>();
    eprintln!(
        "    idle pod: {} threads woke in {} s",
        woken.len(),
        WATCHED.as_secs()
    );
    ensure!(woken.is_empty(), "threads that wake: {woken:?}");
    Ok(())
}

/// The process and all that descend from it.
fn family(owner: u32) -> Vec<u32> {
    let mut pids = vec![owner];
    let mut next = 0;
    while let Some(parent) = pids.get(next) {
        let threads = fs::read_dir(format!("/proc/{parent}/task"));
        let mut children = String::new();
        for thread in threads.into_iter().flatten().flatten() {
            children += &fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        }
        pids.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        next += 1;
    }
    pids
}

/// A line for each thread, with how often it has been switched to and from.
fn switches(pids: &[u32]) -> Vec<String> {
    let mut lines = Vec::new();
    for pid in pids {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let wanted = |line: &&str| line.starts_with("Name:") || line.contains("ctxt_switches");
            let words = status.lines().filter(wanted).collect::<Vec<_>>().join(" ");
            lines.push(format!("{} {words}", thread.path().display()));
        }
    }
    lines
}

/// Proportional share of memory in KiB.
fn share(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.and_then(|word| word.parse().ok()).unwrap_or(0)
}

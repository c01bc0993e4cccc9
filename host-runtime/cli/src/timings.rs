//! `--timings`: the phases of a run, one line each.

use std::fmt::Write;
use std::time::{Duration, Instant};

use host_machine::{Stats, Timings};

/// What this process notes beside the machine's phases.
#[derive(Debug)]
pub(super) struct Marks {
    begun: Instant,
    marks: Vec<(&'static str, Duration)>,
    stats: Option<Stats>,
}

impl Marks {
    /// Starts the clock, just before the microVM is asked for.
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            marks: Vec::new(),
            stats: None,
        }
    }

    pub(super) fn note(&mut self, what: &'static str) {
        self.marks.push((what, self.begun.elapsed()));
    }

    /// Keeps what the machine has counted.
    pub(super) fn count(&mut self, stats: Option<Stats>) {
        self.stats = stats;
    }

    /// What it had counted, one line or none.
    pub(super) fn counts(&self) -> String {
        self.stats.as_ref().map(counts).unwrap_or_default()
    }

    /// A table of the machine's phases and our marks, in the order of time.
    pub(super) fn table(&self, timings: &Timings) -> String {
        let phases = timings.iter().map(|(phase, at)| (phase.name(), at));
        let mut all: Vec<_> = phases.chain(self.marks.iter().copied()).collect();
        all.sort_by_key(|(_, at)| *at);
        let mut table = String::from("      at ms     took ms  phase\n");
        let mut before = Duration::ZERO;
        for (name, at) in all {
            let (total, took) = (ms(at), ms(at.saturating_sub(before)));
            // Writing to a string does not fail.
            let _ = writeln!(table, "{total:>11.3} {took:>11.3}  {name}");
            before = at;
        }
        table
    }
}

/// What the machine had counted when the program ended, one line.
fn counts(stats: &Stats) -> String {
    let exits = stats.exits.iter().map(u64::to_string).collect::<Vec<_>>();
    let devices = stats.devices.iter();
    let devices = devices.map(|device| format!("{} {}", device.name, device.requests));
    let devices = devices.collect::<Vec<_>>();
    // Emulated CPUs do not leave the guest.
    let exits = match exits.is_empty() {
        true => String::new(),
        false => format!("exits of each CPU to the VMM {}; ", exits.join(" ")),
    };
    let devices = devices.join(", ");
    format!("until the program ended: {exits}requests {devices}\n")
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use host_machine::DeviceStats;

    use super::*;

    #[test]
    fn counts_are_one_line() {
        let device = |name: &str, requests| DeviceStats {
            name: name.to_owned(),
            requests,
        };
        let stats = Stats {
            exits: vec![12, 3],
            devices: vec![device("fs", 4), device("vsock", 5)],
        };
        let expected =
            "until the program ended: exits of each CPU to the VMM 12 3; requests fs 4, vsock 5\n";
        assert_eq!(counts(&stats), expected);
    }
}

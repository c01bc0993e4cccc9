//! `--timings`: the phases of a run, one line each, and what the machine did in them.

use std::fmt::Write;
use std::time::{Duration, Instant};

use host_machine::{Machine, Stats, Timings};

/// What this process notes beside the machine's phases.
#[derive(Debug)]
pub(super) struct Marks {
    begun: Instant,
    /// Whether anybody wants to know what the machine counts: asking it takes its time.
    counts: bool,
    marks: Vec<Mark>,
}

#[derive(Debug)]
struct Mark {
    what: &'static str,
    at: Duration,
    /// What the machine had counted by then; `None` when nobody asked, or it did not answer.
    counted: Option<Stats>,
}

/// A line of the table.
struct Line<'a> {
    at: Duration,
    what: &'static str,
    counted: Option<&'a Stats>,
}

impl Marks {
    /// Starts the clock, just before the microVM is asked for.
    pub(super) fn new(counts: bool) -> Self {
        Self {
            begun: Instant::now(),
            counts,
            marks: Vec::new(),
        }
    }

    /// Notes that a phase ended.
    pub(super) fn note(&mut self, what: &'static str) {
        self.push(what, None);
    }

    /// Notes that a phase ended, and what the machine has counted. A guest that has just died has nothing to count.
    pub(super) fn count(&mut self, what: &'static str, machine: &dyn Machine) {
        let counted = self.counts.then(|| machine.stats().ok());
        self.push(what, counted.flatten());
    }

    fn push(&mut self, what: &'static str, counted: Option<Stats>) {
        let at = self.begun.elapsed();
        self.marks.push(Mark { what, at, counted });
    }

    /// A table of the machine's phases and our marks, in the order of time. Counts are those since the last line
    /// that has some.
    pub(super) fn table(&self, timings: &Timings) -> String {
        let phases = timings.iter().map(|(phase, at)| Line {
            at,
            what: phase.name(),
            counted: None,
        });
        let marks = self.marks.iter().map(|mark| Line {
            at: mark.at,
            what: mark.what,
            counted: mark.counted.as_ref(),
        });
        let mut all: Vec<_> = phases.chain(marks).collect();
        all.sort_by_key(|line| line.at);
        let mut table = String::from("      at ms     took ms  phase\n");
        let mut before = Duration::ZERO;
        let mut last = Stats::default();
        for line in all {
            let (at, took) = (ms(line.at), ms(line.at.saturating_sub(before)));
            let counts = line.counted.map_or_else(String::new, |now| {
                let counts = counts(&last, now);
                last = now.clone();
                counts
            });
            // Writing to a string does not fail.
            let _ = match counts.is_empty() {
                true => writeln!(table, "{at:>11.3} {took:>11.3}  {}", line.what),
                false => writeln!(table, "{at:>11.3} {took:>11.3}  {:<18}{counts}", line.what),
            };
            before = line.at;
        }
        table
    }
}

/// What was counted between two times.
fn counts(before: &Stats, now: &Stats) -> String {
    let mut parts = Vec::new();
    if let Some(instructions) = now.instructions {
        let since = instructions.saturating_sub(before.instructions.unwrap_or(0));
        parts.push(format!("{since} instructions"));
    }
    // Emulated CPUs do not leave the guest.
    if !now.exits.is_empty() {
        let exits = |stats: &Stats| stats.exits.iter().sum::<u64>();
        parts.push(format!(
            "{} exits",
            exits(now).saturating_sub(exits(before))
        ));
    }
    let requests = now.devices.iter().enumerate().filter_map(|(at, device)| {
        let earlier = before.devices.get(at).map_or(0, |device| device.requests);
        let since = device.requests.saturating_sub(earlier);
        (since > 0).then(|| format!("{} {since}", device.name))
    });
    let requests: Vec<_> = requests.collect();
    if !requests.is_empty() {
        parts.push(format!("requests {}", requests.join(" ")));
    }
    parts.join(", ")
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use host_machine::DeviceStats;

    use super::*;

    fn stats(exits: &[u64], devices: &[(&str, u64)], instructions: Option<u64>) -> Stats {
        let devices = devices.iter().map(|(name, requests)| DeviceStats {
            name: (*name).to_owned(),
            requests: *requests,
        });
        Stats {
            exits: exits.to_vec(),
            devices: devices.collect(),
            instructions,
        }
    }

    #[test]
    fn counts_are_those_since_the_last() {
        let first = stats(&[12, 3], &[("fs", 4), ("vsock", 5)], None);
        let then = stats(&[13, 5], &[("fs", 4), ("vsock", 7)], None);
        let since_start = counts(&Stats::default(), &first);
        assert_eq!(since_start, "15 exits, requests fs 4 vsock 5");
        assert_eq!(counts(&first, &then), "3 exits, requests vsock 2");
        let counted = |count| stats(&[], &[], Some(count));
        assert_eq!(counts(&counted(1000), &counted(3500)), "2500 instructions");
    }

    #[test]
    fn a_line_without_counts_does_not_part_those_around_it() {
        let mut marks = Marks::new(true);
        for (what, counted) in [("one", Some(5)), ("two", None), ("three", Some(8))] {
            let counted = counted.map(|exits| stats(&[exits], &[], None));
            marks.push(what, counted);
        }
        let table = marks.table(&Timings::default());
        let lines: Vec<_> = table.lines().skip(1).map(|line| &line[25..]).collect();
        let padded = format!("{:<18}", "three");
        assert_eq!(lines[0], format!("{:<18}5 exits", "one"));
        assert_eq!(lines[1..], ["two".to_owned(), format!("{padded}3 exits")]);
    }
}

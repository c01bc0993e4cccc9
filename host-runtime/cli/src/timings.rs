//! `--timings`: the phases of a run, one line each.

use std::fmt::Write;
use std::time::{Duration, Instant};

use host_machine::Timings;

/// What this process notes beside the machine's phases.
#[derive(Debug)]
pub(super) struct Marks {
    begun: Instant,
    marks: Vec<(&'static str, Duration)>,
}

impl Marks {
    /// Starts the clock, just before the microVM is asked for.
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            marks: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, what: &'static str) {
        self.marks.push((what, self.begun.elapsed()));
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

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

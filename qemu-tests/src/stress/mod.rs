//! Runs that look for what nobody thought of: random system calls ([`driver`]), allocations that
//! fail ([`failures`]), CPUs that stand still now and then ([`Jitter`]). They have no expectation but that
//! the machine lives, gives its memory back and powers off.

pub mod driver;
pub mod failures;
mod jitter;

pub use jitter::Jitter;

use std::time::Duration;

use crate::qemu::{Boot, End};

/// What the kernel prints when something is wrong with it.
const ALARMS: [&str; 4] = [
    "panic",
    "watchdog",
    "does not die",
    "out of memory in the kernel",
];

/// A machine's console, and how the machine ended.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) lines: Vec<String>,
    end: End,
}

impl Session {
    /// Boots and reads to the end.
    pub(crate) fn run(boot: &Boot) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        let end = boot.run(|line| {
            lines.push(line.trim_end().to_owned());
            true
        })?;
        Ok(Self { lines, end })
    }

    /// What is wrong with the session as such: an alarm, or no end of its own.
    pub(crate) fn trouble(&self) -> Option<String> {
        let alarm = self
            .lines
            .iter()
            .position(|line| ALARMS.iter().any(|alarm| line.contains(alarm)));
        if let Some(at) = alarm {
            let last = self.lines.len().min(at + 30);
            return Some(self.lines[at..last].join("\n"));
        }
        match &self.end {
            End::TimedOut(why) => Some(format!("{why}\n{}", self.tail())),
            End::Exited | End::Stopped => None,
        }
    }

    /// Whether the kernel powered off because PID 1 was gone.
    pub(crate) fn ended_without_init(&self) -> bool {
        self.lines
            .iter()
            .any(|line| line.contains("init exited") || line.contains("init was killed"))
    }

    /// The last lines of the console.
    pub(crate) fn tail(&self) -> String {
        self.lines[self.lines.len().saturating_sub(15)..].join("\n")
    }
}

/// How long a machine may say nothing, on a host that does other work, too.
const SILENCE_LIMIT: Duration = Duration::from_secs(150);

//! Runs that look for what nobody thought of: random system calls ([`driver`]), allocations that
//! fail ([`failures`]), programs that wait ([`waits`]), CPUs that stand still now and then ([`Jitter`]). They have no expectation but that
//! the machine lives, gives its memory back and powers off.

pub mod driver;
pub mod failures;
mod jitter;
pub mod waits;

pub use jitter::Jitter;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::qemu::{self, Boot, End};

/// What the kernel prints when something is wrong with it.
const ALARMS: [&str; 5] = [
    "panic",
    "watchdog",
    " alarm:",
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
            lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
            true
        })?;
        Ok(Self { lines, end })
    }

    /// Runs a program that boots a machine, and reads to its end.
    pub(crate) fn of(
        command: &mut Command,
        silence_limit: Duration,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        let end = qemu::run(command, silence_limit, limit, |line| {
            lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
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

/// Compiles a program of `qemu-tests/driver` from its sources.
fn compile(sources: &[PathBuf], program: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("gcc")
        .args(["-O1", "-std=gnu17", "-Wall", "-Wextra"])
        .args(["-Wno-unused-result", "-static", "-pthread", "-o"])
        .arg(program)
        .args(sources)
        .output()
        .context("cannot start gcc")?;
    if !output.status.success() {
        bail!("gcc: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(program.to_owned())
}

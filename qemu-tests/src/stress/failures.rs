//! Allocations that fail: the guest programs on a kernel with the feature `checks`, whose command-line word
//! `nacre.fail_alloc=N,M` lets the N-th allocation after PID 1's start fail, and each M-th after that.
//!
//! What a program prints then is no matter: an error, or its end by the OOM killer. The kernel
//! must live, give the memory back and power off.
//!
//! All numbers in bounded time: `N,M` for each N up to M lets each allocation fail in one of M boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{SILENCE_LIMIT, Session};
use crate::archive;
use crate::programs;
use crate::qemu::{Boot, Configuration, Machine};

/// What may be missing of the free memory at the end, in KiB.
const LOSS_LIMIT: i64 = 3 * 1024;

/// Which allocations fail.
#[derive(Debug, Clone, Copy)]
pub struct Failing {
    /// The first, counted from PID 1's start.
    pub first: u64,
    /// The distance to the next, and so on.
    pub every: u64,
}

impl Failing {
    /// None: to see how many there are.
    pub const NEVER: Self = Self {
        first: u64::MAX,
        every: 0,
    };
}

/// What the kernel counted in a boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations that failed.
    pub failed: u64,
    /// Allocations since PID 1's start.
    pub seen: u64,
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "failures/{},{}", self.first, self.every)
    }
}

/// A kernel with checks, and programs to run on it.
#[derive(Debug)]
pub struct Failures {
    kernel: PathBuf,
    folder: PathBuf,
    initramfs: PathBuf,
}

impl Failures {
    /// Builds the programs into `folder`, for a `kernel` with checks.
    ///
    /// # Errors
    /// When gcc refuses one or a file cannot be written.
    pub fn build(folder: &Path, kernel: &Path) -> anyhow::Result<Self> {
        let programs = programs::build(&folder.join("bin"), None)?;
        let init = archive::init(&folder.join("bin"))?;
        let initramfs = folder.join("failures.img");
        archive::write_archive(&archive::tree(&init, &programs)?, &initramfs)?;
        Ok(Self {
            kernel: kernel.to_owned(),
            folder: folder.to_owned(),
            initramfs,
        })
    }

    /// Boots once and runs all programs, each for a few seconds at most.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn run(&self, failing: Failing) -> anyhow::Result<Result<Counts, String>> {
        let Failing { first, every } = failing;
        let boot = Boot {
            configuration: Configuration {
                machine: Machine::Microvm,
                cpus: 2,
            },
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            command_line: format!(
                "console=ttyS0 quiet panic=-1 nacre.fail_alloc={first},{every} NACRE_MEMORY=1 NACRE_LIMIT_MS=4000"
            ),
            counts_instructions: false,
            extra_arguments: Vec::new(),
            silence_limit: SILENCE_LIMIT,
            limit: Duration::from_secs(600),
        };
        let session = Session::run(&boot)?;
        let log = self.folder.join(format!("failures-{first}-{every}.log"));
        fs::write(&log, session.lines.join("\n"))?;
        let counts = counts(&session.lines).unwrap_or_default();
        Ok(match (session.trouble(), loss(&session.lines)) {
            (Some(trouble), _) => Err(trouble),
            (None, _) if counts.seen == 0 || counts.failed == 0 && first != u64::MAX => {
                Err("the kernel did not say that an allocation has failed".to_owned())
            }
            (None, Some(lost)) if lost > LOSS_LIMIT => {
                Err(format!("{lost} KiB of memory are lost\n{}", session.tail()))
            }
            // PID 1 is as mortal as the programs; the kernel then powers off.
            (None, None) if !session.ended_without_init() => {
                Err(format!("the programs did not end\n{}", session.tail()))
            }
            (None, _) => Ok(counts),
        })
    }
}

/// The number in `[lost KIB]`.
fn loss(lines: &[String]) -> Option<i64> {
    lines.iter().find_map(|line| {
        let (_, rest) = line.split_once("[lost ")?;
        rest.strip_suffix(']')?.parse().ok()
    })
}

/// The numbers in `nacre.fail_alloc: FAILED of SEEN allocations failed`.
fn counts(lines: &[String]) -> Option<Counts> {
    lines.iter().rev().find_map(|line| {
        let (_, rest) = line.split_once("nacre.fail_alloc: ")?;
        let (failed, rest) = rest.split_once(" of ")?;
        let (seen, _) = rest.split_once(" allocations failed")?;
        Some(Counts {
            failed: failed.parse().ok()?,
            seen: seen.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Counts, counts, loss};

    #[test]
    fn reads_what_was_counted() {
        let lines = [
            "nacre.fail_alloc: allocation 40 fails",
            "[   4.2] nacre.fail_alloc: 17 of 1200 allocations failed",
        ]
        .map(str::to_owned);
        let (failed, seen) = (17, 1200);
        assert_eq!(counts(&lines), Some(Counts { failed, seen }));
        assert_eq!(counts(&lines[..1]), None);
    }

    #[test]
    fn reads_what_is_lost() {
        let lines = ["[begin a]".to_owned(), "x[lost -4]".to_owned()];
        assert_eq!(loss(&lines), Some(-4));
        assert_eq!(loss(&lines[..1]), None);
    }
}

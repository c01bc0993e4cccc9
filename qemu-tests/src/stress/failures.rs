//! Allocations that fail: the guest programs on a kernel with the feature `checks`, whose command-line word
//! `nacre.fail_alloc=N,M` lets the N-th allocation after PID 1's start fail, and each M-th after that.
//!
//! What a program prints then is no matter: an error, or its end by the OOM killer. The kernel
//! must live, give the memory back and power off.
//!
//! A boot has a million allocations, too many to let each fail in a boot of its own. But there are few ways to come to one: with
//! `paths:N,M` each path of calls to an allocation fails when it is first seen, in one of M boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::{SILENCE_LIMIT, Session};
use crate::archive;
use crate::programs;
use crate::qemu::{Boot, Configuration, Machine};
use crate::transcript::{Run, Transcript};
use crate::{diff, host};

/// What may be missing of the free memory at the end, in KiB.
const LOSS_LIMIT: i64 = 3 * 1024;

/// Programs whose output may change when there is no memory for a moment, although the call is not made again, and why. Linux
/// does the same for all of them.
const NOTICED: [(&str, &str); 8] = [
    ("copying", "a write that finds no memory half-way is short"),
    ("exhaustion", "its children measure what memory there is"),
    (
        "file_answers",
        "SIGIO without memory for its siginfo carries none",
    ),
    ("file_locks", "a lock without memory is ENOLCK"),
    ("futex", "a waiter that cannot be requeued wakes up"),
    ("signals", "a queued signal without memory is EAGAIN"),
    ("socket_messages", "a message without memory is ENOBUFS"),
    ("terminal", "what a terminal has no memory for is lost"),
];

/// Which allocations fail.
#[derive(Debug, Clone, Copy)]
pub enum Failing {
    /// By their number, from PID 1's start.
    Numbers {
        /// The first.
        first: u64,
        /// The distance to the next, and so on.
        every: u64,
    },
    /// The first on each path whose hash, divided by `of`, leaves `part`.
    Paths {
        /// Less than `of`.
        part: u64,
        /// Parts there are.
        of: u64,
    },
    /// As [`Failing::Paths`], and as if there had been no memory for a moment: the system call is made again, so that every
    /// program must print what it prints on the host.
    Retried {
        /// Less than `of`.
        part: u64,
        /// Parts there are.
        of: u64,
    },
}

/// What the kernel counted in a boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations that failed.
    pub failed: u64,
    /// Allocations since PID 1's start.
    pub seen: u64,
    /// Paths to them, if those were counted.
    pub paths: u64,
}

impl Failing {
    /// The command line's word.
    fn word(self) -> String {
        match self {
            Self::Numbers { first, every } => format!("{first},{every}"),
            Self::Paths { part, of } => format!("paths:{part},{of}"),
            Self::Retried { part, of } => format!("retried:{part},{of}"),
        }
    }
}

impl FromStr for Failing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, numbers) = text.split_once(':').unwrap_or(("", text));
        let numbers = numbers.split_once(',');
        let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match (kind, numbers) {
            ("", Some((first, every))) if first > 0 => Ok(Self::Numbers { first, every }),
            ("paths", Some((part, of))) if part < of => Ok(Self::Paths { part, of }),
            ("retried", Some((part, of))) if part < of => Ok(Self::Retried { part, of }),
            _ => Err(format!(
                "{text} is none of FIRST,EVERY and paths:PART,OF and retried:PART,OF with PART less than OF"
            )),
        }
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "failures/{}", self.word())
    }
}

/// A kernel with checks, and programs to run on it.
#[derive(Debug)]
pub struct Failures {
    kernel: PathBuf,
    folder: PathBuf,
    initramfs: PathBuf,
    /// The archive's files, to run the programs on the host.
    root: PathBuf,
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
        let tree = archive::tree(&init, &programs)?;
        archive::write_archive(&tree, &initramfs)?;
        let root = folder.join("root");
        archive::write_files(&tree, &root)?;
        Ok(Self {
            root,
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
        let word = failing.word();
        let boot = Boot {
            configuration: Configuration {
                machine: Machine::Microvm,
                cpus: 2,
            },
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            command_line: format!(
                "console=ttyS0 quiet panic=-1 nacre.fail_alloc={word} NACRE_MEMORY=1 NACRE_LIMIT_MS=4000"
            ),
            counts_instructions: false,
            extra_arguments: Vec::new(),
            silence_limit: SILENCE_LIMIT,
            limit: Duration::from_secs(600),
        };
        let session = Session::run(&boot)?;
        let log = self
            .folder
            .join(format!("failures-{}.log", word.replace([':', ','], "-")));
        fs::write(&log, session.lines.join("\n"))?;
        let counts = counts(&session.lines).unwrap_or_default();
        if matches!(failing, Failing::Retried { .. })
            && let Some(difference) = self.difference(&session.lines)?
        {
            return Ok(Err(difference));
        }
        Ok(match (session.trouble(), loss(&session.lines)) {
            (Some(trouble), _) => Err(trouble),
            (None, _) if counts.failed == 0 => {
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

impl Failures {
    /// How what the programs printed differs from what they print on the host, if it does.
    fn difference(&self, lines: &[String]) -> anyhow::Result<Option<String>> {
        let expected = host::expectations(&self.root)?;
        let mut transcript = Transcript::default();
        lines.iter().for_each(|line| transcript.take(line));
        let runs = transcript.runs.iter().filter(|run| run.is_complete);
        let is_noticed = |name: &str| NOTICED.iter().any(|(part, _)| name.starts_with(part));
        // The kernel with checks is slow, and what a program was stopped in says nothing.
        let was_stopped = |run: &Run| run.lines.last().is_some_and(|last| last == "timeout");
        let differences = runs.filter(|run| !is_noticed(&run.name) && !was_stopped(run));
        let differences = differences.filter_map(|run| {
            let host = expected.get(&run.name)?;
            let diff = diff::lines(&host.lines, &run.lines);
            (!diff.is_empty()).then(|| format!("{}:\n{diff}", run.name))
        });
        let differences = differences.collect::<Vec<_>>().join("\n");
        Ok(Some(differences).filter(|text| !text.is_empty()))
    }
}

/// The number in `[lost KIB]`.
fn loss(lines: &[String]) -> Option<i64> {
    lines.iter().find_map(|line| {
        let (_, rest) = line.split_once("[lost ")?;
        rest.strip_suffix(']')?.parse().ok()
    })
}

/// The numbers in `nacre.fail_alloc: FAILED of SEEN allocations failed` and `nacre.fail_alloc: PATHS paths, …`.
fn counts(lines: &[String]) -> Option<Counts> {
    let told = || {
        let told = |line: &'_ String| Some(line.split_once("nacre.fail_alloc: ")?.1.to_owned());
        lines.iter().rev().filter_map(told)
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let paths = told().find_map(|told| number(told.split_once(" paths,")?.0));
    told().find_map(|told| {
        let (failed, rest) = told.split_once(" of ")?;
        let (seen, _) = rest.split_once(" allocations failed")?;
        Some(Counts {
            failed: number(failed)?,
            seen: number(seen)?,
            paths: paths.unwrap_or(0),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Counts, Failing, counts, loss};

    #[test]
    fn reads_what_was_counted() {
        let lines = [
            "nacre.fail_alloc: allocation 40 fails",
            "[   4.2] nacre.fail_alloc: 17 of 1200 allocations failed",
        ]
        .map(str::to_owned);
        let found = |paths| Counts {
            failed: 17,
            seen: 1200,
            paths,
        };
        assert_eq!(counts(&lines), Some(found(0)));
        assert_eq!(counts(&lines[..1]), None);
        let path = "nacre.fail_alloc: 99 paths, and 0 allocations on more of them".to_owned();
        let with_paths = [&lines[..], &[path]].concat();
        assert_eq!(counts(&with_paths), Some(found(99)));
    }

    #[test]
    fn a_word_is_read_as_it_is_written() {
        for word in ["7,0", "paths:3,16", "retried:0,1"] {
            let failing: Failing = word.parse().unwrap();
            assert_eq!(failing.word(), word);
        }
        for word in ["", "7", "0,1", "paths:3,3", "x:1,2", "retried:1"] {
            assert!(word.parse::<Failing>().is_err(), "{word}");
        }
    }

    #[test]
    fn reads_what_is_lost() {
        let lines = ["[begin a]".to_owned(), "x[lost -4]".to_owned()];
        assert_eq!(loss(&lines), Some(-4));
        assert_eq!(loss(&lines[..1]), None);
    }
}

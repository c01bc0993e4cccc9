//! The guest programs on every machine, each result compared with the host's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::archive::{self, Tree};
use crate::programs::{self, Program};
use crate::qemu::{Boot, CONFIGURATIONS, Configuration, End, Machine};
use crate::stress::Jitter;
use crate::transcript::{Run, Transcript};
use crate::{Report, diff, host};

/// How often a machine is started again after a program has crashed or hung it.
const MAX_RESTARTS: usize = 5;

/// The machine whose parts, its devices and its one CPU, the others have, too: only `--full` takes its minutes.
const SPARED: Configuration = Configuration {
    machine: Machine::Q35,
    cpus: 1,
};

/// What to test.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// Whether it is Linux, which takes another archive format. Linux must pass, too: that is
    /// how the programs themselves are tested.
    pub is_linux: bool,
    /// A folder for everything that is built and logged.
    pub work_dir: PathBuf,
    /// Only programs whose name contains this, and only the configurations it names before a
    /// slash: `pipes`, `q35-1/`, `microvm/pipes`.
    pub filter: Option<String>,
    /// Whether to leave [`SPARED`] out.
    pub is_short: bool,
    /// Whether the CPUs stand still now and then, and the seed that says when.
    pub jitter: Option<u64>,
}

/// Runs the programs on the host and then on each machine.
///
/// # Errors
/// When something other than the kernel fails: gcc, the host's sandbox, QEMU.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let (machines, program) = split_filter(options.filter.as_deref());
    let built = programs::build(&options.work_dir.join("bin"), program)?;
    let init = archive::init(&options.work_dir.join("bin"))?;
    let tree = archive::tree(&init, &built)?;
    eprintln!("==> Running {} programs on the host", built.len());
    let root = options.work_dir.join("root");
    archive::write_files(&tree, &root)?;
    let expected = host::expectations(&root)?;
    let initramfs = write_initramfs(options, &tree)?;
    let mut report = Report::default();
    for configuration in CONFIGURATIONS {
        if options.is_short && configuration == SPARED {
            continue;
        }
        if !machines.is_none_or(|wanted| configuration.to_string().contains(wanted)) {
            continue;
        }
        eprintln!("==> Running {} programs on {configuration}", built.len());
        let machine = Session {
            options,
            configuration,
            initramfs: &initramfs,
        };
        let actual = machine.run_all(&built)?;
        compare(&mut report, configuration, &built, &expected, &actual);
    }
    Ok(report)
}

/// One configuration's turn.
struct Session<'a> {
    options: &'a Options,
    configuration: Configuration,
    initramfs: &'a Path,
}

/// What became of a program in the guest.
struct Outcome {
    run: Run,
    /// Why the machine did not get past it.
    trouble: Option<String>,
}

impl Session<'_> {
    /// Boots as often as it takes to get through all programs.
    fn run_all(&self, programs: &[Program]) -> anyhow::Result<BTreeMap<String, Outcome>> {
        let mut outcomes = BTreeMap::new();
        let mut console = String::new();
        let mut from = 0;
        for _ in 0..=MAX_RESTARTS {
            let Some(first) = programs.get(from) else {
                break;
            };
            let (transcript, end) = self.boot(&first.name, &mut console)?;
            let trouble = describe_trouble(&transcript, &end);
            let culprit = transcript.running().unwrap_or(&first.name).to_owned();
            for run in transcript.runs {
                outcomes.insert(run.name.clone(), Outcome { run, trouble: None });
            }
            let Some(trouble) = trouble else { break };
            from = programs
                .iter()
                .position(|program| program.name == culprit)
                .map_or(from, |at| at)
                + 1;
            let run = outcomes
                .remove(&culprit)
                .map(|outcome| outcome.run)
                .unwrap_or_default();
            outcomes.insert(
                culprit,
                Outcome {
                    run,
                    trouble: Some(trouble),
                },
            );
        }
        let log = self
            .options
            .work_dir
            .join(format!("{}.log", self.configuration));
        fs::write(&log, console).with_context(|| format!("cannot write {}", log.display()))?;
        Ok(outcomes)
    }

    /// Boots once and runs programs from `first` on.
    fn boot(&self, first: &str, console: &mut String) -> anyhow::Result<(Transcript, End)> {
        // On a microvm with one CPU, Linux 6.1 hangs early when it is quiet.
        let quiet = if self.options.is_linux { "" } else { "quiet" };
        let (extra_arguments, watchdog) = match self.options.jitter {
            Some(seed) => (
                Jitter::Stops.arguments(&self.options.work_dir, seed)?,
                "nacre.watchdog",
            ),
            None => (Vec::new(), ""),
        };
        let boot = Boot {
            configuration: self.configuration,
            kernel: self.options.kernel.clone(),
            initramfs: self.initramfs.to_owned(),
            command_line: format!("console=ttyS0 {quiet} panic=-1 {watchdog} NACRE_FROM={first}"),
            counts_instructions: false,
            extra_arguments,
            silence_limit: Duration::from_secs(40),
            limit: Duration::from_secs(240),
        };
        let mut transcript = Transcript::default();
        let end = boot.run(|line| {
            console.push_str(line);
            transcript.take(line);
            true
        })?;
        Ok((transcript, end))
    }
}

/// Why the machine did not do all it should, if so.
fn describe_trouble(transcript: &Transcript, end: &End) -> Option<String> {
    let what = match (end, transcript.is_done) {
        (End::Exited, true) => return None,
        (End::Exited, false) => "the machine ended while it ran".to_owned(),
        (End::TimedOut(_), true) => "the machine did not power off".to_owned(),
        (End::TimedOut(why), false) => why.clone(),
        (End::Stopped, _) => "the machine was stopped".to_owned(),
    };
    Some(format!(
        "{what}; the console's last lines:\n{}",
        transcript.log_tail(15)
    ))
}

fn compare(
    report: &mut Report,
    configuration: Configuration,
    programs: &[Program],
    expected: &BTreeMap<String, Run>,
    actual: &BTreeMap<String, Outcome>,
) {
    for program in programs {
        let name = format!("{configuration}/{}", program.name);
        let Some(outcome) = actual.get(&program.name) else {
            report.fail(name, "not reached: the machine failed too often before");
            continue;
        };
        let host = expected
            .get(&program.name)
            .map(|run| run.lines.as_slice())
            .unwrap_or_default();
        let mut detail = diff::lines(host, &outcome.run.lines);
        if let Some(trouble) = &outcome.trouble {
            detail.push_str(trouble);
        }
        let result = if detail.is_empty() {
            Ok(())
        } else {
            Err(detail)
        };
        report.note(name, result);
    }
}

fn write_initramfs(options: &Options, tree: &Tree) -> anyhow::Result<PathBuf> {
    let file = options.work_dir.join("tests.img");
    archive::write(tree, &file, options.is_linux)?;
    Ok(file)
}

/// Splits `MACHINE/PROGRAM`; either part may be missing.
fn split_filter(filter: Option<&str>) -> (Option<&str>, Option<&str>) {
    let non_empty = |text| Some(text).filter(|text: &&str| !text.is_empty());
    match filter.map(|filter| filter.split_once('/').ok_or(filter)) {
        None => (None, None),
        Some(Err(program)) => (None, non_empty(program)),
        Some(Ok((machine, program))) => (non_empty(machine), non_empty(program)),
    }
}

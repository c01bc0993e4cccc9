//! `cargo xtask stress`: random system calls, with the seeds and machines that one asks for; and the parts of
//! `cargo xtask test` that let allocations fail.

use std::path::{Path, PathBuf};

use anyhow::bail;
use qemu_tests::Report;
use qemu_tests::qemu::{Configuration, Machine};
use qemu_tests::stress::Jitter;
use qemu_tests::stress::driver::{Driver, Place, Turn};
use qemu_tests::stress::failures::{Failing, Failures};
use qemu_tests::stress::waits::Waits;

use crate::build::{self, Image};
use crate::packages;
use crate::workspace::Workspace;

/// What `cargo xtask stress` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct StressArguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one boot each
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many calls a boot
    #[arg(long, default_value_t = 50_000)]
    calls: u64,
    /// Who makes them; alternates between root and 1000 when it is not given
    #[arg(long)]
    uid: Option<u32>,
    /// How many CPUs; alternates between 2 and 4 when it is not given
    #[arg(long)]
    cpus: Option<u32>,
    /// microvm, q35, or kvm for `nacre run`; alternates between the first two when none is given
    #[arg(long)]
    machine: Option<String>,
    /// Instead of random calls, so many short boots of programs that wait for children and timers
    #[arg(long, conflicts_with = "seeds")]
    boots: Option<u64>,
    /// Let the CPUs stand still now and then
    #[arg(long)]
    jitter: bool,
    /// Print each call to the console before it is made: slow, and for one seed
    #[arg(long)]
    trace: bool,
    /// Boot the kernel with the feature `checks`
    #[arg(long, conflicts_with = "linux")]
    checks: bool,
    /// Instead of random calls, the guest programs in one boot while allocations fail: FIRST,EVERY by number,
    /// paths:PART,OF or retried:PART,OF
    #[arg(long, value_name = "WHICH", conflicts_with_all = ["linux", "boots", "seeds"])]
    failing: Option<Failing>,
    /// Boot this Linux kernel (a vmlinuz) instead of ours, to test the driver
    #[arg(long, value_name = "FILE")]
    linux: Option<PathBuf>,
}

/// Runs the turns that the arguments ask for.
pub(crate) fn run(workspace: &Workspace, arguments: &StressArguments) -> anyhow::Result<()> {
    if let Some(failing) = arguments.failing {
        return finish(&failing_boots(workspace, &[failing])?);
    }
    let (kernel, is_linux) = match &arguments.linux {
        Some(kernel) => (kernel.clone(), true),
        None if arguments.checks => (build::checked_kernel(workspace)?, false),
        None => (build::image(workspace)?.kernel, false),
    };
    let place = place(workspace, arguments.machine.as_deref())?;
    if let Some(boots) = arguments.boots {
        return waits(
            workspace,
            arguments,
            (&kernel, is_linux),
            place.as_ref(),
            boots,
        );
    }
    let driver = build(workspace, &kernel, is_linux)?;
    let mut report = Report::default();
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let mut turn = nth(seed, arguments.calls);
        turn.uid = arguments.uid.unwrap_or(turn.uid);
        turn.cpus = arguments.cpus.unwrap_or(turn.cpus);
        turn.place = place.clone().unwrap_or(turn.place);
        turn.is_traced = arguments.trace;
        turn.jitter = arguments.jitter();
        let outcome = driver.run(&turn)?;
        report.note(turn, outcome);
    }
    finish(&report)
}

impl StressArguments {
    fn jitter(&self) -> Jitter {
        if self.jitter {
            Jitter::Stops
        } else {
            Jitter::None
        }
    }
}

fn finish(report: &Report) -> anyhow::Result<()> {
    println!("{}", report.totals());
    if !report.failed.is_empty() {
        bail!("{} tests failed", report.failed.len());
    }
    Ok(())
}

/// The machine that was asked for, if one was.
fn place(workspace: &Workspace, name: Option<&str>) -> anyhow::Result<Option<Place>> {
    Ok(match name {
        None => None,
        Some("microvm") => Some(Place::Qemu(Machine::Microvm)),
        Some("q35") => Some(Place::Qemu(Machine::Q35)),
        Some("kvm") => Some(Place::Kvm(build::host_tools(workspace)?)),
        Some(other) => bail!("there is no machine {other}; microvm, q35 and kvm are there"),
    })
}

/// Short boots of what waits, on 2 and 4 CPUs in turn.
fn waits(
    workspace: &Workspace,
    arguments: &StressArguments,
    (kernel, is_linux): (&Path, bool),
    place: Option<&Place>,
    boots: u64,
) -> anyhow::Result<()> {
    let needed = [packages::QEMU, packages::STATIC_C, packages::BUSYBOX].concat();
    packages::require("the boots that wait", &needed)?;
    let waits = Waits::build(&workspace.target.join("stress"), kernel, is_linux)?;
    let mut report = Report::default();
    for seed in arguments.seed..arguments.seed + boots {
        let mut configuration = configuration(seed);
        match place {
            Some(Place::Qemu(machine)) => configuration.machine = *machine,
            Some(Place::Kvm(_)) => bail!("--boots needs QEMU: --machine microvm or q35"),
            None => {}
        }
        configuration.cpus = arguments.cpus.unwrap_or(configuration.cpus);
        note_waits(&mut report, &waits, configuration, seed, arguments.jitter())?;
    }
    finish(&report)
}

fn note_waits(
    report: &mut Report,
    waits: &Waits,
    configuration: Configuration,
    seed: u64,
    jitter: Jitter,
) -> anyhow::Result<()> {
    let outcome = waits.run(configuration, seed, jitter)?;
    report.note(
        format!("waits/{configuration}/seed-{seed}{jitter}"),
        outcome,
    );
    Ok(())
}

/// The part of `cargo xtask test --full`: a few seeds on each machine, each user, with jitter and without; boots that
/// wait.
pub(crate) fn test(workspace: &Workspace, image: &Image) -> anyhow::Result<Report> {
    const SEEDS: u64 = 16;
    const KVM_SEEDS: u64 = 4;
    const BOOTS: u64 = 20;
    let driver = build(workspace, &image.kernel, false)?;
    let mut report = Report::default();
    for seed in 1..=SEEDS {
        let mut turn = nth(seed, 20_000);
        if seed > SEEDS / 2 {
            turn.jitter = Jitter::Stops;
        }
        let outcome = driver.run(&turn)?;
        report.note(turn, outcome);
    }
    let nacre = build::host_tools(workspace)?;
    for seed in 1..=KVM_SEEDS {
        let mut turn = nth(seed * 2, 10_000);
        turn.place = Place::Kvm(nacre.clone());
        if Path::new("/dev/kvm").exists() {
            let outcome = driver.run(&turn)?;
            report.note(turn, outcome);
        } else {
            report.skip(turn.to_string(), "/dev/kvm is not there");
        }
    }
    let waits = Waits::build(&workspace.target.join("stress"), &image.kernel, false)?;
    for seed in 1..=BOOTS {
        note_waits(
            &mut report,
            &waits,
            configuration(seed),
            seed,
            Jitter::Stops,
        )?;
    }
    Ok(report)
}

/// The part `failures` of the tests: a few boots, or with `--full` so many that each path to an allocation fails in one.
pub(crate) fn failures(workspace: &Workspace, is_full: bool) -> anyhow::Result<Report> {
    const SHORT: [Failing; 2] = [
        Failing::Numbers {
            first: 500,
            every: 1511,
        },
        Failing::Paths { part: 3, of: PARTS },
    ];
    /// Boots of `--full`: more of them let programs come further before they meet a failure, and take longer.
    const PARTS: u64 = 16;
    let turns: Vec<Failing> = if is_full {
        let paths = (0..PARTS).map(|part| Failing::Paths { part, of: PARTS });
        let retried = (0..PARTS).map(|part| Failing::Retried { part, of: PARTS });
        SHORT.into_iter().chain(paths).chain(retried).collect()
    } else {
        SHORT.to_vec()
    };
    failing_boots(workspace, &turns)
}

/// A boot for each.
fn failing_boots(workspace: &Workspace, turns: &[Failing]) -> anyhow::Result<Report> {
    let needed = [packages::QEMU, packages::STATIC_C, packages::BUSYBOX].concat();
    packages::require("the failing allocations", &needed)?;
    let kernel = build::checked_kernel(workspace)?;
    let failures = Failures::build(&workspace.target.join("failures"), &kernel)?;
    let mut report = Report::default();
    let (mut failed, mut seen, mut paths) = (0, 0, 0);
    for failing in turns.iter().copied() {
        let result = failures.run(failing)?;
        let counts = result.as_ref().copied().unwrap_or_default();
        failed += counts.failed;
        (seen, paths) = (seen.max(counts.seen), paths.max(counts.paths));
        report.note(failing, result.map(drop));
    }
    println!("        {failed} allocations failed; a boot has up to {seen}, on {paths} paths");
    Ok(report)
}

fn build(workspace: &Workspace, kernel: &Path, is_linux: bool) -> anyhow::Result<Driver> {
    let needed = [packages::QEMU, packages::STATIC_C].concat();
    packages::require("the random driver", &needed)?;
    Driver::build(&workspace.target.join("stress"), kernel, is_linux)
}

/// The seed's machine: kinds and numbers of CPUs alternate.
fn configuration(seed: u64) -> Configuration {
    Configuration {
        machine: if seed & 1 == 0 {
            Machine::Microvm
        } else {
            Machine::Q35
        },
        cpus: if seed & 2 == 0 { 2 } else { 4 },
    }
}

/// The seed's turn: machines, users and numbers of CPUs alternate.
fn nth(seed: u64, calls: u64) -> Turn {
    let Configuration { machine, cpus } = configuration(seed);
    Turn {
        place: Place::Qemu(machine),
        cpus,
        seed,
        calls,
        uid: if seed & 4 == 0 { 1000 } else { 0 },
        jitter: Jitter::None,
        is_traced: false,
    }
}

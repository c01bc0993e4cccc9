//! `cargo xtask test`: everything. Each part runs even when one before it failed; the last line
//! is `N passed, N failed, N skipped`.
//!
//! What compiles everything comes first. Then the parts that boot the kernel under QEMU and those that start pods on the
//! host run side by side, as two [`Lane`]s: each of them mostly waits, and one after the other they leave half of two
//! CPUs idle. None of them depends on time, and each names what it prints, so that their lines may mix.

use std::io::{BufRead, BufReader};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, bail};
use qemu_tests::{Report, containerd, kvm};

use crate::build::{self, Image};
use crate::workspace::Workspace;
use crate::{bench, check, fuzz, packages, qemu_test, reproduce, rootfs, shell, stress};

/// For how long each target is fed hostile bytes, with `--full`.
const FUZZ_SECONDS: u64 = 10;

/// What `cargo xtask test` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArguments {
    /// Only these parts
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Also make random system calls, feed hostile bytes to what reads others', run Node, Java and Go, and build the image in
    /// another folder and compare its bytes
    #[arg(long)]
    full: bool,
    /// Of the tests of `nacre run` and with containerd, only those whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Format, lints, layers, file headers, sizes
    Check,
    /// Unit and integration tests of all crates, on the host
    Unit,
    /// The kernel under QEMU
    Qemu,
    /// What the kernel's operations cost, of at most qemu-tests/budgets.toml
    Budgets,
    /// The kernel under QEMU while allocations fail
    Failures,
    /// `nacre run` on KVM, with busybox and Debian
    Kvm,
    /// The same by QEMU's software emulation
    Emulated,
    /// The containerd shim, compared with runc
    Containerd,
}

/// What may run at the same time as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Before everything else, alone.
    First,
    /// Boots the kernel under QEMU.
    Guest,
    /// Starts pods on the host.
    Host,
}

impl Part {
    const fn lane(self) -> Lane {
        match self {
            Part::Check | Part::Unit => Lane::First,
            Part::Qemu | Part::Budgets | Part::Failures => Lane::Guest,
            Part::Kvm | Part::Emulated | Part::Containerd => Lane::Host,
        }
    }
}

const ALL: [Part; 8] = [
    Part::Check,
    Part::Unit,
    Part::Qemu,
    Part::Budgets,
    Part::Failures,
    Part::Kvm,
    Part::Emulated,
    Part::Containerd,
];

/// Runs the parts and prints the totals.
pub(crate) fn run(workspace: &Workspace, arguments: &TestArguments) -> anyhow::Result<()> {
    let parts: &[Part] = if arguments.parts.is_empty() {
        &ALL
    } else {
        &arguments.parts
    };
    let in_lane = |lane| {
        parts
            .iter()
            .copied()
            .filter(move |part| part.lane() == lane)
    };
    let mut report = Report::default();
    for part in in_lane(Lane::First) {
        report.merge(run_part(part, || match part {
            Part::Check => checked(workspace),
            _ => unit_tests(workspace),
        }));
    }
    let mut image = None;
    if parts.iter().any(|part| part.lane() != Lane::First) {
        match built(workspace, &mut image) {
            Ok(image) => report.merge(side_by_side(
                || guest_lane(workspace, image, arguments, in_lane(Lane::Guest)),
                || host_lane(workspace, image, arguments, in_lane(Lane::Host)),
            )),
            Err(error) => report.fail("image", &format!("{error:#}")),
        }
    }
    if arguments.full {
        match fuzz::run(workspace, &fuzz::all(FUZZ_SECONDS)) {
            Ok(()) => report.pass("fuzz"),
            Err(error) => report.fail("fuzz", &format!("{error:#}")),
        }
        report.merge(stress::test(workspace, built(workspace, &mut image)?)?);
        report.merge(reproduce::test(workspace, built(workspace, &mut image)?)?);
    }
    for name in &report.failed {
        println!("failed: {name}");
    }
    println!("{}", report.totals());
    if !report.failed.is_empty() {
        bail!("{} tests failed", report.failed.len());
    }
    Ok(())
}

/// Runs both at the same time, and adds up what they say.
fn side_by_side(guest: impl FnOnce() -> Report + Send, host: impl FnOnce() -> Report) -> Report {
    thread::scope(|scope| {
        let guest = scope.spawn(guest);
        let mut report = host();
        match guest.join() {
            Ok(other) => report.merge(other),
            Err(panic) => resume_unwind(panic),
        }
        report
    })
}

/// The kernel under QEMU, part by part.
fn guest_lane(
    workspace: &Workspace,
    image: &Image,
    arguments: &TestArguments,
    parts: impl Iterator<Item = Part>,
) -> Report {
    let mut report = Report::default();
    for part in parts {
        report.merge(run_part(part, || match part {
            Part::Qemu => qemu_test::all(workspace, image, arguments.full),
            Part::Budgets => bench::test(workspace, image),
            _ => stress::failures(workspace, arguments.full),
        }));
    }
    report
}

/// Pods on the host, part by part.
fn host_lane(
    workspace: &Workspace,
    image: &Image,
    arguments: &TestArguments,
    parts: impl Iterator<Item = Part>,
) -> Report {
    let mut report = Report::default();
    for part in parts {
        report.merge(run_part(part, || match part {
            Part::Kvm => run_tests(workspace, image, kvm::Machine::Kvm, arguments),
            Part::Emulated => run_tests(workspace, image, kvm::Machine::Qemu, arguments),
            _ => containerd_tests(workspace, arguments),
        }));
    }
    report
}

/// What `test` says, or that the part failed as a whole.
fn run_part(part: Part, test: impl FnOnce() -> anyhow::Result<Report>) -> Report {
    test().unwrap_or_else(|error| {
        let mut report = Report::default();
        report.fail(format!("{part:?}").to_lowercase(), &format!("{error:#}"));
        report
    })
}

/// The image, built when the first part asks for it.
fn built<'i>(workspace: &Workspace, image: &'i mut Option<Image>) -> anyhow::Result<&'i Image> {
    match image {
        Some(image) => Ok(image),
        None => Ok(image.insert(build::image(workspace)?)),
    }
}

fn checked(workspace: &Workspace) -> anyhow::Result<Report> {
    let mut report = Report::default();
    check::run(workspace)?;
    report.pass("check");
    Ok(report)
}

/// Runs `cargo test` and adds up what it says of each test binary.
fn unit_tests(workspace: &Workspace) -> anyhow::Result<Report> {
    packages::require("the unit tests", packages::STATIC_C)?;
    packages::require("the unit tests", packages::QEMU)?;
    packages::require("the unit tests", packages::USER_NETWORK)?;
    shell::step("Running the unit tests");
    let mut command = shell::cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("CARGO_TARGET_DIR", &workspace.target)
        .current_dir(&workspace.root)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut report = Report::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        count(&mut report, &line);
    }
    let status = child.wait()?;
    if !status.success() && report.failed.is_empty() {
        bail!("`cargo test` failed ({status}) before it ran all tests");
    }
    Ok(report)
}

/// Takes one line of `cargo test`'s output into account.
fn count(report: &mut Report, line: &str) {
    if let Some(test) = line.strip_prefix("test ") {
        match test.rsplit_once(" ... ") {
            Some((name, "FAILED")) => report.failed.push(name.to_owned()),
            Some((name, result)) if result.starts_with("ignored") => {
                let reason = result
                    .strip_prefix("ignored, ")
                    .unwrap_or("marked as ignored");
                report.skip(name, reason);
            }
            Some((_, result)) if result.starts_with("ok") => report.passed += 1,
            _ => {}
        }
    }
}

fn run_tests(
    workspace: &Workspace,
    image: &Image,
    machine: kvm::Machine,
    arguments: &TestArguments,
) -> anyhow::Result<Report> {
    let nacre = build::host_tools(workspace)?;
    let busybox = rootfs::busybox(workspace)?;
    let debian = match shell::is_root() {
        true => {
            packages::require("the tests of networks", packages::USER_NETWORK)?;
            Some(rootfs::debian(workspace)?)
        }
        false => None,
    };
    let applications = (arguments.full && shell::is_root() && machine == kvm::Machine::Qemu)
        .then(|| rootfs::applications(workspace))
        .transpose()?;
    let work_dir = workspace.target.join("kvm-tests");
    let image_dir = image.kernel.parent().unwrap_or(Path::new(".")).to_owned();
    kvm::run(&kvm::Options {
        machine,
        nacre,
        image_dir,
        busybox,
        debian,
        applications,
        full: arguments.full,
        work_dir,
        filter: arguments.filter.clone(),
    })
}

fn containerd_tests(workspace: &Workspace, arguments: &TestArguments) -> anyhow::Result<Report> {
    packages::require("the containerd tests", packages::CONTAINERD)?;
    let nacre = build::host_tools(workspace)?;
    let bin_dir = nacre.parent().context("nacre has no folder")?.to_owned();
    let rootfs = rootfs::busybox(workspace)?;
    let work_dir = workspace.target.join("containerd-tests");
    std::fs::create_dir_all(&work_dir)?;
    containerd::run(&containerd::Options {
        bin_dir,
        rootfs,
        full: arguments.full,
        work_dir,
        filter: arguments.filter.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Report, count};

    #[test]
    fn adds_up_what_cargo_test_prints() {
        let mut report = Report::default();
        let output = "running 4 tests\ntest a::b ... ok\ntest c ... FAILED\n\
                      test d ... ignored, /dev/kvm is not there\ntest e ... ok\n\
                      test result: FAILED. 2 passed; 1 failed; 1 ignored";
        output.lines().for_each(|line| count(&mut report, line));
        assert_eq!(report.totals(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(report.failed, ["c"]);
    }
}

//! `cargo xtask qemu-test`: the kernel under QEMU, without KVM.

use std::path::{Path, PathBuf};

use anyhow::bail;
use qemu_tests::suite::Options;
use qemu_tests::{Report, boot_cost, gaps, poor_machines, suite};

use crate::build::{self, Image};
use crate::packages;
use crate::workspace::Workspace;

/// What `cargo xtask qemu-test` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct QemuTestArguments {
    /// Only programs whose name contains this; `q35/` or `microvm-4/pipes` choose machines, too. `gaps/` and
    /// `gaps/NAME` measure how long calls keep the CPU
    filter: Option<String>,
    /// Boot this Linux kernel (a vmlinuz) instead of ours, to test the tests
    #[arg(long, value_name = "FILE")]
    linux: Option<PathBuf>,
    /// Let the CPUs stand still now and then, as this seed says
    #[arg(long, value_name = "SEED")]
    jitter: Option<u64>,
}

/// Builds, runs the tests and fails when one fails.
pub(crate) fn run(workspace: &Workspace, arguments: QemuTestArguments) -> anyhow::Result<()> {
    let report = match arguments.linux {
        Some(kernel) => programs(workspace, kernel, true, arguments.filter, arguments.jitter)?,
        None => {
            let kernel = build::image(workspace)?.kernel;
            let family = arguments.filter.as_deref();
            if arguments.filter.as_deref() == Some("poor/") {
                let image = build::image(workspace)?;
                return end(&poor_machines::run(&image.kernel, &image.archive)?);
            }
            if let Some(family) = family.and_then(|filter| filter.strip_prefix("gaps/")) {
                return end(&long_calls(workspace, &kernel, Some(family))?);
            }
            programs(workspace, kernel, false, arguments.filter, arguments.jitter)?
        }
    };
    end(&report)
}

fn end(report: &Report) -> anyhow::Result<()> {
    println!("{}", report.totals());
    if !report.failed.is_empty() {
        bail!("{} tests failed", report.failed.len());
    }
    Ok(())
}

/// The guest programs on every machine, or on all but one, the boot's cost, and how long calls keep the CPU.
pub(crate) fn all(workspace: &Workspace, image: &Image, is_full: bool) -> anyhow::Result<Report> {
    let mut report = suite::run(&Options {
        is_short: !is_full,
        ..options(workspace, image.kernel.clone())?
    })?;
    report.merge(boot_cost::run(&image.kernel, &image.archive)?);
    report.merge(poor_machines::run(&image.kernel, &image.archive)?);
    report.merge(long_calls(workspace, &image.kernel, None)?);
    Ok(report)
}

fn long_calls(
    workspace: &Workspace,
    kernel: &Path,
    family: Option<&str>,
) -> anyhow::Result<Report> {
    let needed = [packages::QEMU, packages::STATIC_C].concat();
    packages::require("the tests under QEMU", &needed)?;
    let family = family.filter(|name| !name.is_empty());
    gaps::run(kernel, &workspace.target.join("qemu-tests"), family)
}

fn programs(
    workspace: &Workspace,
    kernel: PathBuf,
    is_linux: bool,
    filter: Option<String>,
    jitter: Option<u64>,
) -> anyhow::Result<Report> {
    suite::run(&Options {
        is_linux,
        filter,
        jitter,
        ..options(workspace, kernel)?
    })
}

/// All programs on all machines.
fn options(workspace: &Workspace, kernel: PathBuf) -> anyhow::Result<Options> {
    let needed = [packages::QEMU, packages::STATIC_C, packages::BUSYBOX].concat();
    packages::require("the tests under QEMU", &needed)?;
    Ok(Options {
        kernel,
        is_linux: false,
        work_dir: workspace.target.join("qemu-tests"),
        filter: None,
        is_short: false,
        jitter: None,
    })
}

//! `cargo xtask bench kernel`: what our kernel's operations cost in instructions, beside Debian's
//! Linux on the same machine. Writes `kernel.json` and `kernel.svg` to `target/bench`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use qemu_tests::Report;
use qemu_tests::bench::budgets::{self, Budgets};
use qemu_tests::bench::compare::Comparison;
use qemu_tests::bench::{Bench, Figures, Kernel, plot};

use crate::build::{self, Image};
use crate::workspace::Workspace;
use crate::{linux, packages, shell};

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    /// What to measure
    #[arg(value_enum)]
    subject: Subject,
    /// Only our kernel
    #[arg(long)]
    no_linux: bool,
    /// Make the figures of our kernel its budgets
    #[arg(long)]
    write_budgets: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Subject {
    /// The kernel's operations, in instructions
    Kernel,
}

/// Measures and prints.
pub(crate) fn run(workspace: &Workspace, arguments: &BenchArguments) -> anyhow::Result<()> {
    let Subject::Kernel = arguments.subject;
    let image = build::image(workspace)?;
    let bench = build(workspace)?;
    let ours = ours(&bench, &image)?;
    let linux = match arguments.no_linux {
        true => None,
        false => Some(debian(workspace, &bench)?),
    };
    let comparison = Comparison::new(&ours, linux.as_ref());
    let folder = folder(workspace);
    let json = serde_json::to_string_pretty(&comparison.json())?;
    fs::write(folder.join("kernel.json"), json + "\n")?;
    print!("{}", comparison.table());
    if linux.is_some() {
        fs::write(folder.join("kernel.svg"), plot::svg(&comparison))?;
    }
    println!(
        "written: kernel.json and kernel.svg in {}",
        workspace.display(&folder)
    );
    if arguments.write_budgets {
        let path = budgets::path();
        fs::write(&path, budgets::text(&ours))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("written: {}", workspace.display(&path));
    }
    Ok(())
}

/// The part `budgets` of the tests: our kernel's costs, of at most what `budgets.toml` says.
pub(crate) fn test(workspace: &Workspace, image: &Image) -> anyhow::Result<Report> {
    let budgets = Budgets::read()?;
    let figures = ours(&build(workspace)?, image)?;
    let mut report = Report::default();
    budgets.judge(&figures, &mut report);
    for row in budgets.too_large(&figures) {
        println!("note: the budget can be lowered: {row}");
    }
    Ok(report)
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("bench")
}

fn build(workspace: &Workspace) -> anyhow::Result<Bench> {
    let needed = [packages::QEMU, packages::STATIC_C].concat();
    packages::require("the kernel benchmark", &needed)?;
    Bench::build(&folder(workspace))
}

fn ours(bench: &Bench, image: &Image) -> anyhow::Result<Figures> {
    shell::step("Counting instructions of our kernel");
    bench.run(&Kernel {
        name: "ours".to_owned(),
        file: image.kernel.clone(),
        is_linux: false,
    })
}

fn debian(workspace: &Workspace, bench: &Bench) -> anyhow::Result<Figures> {
    let kernel = linux::debian(workspace)?;
    shell::step("Counting instructions of Debian's Linux");
    bench.run(&Kernel {
        name: "linux".to_owned(),
        file: kernel,
        is_linux: true,
    })
}

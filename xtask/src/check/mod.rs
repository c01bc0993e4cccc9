//! `cargo xtask check`: the rules of the house that a program can check, cheap ones first.

mod allocation;
mod layers;
mod sources;

use std::process::Command;

use anyhow::bail;

use crate::toolchain::{KERNEL_TARGET, Toolchain};
use crate::workspace::Workspace;
use crate::{docs, shell};

/// What is wrong, one sentence each.
pub(crate) type Complaints = Vec<String>;

/// A check by another program.
type Check = fn(&Workspace) -> anyhow::Result<()>;

/// Checks everything, whatever is wrong before; fails when anything is wrong.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    shell::step("Checking layers, file headers, sizes and unsafe code");
    let mut complaints = layers::check(workspace)?;
    complaints.extend(sources::check(workspace)?);
    let others: [(&str, Check); 4] = [
        ("the format", format),
        ("with clippy", clippy),
        ("the kernel's bare-metal code with clippy", clippy_bare),
        ("that generated pages are up to date", docs::check),
    ];
    for (what, check) in others {
        shell::step(&format!("Checking {what}"));
        if let Err(error) = check(workspace) {
            complaints.push(format!("{error:#}"));
        }
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} rules are broken, see above", complaints.len());
    }
    Ok(())
}

fn format(workspace: &Workspace) -> anyhow::Result<()> {
    shell::run(cargo(workspace).args(["fmt", "--all", "--check"]))
}

/// Lints everything, as it is built for the host.
fn clippy(workspace: &Workspace) -> anyhow::Result<()> {
    let mut command = cargo(workspace);
    command.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--keep-going",
    ]);
    shell::run(command.args(["--", "-D", "warnings"]))
}

/// Lints the kernel as it is built for the bare machine: what stands under `target_os = "none"` is not
/// there on the host.
fn clippy_bare(workspace: &Workspace) -> anyhow::Result<()> {
    let Some(mut command) = Toolchain::choose()?.cargo_clippy(workspace) else {
        eprintln!("    left out: clippy needs rustup's target {KERNEL_TARGET}");
        return Ok(());
    };
    command.args(["--quiet", "--package", "nacre-kernel", "--keep-going"]);
    shell::run(command.args(["--", "-D", "warnings"]))
}

fn cargo(workspace: &Workspace) -> Command {
    let mut command = shell::cargo();
    command
        .env("CARGO_TARGET_DIR", &workspace.target)
        .current_dir(&workspace.root);
    command
}

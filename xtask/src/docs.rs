//! `cargo xtask docs`: pages that are written from the code, so that they cannot be wrong.

use std::fs;

use anyhow::bail;

use crate::shell;
use crate::workspace::Workspace;

/// The page of system calls, written by an example of the system-call crate.
const SYSCALLS: &str = "docs/syscalls.md";

/// Writes the pages.
pub(crate) fn write(workspace: &Workspace) -> anyhow::Result<()> {
    fs::create_dir_all(workspace.root.join("docs"))?;
    fs::write(workspace.root.join(SYSCALLS), syscalls(workspace)?)?;
    Ok(())
}

/// Fails when a page is not what the code says now.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let page = fs::read_to_string(workspace.root.join(SYSCALLS)).unwrap_or_default();
    if page != syscalls(workspace)? {
        bail!("{SYSCALLS} is not what the table says; run `cargo xtask docs` and commit it");
    }
    Ok(())
}

fn syscalls(workspace: &Workspace) -> anyhow::Result<String> {
    let mut command = shell::cargo();
    command
        .args([
            "run",
            "--quiet",
            "--package",
            "nacre-syscall",
            "--example",
            "syscalls",
        ])
        .env("CARGO_TARGET_DIR", &workspace.target)
        .current_dir(&workspace.root);
    Ok(shell::output(&mut command)? + "\n")
}

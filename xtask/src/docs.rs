//! `cargo xtask docs`: pages that are written from the code, so that they cannot be wrong.

use std::fs;

use anyhow::bail;

use crate::shell;
use crate::workspace::Workspace;

/// The pages, each written by an example of a crate: the page, the package and the example.
const PAGES: [(&str, &str, &str); 2] = [
    ("docs/syscalls.md", "nacre-syscall", "syscalls"),
    ("docs/oci.md", "nacre-oci", "fields"),
];

/// Writes the pages.
pub(crate) fn write(workspace: &Workspace) -> anyhow::Result<()> {
    fs::create_dir_all(workspace.root.join("docs"))?;
    for (page, package, example) in PAGES {
        fs::write(
            workspace.root.join(page),
            written(workspace, package, example)?,
        )?;
    }
    Ok(())
}

/// Fails when a page is not what the code says now.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    for (page, package, example) in PAGES {
        let text = fs::read_to_string(workspace.root.join(page)).unwrap_or_default();
        if text != written(workspace, package, example)? {
            bail!("{page} is not what the table says; run `cargo xtask docs` and commit it");
        }
    }
    Ok(())
}

fn written(workspace: &Workspace, package: &str, example: &str) -> anyhow::Result<String> {
    let mut command = shell::cargo();
    command
        .args(["run", "--quiet", "--package", package])
        .args(["--example", example])
        .env("CARGO_TARGET_DIR", &workspace.target)
        .current_dir(&workspace.root);
    Ok(shell::output(&mut command)? + "\n")
}

//! The host's programs: `nacre`, `nacre-vmm`, `nacre-qemu` and the containerd shim.

use std::path::PathBuf;

use crate::shell;
use crate::workspace::Workspace;

/// The crates that they are in.
const PACKAGES: [&str; 4] = ["nacre-cli", "nacre-shim", "nacre-vmm", "nacre-qemu"];

/// Builds the host's programs, optimised, and returns the path of `nacre`; the others are
/// beside it.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    shell::step("Building the host's programs");
    let mut command = shell::cargo();
    command
        .args(["build", "--release", "--bins"])
        .args(PACKAGES.iter().flat_map(|name| ["--package", name]))
        .env("CARGO_TARGET_DIR", &workspace.target)
        .current_dir(&workspace.root);
    shell::run(&mut command)?;
    Ok(workspace.target.join("release/nacre"))
}

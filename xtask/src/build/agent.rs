//! The agent: a static glibc program, because it runs before there is a file system with a
//! dynamic linker.

use std::path::PathBuf;

use crate::build::kernel::remapped_paths;
use crate::workspace::Workspace;
use crate::{packages, shell};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the agent and returns its path.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    packages::require("building the agent", packages::STATIC_C)?;
    shell::step("Building the agent");
    let mut flags = remapped_paths(workspace, None);
    // Not position-independent: PID 1 then has no relocations to apply, so its pages stay shared
    // with the archive, and so with every other microVM.
    for flag in [
        "target-feature=+crt-static",
        "relocation-model=static",
        "link-arg=-Wl,--build-id=none",
    ] {
        flags.extend(["-C".into(), flag.into()]);
    }
    let target = workspace.target.join("agent");
    let mut command = shell::cargo();
    command
        .args([
            "build",
            "--package",
            "nacre-agent",
            "--profile",
            "agent",
            "--target",
            TARGET,
        ])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(&workspace.root);
    shell::run(&mut command)?;
    Ok(target.join(TARGET).join("agent/nacre-agent"))
}

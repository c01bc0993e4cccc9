//! `cargo xtask fuzz`: mutated inputs for whatever reads others' bytes, by the crate in `qemu-tests/fuzz`.

use crate::shell;
use crate::workspace::Workspace;

/// What `cargo xtask fuzz` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzArguments {
    /// Which targets; all of them if none is named
    targets: Vec<String>,
    /// For how long, each
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// The number that the inputs are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// All targets, for so many seconds each.
pub(crate) fn all(seconds: u64) -> FuzzArguments {
    FuzzArguments {
        targets: Vec::new(),
        seconds,
        seed: 1,
    }
}

/// Builds and runs it. An input that fails is left in `target/fuzz`.
pub(crate) fn run(workspace: &Workspace, arguments: &FuzzArguments) -> anyhow::Result<()> {
    shell::step("Feeding hostile bytes");
    let out = workspace.target.join("fuzz");
    std::fs::create_dir_all(&out)?;
    let mut command = shell::cargo();
    command
        // Not optimised: overflows are looked for, too.
        .args(["run", "--quiet", "--package", "nacre-fuzz", "--"])
        .args(&arguments.targets)
        .args(["--seconds", &arguments.seconds.to_string()])
        .args(["--seed", &arguments.seed.to_string()])
        .arg("--out")
        .arg(out)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .current_dir(&workspace.root);
    shell::run(&mut command)
}

//! The kernel: a static-PIE ELF for the bare machine, linked by `kernel/kernel/link.ld`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::build::{elf, write};
use crate::shell;
use crate::toolchain::{KERNEL_TARGET, Toolchain};
use crate::workspace::Workspace;

/// The linker script, relative to the project's folder, in which the linker runs.
const LINKER_SCRIPT: &str = "kernel/kernel/link.ld";

/// Builds the kernel, writes `kernel.elf` (stripped) and `kernel.debug.elf` (with symbols), and
/// returns the path of the former.
pub(crate) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let toolchain = Toolchain::choose()?;
    shell::step("Building the kernel");
    let mut command = toolchain.cargo_build(workspace);
    command
        .args(["--package", "nacre-kernel", "--profile", "kernel"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(workspace, &toolchain).join("\x1f"),
        );
    shell::run(&mut command)?;
    let built = toolchain
        .target_dir(workspace)
        .join(KERNEL_TARGET)
        .join("kernel/nacre-kernel");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let stripped = elf::strip(&bytes).with_context(|| built.display().to_string())?;
    write(&workspace.image_dir().join("kernel.debug.elf"), &bytes)?;
    let kernel = workspace.image_dir().join("kernel.elf");
    write(&kernel, &stripped)?;
    Ok(kernel)
}

fn flags(workspace: &Workspace, toolchain: &Toolchain) -> Vec<String> {
    let mut flags = remapped_paths(workspace, toolchain.library_source().as_deref());
    let mut codegen = vec![
        "relocation-model=pic".to_owned(),
        "link-arg=--build-id=none".to_owned(),
    ];
    if workspace.root.join(LINKER_SCRIPT).is_file() {
        codegen.push(format!("link-arg=-T{LINKER_SCRIPT}"));
    }
    for flag in codegen {
        flags.extend(["-C".to_owned(), flag]);
    }
    flags
}

/// Compiler flags that keep this machine's paths out of a binary.
pub(crate) fn remapped_paths(workspace: &Workspace, library_source: Option<&Path>) -> Vec<String> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cargo"))
    });
    let mut flags = Vec::new();
    let mut remap = |from: &Path, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    remap(&workspace.root, "/nacre");
    if let Some(home) = cargo_home {
        remap(&home, "/cargo");
    }
    if let Some(source) = library_source {
        remap(source, "/rust");
    }
    flags
}

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

/// Which kernel to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The one that microVMs run.
    Release,
    /// With the feature `checks`: assertions that cost time, and allocations that fail on demand.
    Checks,
}

/// Builds the kernel, writes `kernel.elf` (stripped) and `kernel.debug.elf` (with symbols) to the variant's
/// folder, and returns the path of the former.
pub(crate) fn build(workspace: &Workspace, variant: Variant) -> anyhow::Result<PathBuf> {
    let toolchain = Toolchain::choose()?;
    let folder = match variant {
        Variant::Release => workspace.image_dir(),
        Variant::Checks => workspace.target.join("image-checks"),
    };
    let mut command = toolchain.cargo_build(workspace);
    if variant == Variant::Checks {
        shell::step("Building the kernel with checks");
        command.args(["--features", "checks"]);
    } else {
        shell::step("Building the kernel");
    }
    command
        .args(["--package", "nacre-kernel", "--profile", "kernel"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(workspace, &toolchain, variant).join("\x1f"),
        );
    shell::run(&mut command)?;
    let built = toolchain
        .target_dir(workspace)
        .join(KERNEL_TARGET)
        .join("kernel/nacre-kernel");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let stripped = elf::strip(&bytes).with_context(|| built.display().to_string())?;
    write(&folder.join("kernel.debug.elf"), &bytes)?;
    let kernel = folder.join("kernel.elf");
    write(&kernel, &stripped)?;
    Ok(kernel)
}

fn flags(workspace: &Workspace, toolchain: &Toolchain, variant: Variant) -> Vec<String> {
    let mut flags = remapped_paths(workspace, toolchain.library_source().as_deref());
    let mut codegen = vec![
        "relocation-model=pic".to_owned(),
        "link-arg=--build-id=none".to_owned(),
        // The compiler's own 225 makes the kernel 180 KB larger, and calls 0.4% cheaper on (geometric) average. What
        // is worth its copies says so by #[inline].
        "llvm-args=-inline-threshold=185".to_owned(),
    ];
    if variant == Variant::Checks {
        // Allocations are told apart by the calls that led to them.
        codegen.push("force-frame-pointers=yes".to_owned());
    }
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

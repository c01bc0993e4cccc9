//! Which Rust toolchain builds the kernel. Stable Rust either way:
//!
//! - rustup's, when its target `x86_64-unknown-none` is installed or can be added;
//! - else Debian's, which carries the standard library's source and builds `core` from it.
//!
//! The choice is made by trying, printed, and can be forced with `NACRE_KERNEL_TOOLCHAIN`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::workspace::Workspace;
use crate::{packages, shell};

/// The target that the kernel is built for.
pub(crate) const KERNEL_TARGET: &str = "x86_64-unknown-none";

/// The oldest Rust that builds the workspace.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// How long rustup may try to download the target before Debian's toolchain is used.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(30);

/// A toolchain that can build the kernel.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The toolchain that runs us, with rustup's target.
    Rustup,
    /// Debian's `rustc-web` and `cargo-web`.
    Debian {
        /// The linker to use.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Chooses the toolchain, installs what it lacks, and says which one it is.
    pub(crate) fn choose() -> anyhow::Result<Self> {
        let forced = env::var("NACRE_KERNEL_TOOLCHAIN").ok();
        let chosen = match forced.as_deref() {
            None if has_target() || add_target() => Self::Rustup,
            Some("rustup") => Self::Rustup,
            None | Some("debian") => Self::debian()?,
            Some(other) => {
                bail!("NACRE_KERNEL_TOOLCHAIN is {other:?}; it can be `rustup` or `debian`")
            }
        };
        eprintln!("    kernel toolchain: {}", chosen.describe());
        Ok(chosen)
    }

    fn debian() -> anyhow::Result<Self> {
        let purpose = format!("building the kernel with Rust {RUST_VERSION}");
        packages::require(&purpose, packages::DEBIAN_RUST)?;
        if is_older(&debian_rustc()?, RUST_VERSION) {
            // Old package lists have an old one.
            packages::upgrade(&purpose, packages::DEBIAN_RUST)?;
        }
        let found = debian_rustc()?;
        if is_older(&found, RUST_VERSION) {
            bail!(
                "the kernel needs Rust {RUST_VERSION}, and the newest of Debian's rustc-web here is {found}; \
                 add Debian's security updates to apt's sources, or let rustup add the target {KERNEL_TARGET}"
            );
        }
        let linker = match rustup_linker() {
            Some(linker) => linker,
            None => {
                packages::require("linking the kernel", packages::LINKER)?;
                PathBuf::from("/usr/bin/ld.lld")
            }
        };
        Ok(Self::Debian { linker })
    }

    /// A `cargo build` for the kernel's target.
    pub(crate) fn cargo_build(&self, workspace: &Workspace) -> Command {
        let mut command = match self {
            Self::Rustup => shell::cargo(),
            Self::Debian { linker } => debian_cargo(linker),
        };
        command.arg("build").args(["--target", KERNEL_TARGET]);
        if matches!(self, Self::Debian { .. }) {
            command.args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
        }
        command
            .env("CARGO_TARGET_DIR", self.target_dir(workspace))
            .current_dir(&workspace.root);
        command
    }

    /// A `cargo clippy` for the kernel's target. `None` where that cannot run: Debian's Cargo has no clippy,
    /// and rustup's would need the target's libraries.
    pub(crate) fn cargo_clippy(&self, workspace: &Workspace) -> Option<Command> {
        let mut command = match self {
            Self::Rustup => shell::cargo(),
            Self::Debian { .. } => return None,
        };
        command
            .args(["clippy", "--target", KERNEL_TARGET])
            .env("CARGO_TARGET_DIR", self.target_dir(workspace))
            .current_dir(&workspace.root);
        Some(command)
    }

    /// Cargo's target folder for the kernel. Each toolchain has its own, or they would throw
    /// away each other's work.
    pub(crate) fn target_dir(&self, workspace: &Workspace) -> PathBuf {
        match self {
            Self::Rustup => workspace.target.join("kernel-rustup"),
            Self::Debian { .. } => workspace.target.join("kernel-debian"),
        }
    }

    /// The folder of the standard library's sources, as it stands in the binary's paths.
    pub(crate) fn library_source(&self) -> Option<PathBuf> {
        let sysroot = match self {
            Self::Rustup => sysroot(&mut Command::new("rustc"))?,
            Self::Debian { .. } => sysroot(&mut Command::new("/usr/bin/rustc"))?,
        };
        Some(sysroot.join("lib/rustlib/src/rust"))
    }

    fn describe(&self) -> String {
        match self {
            Self::Rustup => format!("rustup's, with its target {KERNEL_TARGET}"),
            Self::Debian { linker } => {
                format!(
                    "Debian's rustc-web, building core; linker {}",
                    linker.display()
                )
            }
        }
    }
}

/// The version of Debian's compiler, as `1.96.0`.
fn debian_rustc() -> anyhow::Result<String> {
    let mut rustc = Command::new("/usr/bin/rustc");
    rustc.arg("--version").env_remove("LD_LIBRARY_PATH");
    let said = shell::output(&mut rustc)?;
    let version = said.split_whitespace().nth(1);
    version
        .map(str::to_owned)
        .with_context(|| format!("/usr/bin/rustc --version says {said:?}"))
}

/// Whether version `found` comes before `needed`, number by number.
fn is_older(found: &str, needed: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let parts = version.split(['.', '-', '+']);
        parts.map_while(|part| part.parse().ok()).collect()
    };
    numbers(found) < numbers(needed)
}

/// Debian's Cargo, sealed off from the rustup toolchain that runs us.
fn debian_cargo(linker: &Path) -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    shell::forget_outer_cargo(&mut command);
    // rustup's proxies point the dynamic linker at their own compiler's libraries.
    for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", linker);
    command
}

/// Whether the toolchain that runs us has the standard library for the kernel's target.
fn has_target() -> bool {
    let Some(sysroot) = sysroot(&mut Command::new("rustc")) else {
        return false;
    };
    let dir = sysroot.join("lib/rustlib").join(KERNEL_TARGET).join("lib");
    dir.read_dir().is_ok_and(|mut files| files.next().is_some())
}

/// Asks rustup for the target, for a bounded time: without a network it would wait for minutes.
fn add_target() -> bool {
    if !shell::is_in_path("rustup") {
        return false;
    }
    shell::step(&format!("Asking rustup for the target {KERNEL_TARGET}"));
    let child = Command::new("rustup")
        .args(["target", "add", KERNEL_TARGET])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let added = shell::wait_for(&mut child, DOWNLOAD_LIMIT);
    added.is_ok_and(|status| status.is_some_and(|status| status.success())) && has_target()
}

/// The linker that comes with rustup's compiler.
fn rustup_linker() -> Option<PathBuf> {
    let sysroot = sysroot(&mut Command::new("rustc"))?;
    let linker = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    linker.is_file().then_some(linker)
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    rustc.env_remove("LD_LIBRARY_PATH");
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(path.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::is_older;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("1.85.0", "1.95"));
        assert!(is_older("1.9.1", "1.10"));
        assert!(!is_older("1.95.0", "1.95"));
        assert!(!is_older("1.96.0-nightly", "1.95"));
        assert!(!is_older("2.0.0", "1.95"));
    }
}

//! Debian packages: each command asks for the ones it needs, and they are installed when they
//! are missing and we may; otherwise the user gets the exact command.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::bail;

use crate::shell;

/// To link the agent and the guest test programs, all of them static.
pub(crate) const STATIC_C: &[&str] = &["gcc", "libc6-dev"];
/// To build the kernel without rustup's target.
pub(crate) const DEBIAN_RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
/// A linker for the kernel where rustup's toolchain has none.
pub(crate) const LINKER: &[&str] = &["lld"];
/// For the busybox root that `run` starts by default.
pub(crate) const BUSYBOX: &[&str] = &["busybox-static"];
/// To boot the kernel under software emulation.
pub(crate) const QEMU: &[&str] = &["qemu-system-x86"];
/// To run a microVM with a network of its own, for `run` and for the tests.
pub(crate) const USER_NETWORK: &[&str] = &["passt", "iproute2"];
/// To make a Debian root for the tests.
pub(crate) const DEBIAN_ROOT: &[&str] = &["mmdebstrap", "arch-test"];
/// To test the containerd shim, with runc to compare it with.
pub(crate) const CONTAINERD: &[&str] = &["containerd", "runc"];

/// Makes sure that `packages`, needed for `purpose`, are installed.
pub(crate) fn require(purpose: &str, packages: &[&str]) -> anyhow::Result<()> {
    // Tests run side by side, and there is one database of packages.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    may_install(purpose, &missing)?;
    shell::step(&format!(
        "Installing {}, needed for {purpose}",
        missing.join(" ")
    ));
    install(&missing)
}

/// Brings `packages`, which are installed but too old for `purpose`, up to date with fresh package lists.
pub(crate) fn upgrade(purpose: &str, packages: &[&str]) -> anyhow::Result<()> {
    may_install(purpose, packages)?;
    shell::step(&format!(
        "Upgrading {}, needed for {purpose}",
        packages.join(" ")
    ));
    update()?;
    apt_get(&["install"], packages)
}

/// Fails with what to do where we cannot install `packages` ourselves.
fn may_install(purpose: &str, packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if !shell::is_in_path("apt-get") {
        bail!("{purpose} needs what Debian calls {list}; install it and try again");
    }
    if !shell::is_root() {
        bail!(
            "{purpose} needs {list}. As root:\n  \
             apt-get update && apt-get install -y --no-install-recommends {list}"
        );
    }
    Ok(())
}

/// Installs `packages`, with the package lists fetched anew when the old ones do not do.
fn install(packages: &[&str]) -> anyhow::Result<()> {
    if apt_get(&["install"], packages).is_ok() {
        return Ok(());
    }
    update()?;
    apt_get(&["install"], packages)
}

/// The package that `package` depends on and whose name starts with `prefix`.
pub(crate) fn dependency(package: &str, prefix: &str) -> anyhow::Result<String> {
    let list = |package| {
        let mut command = Command::new("apt-cache");
        command.args(["depends", package]);
        shell::output(&mut command)
    };
    let find = |list: &str| {
        let names = list
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        names
            .map(str::to_owned)
            .find(|name| name.starts_with(prefix))
    };
    if let Some(name) = list(package).ok().as_deref().and_then(find) {
        return Ok(name);
    }
    update()?;
    match find(&list(package)?) {
        Some(name) => Ok(name),
        None => bail!("Debian's {package} depends on no {prefix}…"),
    }
}

/// Downloads the archive of `package` to `folder`, and installs nothing.
pub(crate) fn download(package: &str, folder: &Path) -> anyhow::Result<()> {
    let once = || shell::run(apt().args(["download", "-q", package]).current_dir(folder));
    once().or_else(|_| {
        update()?;
        once()
    })
}

fn update() -> anyhow::Result<()> {
    shell::run(apt().args(["update", "-q"]))
}

fn apt_get(verb: &[&str], packages: &[&str]) -> anyhow::Result<()> {
    let options = ["-y", "-q", "--no-install-recommends"];
    shell::run(apt().args(verb).args(options).args(packages))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"])
        .stdin(Stdio::null())
        // Our own stdout is for results.
        .stdout(std::io::stderr());
    command
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

//! Root file systems to run programs from: Debian's static busybox, and a small Debian made by
//! mmdebstrap. Both are kept under the target folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::workspace::Workspace;
use crate::{packages, shell};

const BUSYBOX: &str = "/bin/busybox";
const SUITE: &str = "bookworm";
/// What the tests use of Debian, beyond its essential packages.
const APPLICATIONS: &str = "nodejs,openjdk-17-jdk-headless,golang-1.19-go";
const DEBIAN_PACKAGES: &str = "bash,coreutils,findutils,grep,sed,tar,gzip,python3-minimal";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";

/// A root with busybox and all its applets, made when it is not there.
pub(crate) fn busybox(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let root = workspace.target.join("rootfs/busybox");
    if root.is_dir() {
        return Ok(root);
    }
    packages::require("the busybox root", packages::BUSYBOX)?;
    shell::step(&format!(
        "Making a busybox root in {}",
        workspace.display(&root)
    ));
    into_place(&root, make_busybox)?;
    Ok(root)
}

/// A Debian root with bash, coreutils and python3, made when it is not there. Needs root.
pub(crate) fn debian(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let root = workspace.target.join("rootfs/debian");
    if root.is_dir() {
        return Ok(root);
    }
    packages::require("the Debian root", packages::DEBIAN_ROOT)?;
    shell::step(&format!(
        "Making a Debian root in {} (a minute)",
        workspace.display(&root)
    ));
    into_place(&root, make_debian)?;
    Ok(root)
}

/// A Debian root with Node, Java and a program that was written in Go, made when it is not there. Needs root.
pub(crate) fn applications(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let root = workspace.target.join("rootfs/applications");
    if root.is_dir() {
        return Ok(root);
    }
    packages::require("the root with applications", packages::DEBIAN_ROOT)?;
    shell::step(&format!(
        "Making a Debian root with Node, Java and Go in {} (some minutes, 1.4 GB)",
        workspace.display(&root)
    ));
    let sources = workspace.root.join("qemu-tests/kvm");
    into_place(&root, |root| make_applications(root, &sources))?;
    Ok(root)
}

/// Lets `make` fill a new folder and moves it to `root` once it is complete.
fn into_place(root: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let new = root.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    make(&new)?;
    fs::rename(&new, root).with_context(|| format!("cannot make {}", root.display()))
}

fn make_busybox(root: &Path) -> anyhow::Result<()> {
    for dir in [
        "bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var",
    ] {
        fs::create_dir(root.join(dir))?;
    }
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777))?;
    for (link, target) in [
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
    ] {
        symlink(target, root.join(link))?;
    }
    fs::write(root.join("etc/passwd"), PASSWD)?;
    fs::write(root.join("etc/group"), GROUP)?;
    fs::write(root.join("etc/hostname"), "nacre\n")?;
    fs::copy(BUSYBOX, root.join("bin/busybox")).context("cannot copy /bin/busybox")?;
    for applet in shell::output(Command::new(BUSYBOX).arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    Ok(())
}

fn make_debian(root: &Path) -> anyhow::Result<()> {
    let exclude = "--dpkgopt=path-exclude=/usr/share/man/*";
    shell::run(
        mmdebstrap(DEBIAN_PACKAGES)
            .arg(exclude)
            .arg(SUITE)
            .arg(root),
    )
}

/// Java's package makes links among the manual pages, so these stay.
fn make_applications(root: &Path, sources: &Path) -> anyhow::Result<()> {
    shell::run(mmdebstrap(APPLICATIONS).arg(SUITE).arg(root))?;
    for source in ["work.go", "Work.java"] {
        fs::copy(sources.join(source), root.join("opt").join(source))
            .with_context(|| format!("cannot copy {source}"))?;
    }
    let enter = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" sh -c \"$1\"";
    let build = "cd /opt && javac Work.java && \
                 HOME=/tmp CGO_ENABLED=0 /usr/lib/go-1.19/bin/go build -o work work.go";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", enter]).arg(root);
    shell::run(command.arg(build))
}

/// The start of the command that makes a Debian root with these packages.
fn mmdebstrap(packages: &str) -> Command {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=essential", "--mode=root", "--quiet"])
        .arg(format!("--include={packages}"))
        .args([
            "--aptopt=Acquire::Languages \"none\"",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
        ]);
    command
}

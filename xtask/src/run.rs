//! `cargo xtask run`: builds everything and becomes `nacre run`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::Context;

use crate::workspace::Workspace;
use crate::{build, packages, rootfs, shell};

/// What `cargo xtask run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// Root file system of the program; a busybox root by default
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Number of virtual CPUs, 1 to 4
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Memory of the microVM, for example 256M
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// What runs the microVM, `kvm` or `qemu`
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,
    /// The network: `none`, `user`, or a network namespace
    #[arg(long, value_name = "none|user|NAME")]
    net: Option<String>,
    /// Lead a port of the host to one of the program's; with `--net user`
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]")]
    publish: Vec<String>,
    /// Print how long each phase of the boot took
    #[arg(long)]
    timings: bool,
    /// The program and its arguments; `/bin/sh` by default
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM ARGS"
    )]
    program: Vec<OsString>,
}

/// Builds, then replaces this process with `nacre run`.
pub(crate) fn run(workspace: &Workspace, arguments: RunArguments) -> anyhow::Result<()> {
    if arguments.net.as_deref() == Some("user") {
        packages::require("--net user", packages::USER_NETWORK)?;
    }
    build::image(workspace)?;
    let nacre = build::host_tools(workspace)?;
    let rootfs = match arguments.rootfs {
        Some(dir) => dir,
        None => rootfs::busybox(workspace)?,
    };
    let mut command = std::process::Command::new(&nacre);
    command.arg("run").arg("--rootfs").arg(rootfs);
    command.arg("-i");
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        command.arg("-t");
    }
    for (name, value) in [
        ("--cpus", arguments.cpus),
        ("--memory", arguments.memory),
        ("--machine", arguments.machine),
        ("--net", arguments.net),
    ] {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    for port in arguments.publish {
        command.args(["--publish", &port]);
    }
    if arguments.timings {
        command.arg("--timings");
    }
    command.arg("--");
    if arguments.program.is_empty() {
        command.arg("/bin/sh");
    } else {
        command.args(arguments.program);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", shell::shown(&command)))
}

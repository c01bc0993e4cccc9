//! What the command line takes.

use std::path::PathBuf;

use super::size::Size;

/// Runs containers, each pod in a microVM on the Nacre kernel.
#[derive(Debug, clap::Parser)]
#[command(name = "nacre", version, arg_required_else_help = true)]
pub(super) struct Args {
    /// The directory with the state of all pods [default: /run/nacre, or $XDG_RUNTIME_DIR/nacre].
    #[arg(long, global = true, value_name = "DIR", env = "NACRE_STATE_DIR")]
    pub(super) state_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Run one program in a microVM of its own.
    Run(Box<RunArgs>),
    /// List the pods that run, containerd's too.
    Ps(PsArgs),
}

/// `nacre ps`.
#[derive(Debug, clap::Args)]
pub(super) struct PsArgs {
    /// Only those of this namespace.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// Print names only.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// How to print them.
    #[arg(long, value_enum, default_value_t, conflicts_with = "quiet")]
    pub(super) format: Format,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// An array of objects.
    Json,
}

/// `nacre run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The directory that becomes the program's root file system.
    #[arg(long, value_name = "DIR")]
    pub(super) rootfs: PathBuf,
    /// The pod's name, for the other commands [default: two words].
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Pass stdin on.
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give the program a terminal.
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Virtual CPUs, 1 to 4.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub(super) cpus: u32,
    /// Guest memory: bytes, or with K, M, G or T.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256M",
        allow_negative_numbers = true
    )]
    pub(super) memory: Size,
    /// What runs the microVM: the host's KVM, or QEMU's software emulation [default: kvm where there is one].
    #[arg(
        long,
        value_name = "kvm|qemu",
        env = "NACRE_MACHINE",
        value_parser = ["kvm", "qemu"],
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub(super) machine: Option<String>,
    /// Print how long each phase took.
    #[arg(long)]
    pub(super) timings: bool,
    /// Set a variable; without a value it is taken from here.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// The working directory of the program, made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(super) cwd: String,
    /// Run as this user of the root file system, by name or number [default: root].
    #[arg(
        short,
        long,
        value_name = "USER[:GROUP]",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) user: String,
    /// The guest kernel [default: kernel.elf beside the program or in ../share/nacre].
    #[arg(long, value_name = "FILE", env = "NACRE_KERNEL")]
    pub(super) kernel: Option<PathBuf>,
    /// The guest's first programs [default: initramfs.img beside the kernel].
    #[arg(long, value_name = "FILE", env = "NACRE_INITRAMFS")]
    pub(super) initramfs: Option<PathBuf>,
    /// Append the guest kernel's console log to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    pub(super) program: Vec<String>,
}

//! What the command line takes.

use std::path::PathBuf;
use std::str::FromStr;

use host_machine::logging::{self, FORMAT_VARIABLE};
use host_net::Forward;

use super::moment::Moment;
use super::network::NetMode;
use super::signals::SignalNumber;
use super::size::Size;
use super::volume::Volume;

/// Runs containers, each pod in a microVM on the Nacre kernel.
#[derive(Debug, clap::Parser)]
#[command(name = "nacre", version, arg_required_else_help = true)]
pub(super) struct Args {
    /// The directory with the state of all pods [default: /run/nacre, or $XDG_RUNTIME_DIR/nacre].
    #[arg(long, global = true, value_name = "DIR", env = "NACRE_STATE_DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Say what is done, on stderr.
    #[arg(long, global = true)]
    pub(super) debug: bool,
    /// How that is written: text or json.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        env = FORMAT_VARIABLE
    )]
    pub(super) log_format: logging::Format,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Run one program in a microVM of its own.
    Run(Box<RunArgs>),
    /// List the pods that run, containerd's too.
    Ps(PsArgs),
    /// Run another program in a pod.
    Exec(ExecArgs),
    /// Send a signal to the program of a pod.
    Kill(KillArgs),
    /// Print what the program of a pod has written.
    Logs(LogsArgs),
    /// Print what pods use.
    Stats(StatsArgs),
    /// Print what happens in a pod, until it ends.
    Events(PodArgs),
    /// Change what a pod may use while it runs.
    Update(UpdateArgs),
    /// Stop everything in a pod where it is.
    Pause(PodArgs),
    /// Let a paused pod go on.
    #[command(alias = "unpause")]
    Resume(PodArgs),
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

/// `nacre update`.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    pub(super) which: PodArgs,
    /// Guest memory, at most what the pod was started with; K, M and G may follow.
    #[arg(short, long, value_name = "SIZE")]
    pub(super) memory: Size,
}

/// Which pods a command is for.
#[derive(Debug, clap::Args)]
pub(super) struct PodArgs {
    /// Their namespace, when several have pods of that name.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// Their names, or NAMESPACE/NAME.
    #[arg(required = true, value_name = "POD")]
    pub(super) pods: Vec<String>,
}

/// Which pod a command is for.
#[derive(Debug, clap::Args)]
pub(super) struct OnePod {
    /// The pod's namespace, when several have one of that name.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// The pod's name, or NAMESPACE/NAME.
    #[arg(value_name = "POD")]
    pub(super) pod: String,
}

/// `nacre exec`.
#[derive(Debug, clap::Args)]
pub(super) struct ExecArgs {
    /// Pass stdin on.
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give the program a terminal.
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Start the program, with nothing to read and its output to nobody, and do not wait for it.
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    pub(super) detach: bool,
    /// Set a variable beside those of the container; without a value it is taken from here.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// The working directory [default: that of the container].
    #[arg(
        short = 'w',
        long,
        alias = "workdir",
        value_name = "DIR",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) cwd: String,
    /// Run as this user of the root file system, by name or number [default: that of the container].
    #[arg(
        short,
        long,
        value_name = "USER[:GROUP]",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) user: String,
    #[command(flatten)]
    pub(super) which: OnePod,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    pub(super) program: Vec<String>,
}

/// `nacre kill`.
#[derive(Debug, clap::Args)]
pub(super) struct KillArgs {
    /// Its number, or its name with or without SIG.
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub(super) signal: SignalNumber,
    #[command(flatten)]
    pub(super) which: PodArgs,
}

/// `nacre logs`.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    /// Go on until the pod ends.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Begin with this many of the lines that there are.
    #[arg(long, visible_alias = "lines", value_name = "N")]
    pub(super) tail: Option<u64>,
    /// Leave out what is older: a time as in --timestamps, seconds since 1970, or how long ago, as 90s, 5m or 1h30m.
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<Moment>,
    /// Put the time before each piece.
    #[arg(short, long)]
    pub(super) timestamps: bool,
    #[command(flatten)]
    pub(super) which: OnePod,
}

/// `nacre stats`.
#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// Their namespace, when several have pods of that name.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: StatsFormat,
    /// Their names, or NAMESPACE/NAME [default: all].
    #[arg(value_name = "POD")]
    pub(super) pods: Vec<String>,
}

/// A disk as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskFile {
    pub(super) file: PathBuf,
    pub(super) is_read_only: bool,
}

impl FromStr for DiskFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, is_read_only) = match text.rsplit_once(':') {
            Some((file, "ro")) => (file, true),
            Some((file, "rw")) => (file, false),
            _ => (text, false),
        };
        if file.is_empty() {
            return Err("a disk is a file of raw blocks; write FILE or FILE:ro".to_owned());
        }
        let file = PathBuf::from(file);
        Ok(Self { file, is_read_only })
    }
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

/// How figures are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum StatsFormat {
    /// For people.
    #[default]
    Table,
    /// An array of objects.
    Json,
    /// Prometheus's text format, which also each pod answers on its pod.sock.
    Prometheus,
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
    /// Virtual CPUs, 1 to 4, and as much of the host's time as so many have [default: 1].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) cpus: Option<u32>,
    /// Guest memory: bytes, or with K, M, G or T.
    #[arg(
        short,
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
    /// Let the program see a directory of the host, with :ro at the end without changing it.
    #[arg(short = 'v', long = "volume", value_name = "HOST:GUEST[:ro]")]
    pub(super) volumes: Vec<Volume>,
    /// Set a variable; without a value it is taken from here.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// The working directory of the program, made if it is not there.
    #[arg(
        short = 'w',
        long,
        visible_alias = "workdir",
        value_name = "DIR",
        default_value = "/"
    )]
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
    /// A disk: a file of raw blocks, which the program finds as /dev/vda, the next as /dev/vdb; `:ro` to read it only.
    #[arg(long, value_name = "FILE[:ro]")]
    pub(super) disk: Vec<DiskFile>,
    /// The network: none, user (connections made by the host's passt), or a network namespace of `ip netns` or a path.
    #[arg(
        long,
        value_name = "none|user|NAME",
        default_value = "none",
        hide_default_value = true
    )]
    pub(super) net: NetMode,
    /// Lead a port of the host to one of the program's; with --net user.
    #[arg(short, long, value_name = "[ADDRESS:]HOST:GUEST[/udp]")]
    pub(super) publish: Vec<Forward>,
    /// Let no more than so many bytes a second pass, each way.
    #[arg(long, value_name = "SIZE")]
    pub(super) net_rate: Option<Size>,
    /// Append the guest kernel's console log to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "PROGRAM")]
    pub(super) program: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_may_be_read_only() {
        let parsed = |text: &str| {
            let disk: DiskFile = text.parse().expect("a disk");
            (disk.file.display().to_string(), disk.is_read_only)
        };
        assert_eq!(parsed("a.img"), ("a.img".to_owned(), false));
        assert_eq!(parsed("a.img:ro"), ("a.img".to_owned(), true));
        assert_eq!(parsed("a.img:rw"), ("a.img".to_owned(), false));
        assert_eq!(parsed("a:b"), ("a:b".to_owned(), false));
        assert!(":ro".parse::<DiskFile>().is_err() && "".parse::<DiskFile>().is_err());
    }
}

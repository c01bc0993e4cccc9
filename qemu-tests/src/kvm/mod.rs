//! `nacre run` on KVM, and by QEMU's software emulation: the same commands in a chroot on the host and in a microVM,
//! with the same root file system, must give the same output, errors and exit code.
//!
//! [`scenarios`] are real work, [`terminal`] is job control under a pseudo-terminal, [`disks`] are block devices, and
//! [`pods`] are the commands for pods that run, [`memory`] is what goes back to the host, [`bad_input`] and [`deaths`] are what goes wrong: a sentence, an exit code, nothing left behind.

mod bad_input;
mod deaths;
mod disks;
mod kills;
mod memory;
mod network;
mod pods;
mod process;
mod scenarios;
mod terminal;
mod volumes;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{Report, diff};
use process::Ended;
use scenarios::{Root, Scenario};

/// What runs the microVMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// The host's KVM.
    Kvm,
    /// QEMU, by software emulation.
    Qemu,
}

impl Machine {
    /// As `nacre run` and the tests' names have it.
    fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }

    /// The program of its process.
    fn program(self) -> &'static str {
        match self {
            Self::Kvm => "nacre-vmm",
            Self::Qemu => "nacre-qemu",
        }
    }

    /// Why it cannot be tested here, if so.
    fn why_not(self) -> Option<&'static str> {
        let is_missing = self == Self::Kvm && !Path::new("/dev/kvm").exists();
        is_missing.then_some("/dev/kvm is not there")
    }
}

/// What to test.
#[derive(Debug, Clone)]
pub struct Options {
    /// What runs the microVMs.
    pub machine: Machine,
    /// The `nacre` program; `nacre-vmm` and `nacre-qemu` are beside it.
    pub nacre: PathBuf,
    /// The folder with `kernel.elf` and `initramfs.img`.
    pub image_dir: PathBuf,
    /// A root file system with busybox.
    pub busybox: PathBuf,
    /// A root file system with Debian's bash, coreutils and python3; without it its scenarios
    /// are skipped.
    pub debian: Option<PathBuf>,
    /// A root file system with Node, Java and a Go program; without it its scenarios are skipped.
    pub applications: Option<PathBuf>,
    /// Also what takes long.
    pub full: bool,
    /// A folder for logs.
    pub work_dir: PathBuf,
    /// Only scenarios whose name contains this.
    pub filter: Option<String>,
}

/// The folder, in either root, that scenarios write to. It is new for each run.
const WORK: &str = "work";

/// Mounts what a program expects below `$0`, enters it and runs the rest, with no signal ignored as nohup(1) has it.
const ENTER: &str = "mount -t proc proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" && \
                     exec env --default-signal chroot --groups=0 \"$0\" \"$@\"";

/// Runs the program, and keeps what a shell says of a child that was killed to itself: it says so where
/// the child's stderr goes, unless a subshell has sent that elsewhere.
const WRAPPER: &str = "exec 3>&2 2>/dev/null; cd /work && (exec \"$0\" \"$@\" 2>&3 3>&-); exit $?";

/// Runs everything.
///
/// # Errors
/// When the host's side cannot be set up.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::default();
    fs::create_dir_all(&options.work_dir)?;
    for scenario in scenarios::ALL
        .iter()
        .filter(|scenario| options.wants(scenario.name))
    {
        let name = options.name(scenario.name);
        match options.why_not(scenario) {
            Some(reason) => report.skip(name, reason),
            None => report.note(name, options.compare(scenario)?),
        }
    }
    terminal::run(options, &mut report)?;
    bad_input::run(options, &mut report)?;
    deaths::run(options, &mut report)?;
    disks::run(options, &mut report)?;
    pods::run(options, &mut report)?;
    memory::run(options, &mut report);
    Ok(report)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.filter
            .as_deref()
            .is_none_or(|filter| name.contains(filter))
    }

    /// What a test is called.
    fn name(&self, of: &str) -> String {
        format!("{}/{of}", self.machine.name())
    }

    /// A program that is, or starts, `nacre`.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("NACRE_MACHINE", self.machine.name());
        command
    }

    /// Why the scenario cannot run here, if so.
    fn why_not(&self, scenario: &Scenario) -> Option<&'static str> {
        if let Some(reason) = self.machine.why_not() {
            return Some(reason);
        }
        match (self.root(scenario.root), scenario.root) {
            (_, Root::Applications) if self.machine == Machine::Kvm => {
                Some("its programs ask the CPU what it can do")
            }
            (Some(_), _) => None,
            (None, Root::Applications) => Some("its root is made for `--full`, by root"),
            (None, _) => Some("the Debian root needs root to be made"),
        }
    }

    fn root(&self, root: Root) -> Option<&Path> {
        match root {
            Root::Busybox => Some(&self.busybox),
            Root::Debian => self.debian.as_deref(),
            Root::Applications => self.applications.as_deref(),
        }
    }

    /// Plays the scenario on the host and in a microVM.
    fn compare(&self, scenario: &Scenario) -> anyhow::Result<Result<(), String>> {
        let root = self
            .root(scenario.root)
            .context("the scenario's root is not there")?;
        let host = self.play(scenario, root, on_host(root))?;
        let log = self.work_dir.join(format!(
            "{}.log",
            self.name(scenario.name).replace([' ', '/'], "-")
        ));
        let guest = self.play(scenario, root, self.in_guest(root, &log, scenario))?;
        let difference = diff::lines(&host, &guest);
        if difference.is_empty() {
            return Ok(Ok(()));
        }
        let log = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        Ok(Err(format!("{difference}the guest's log ends:\n{tail}")))
    }

    /// Runs the scenario's program by `command` and describes all that can be seen of it: output,
    /// errors, exit code, and the files it left.
    fn play(
        &self,
        scenario: &Scenario,
        root: &Path,
        mut command: Command,
    ) -> anyhow::Result<Vec<String>> {
        let work = root.join(WORK);
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir(&work)?;
        for (name, text) in scenario.files {
            fs::write(work.join(name), text)?;
        }
        command.args(scenario.program);
        let Ended {
            code,
            stdout,
            stderr,
        } = process::run(command, scenario.stdin.as_bytes())?;
        let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
        lines.extend(stderr.lines().map(|line| format!("stderr: {line}")));
        lines.push(match code {
            Some(code) => format!("exit {code}"),
            None => "no end".to_owned(),
        });
        lines.extend(process::hashes(&work)?);
        fs::remove_dir_all(&work)?;
        Ok(lines)
    }

    /// `nacre run` with the program to be added.
    fn in_guest(&self, root: &Path, log: &Path, scenario: &Scenario) -> Command {
        let mut command = self.command(&self.nacre);
        command
            .arg("run")
            .arg("--rootfs")
            .arg(root)
            .arg("--log")
            .arg(log);
        let cpus = scenario.cpus.to_string();
        command.args(["--cpus", &cpus, "--memory", scenario.memory]);
        command.args(["-i", "--cwd", "/work"]);
        for (name, value) in ENVIRONMENT {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        command.arg("--");
        command
    }
}

/// What programs find in their environment on both sides, PATH apart.
const ENVIRONMENT: [(&str, &str); 2] = [("HOME", "/root"), ("LC_ALL", "C")];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A chroot on the host with the program to be added: namespaces of its own, so that process
/// numbers and mounts are as in a microVM.
fn on_host(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
    ]);
    command.arg(ENTER).arg(root);
    // Under a microVM's agent, a program is not PID 1; a shell in between does the same here.
    command.args(["/bin/sh", "-c", WRAPPER]);
    command.env_clear().env("PATH", PATH).envs(ENVIRONMENT);
    command
}

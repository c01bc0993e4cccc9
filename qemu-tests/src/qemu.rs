//! QEMU as a test machine: its command line, its console, its end.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

/// A kind of machine to test on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// QEMU's `microvm`: virtio-mmio, no PCI; with the plainest CPU model.
    Microvm,
    /// QEMU's `q35`: PCI over ECAM; with every CPU feature that TCG has.
    Q35,
}

/// A machine and its number of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    /// The machine.
    pub machine: Machine,
    /// How many CPUs.
    pub cpus: u32,
}

/// The machines on which the guest programs run.
pub const CONFIGURATIONS: [Configuration; 4] = [
    Configuration {
        machine: Machine::Microvm,
        cpus: 1,
    },
    Configuration {
        machine: Machine::Microvm,
        cpus: 4,
    },
    Configuration {
        machine: Machine::Q35,
        cpus: 1,
    },
    Configuration {
        machine: Machine::Q35,
        cpus: 4,
    },
];

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Microvm => "microvm",
            Self::Q35 => "q35",
        })
    }
}

impl std::fmt::Display for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.machine, self.cpus)
    }
}

/// What to boot, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Boot {
    /// The machine.
    pub configuration: Configuration,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initramfs's file.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// Count instructions as time, so that the TSC counts instructions.
    pub counts_instructions: bool,
    /// More of QEMU's arguments; they may override those above.
    pub extra_arguments: Vec<String>,
    /// The longest time without a line on the console.
    pub silence_limit: Duration,
    /// The longest time of all.
    pub limit: Duration,
}

/// How a machine's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself.
    Exited,
    /// Nothing came for too long, or it took too long; it was killed.
    TimedOut(String),
    /// The caller had seen enough; it was killed.
    Stopped,
}

impl Boot {
    /// Starts the machine and hands each console line to `on_line`, until the machine ends, a
    /// limit is reached or `on_line` returns false. The machine is gone when this returns.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn run(&self, on_line: impl FnMut(&str) -> bool) -> anyhow::Result<End> {
        run(&mut self.command(), self.silence_limit, self.limit, on_line)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args(["-serial", "stdio", "-m", "256M"]);
        command.args(["-smp", &self.configuration.cpus.to_string()]);
        let (machine, cpu) = match self.configuration.machine {
            Machine::Microvm => ("microvm", "qemu64"),
            Machine::Q35 => ("q35", "max"),
        };
        command.args(["-M", machine, "-cpu", cpu, "-accel", "tcg"]);
        if self.counts_instructions {
            command.args(["-icount", "shift=0"]);
        }
        command.args(&self.extra_arguments);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.initramfs);
        command.arg("-append").arg(&self.command_line);
        command
    }
}

/// As [`Boot::run`], with any program that prints a console.
pub(crate) fn run(
    command: &mut Command,
    silence_limit: Duration,
    limit: Duration,
    mut on_line: impl FnMut(&str) -> bool,
) -> anyhow::Result<End> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let lines = read_lines(&mut child)?;
    let start = Instant::now();
    let end = loop {
        let left = limit.saturating_sub(start.elapsed());
        match lines.recv_timeout(silence_limit.min(left)) {
            Ok(line) if on_line(&line) => {}
            Ok(_) => break End::Stopped,
            Err(RecvTimeoutError::Disconnected) => break End::Exited,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = start.elapsed().as_secs();
                break End::TimedOut(format!("no end after {seconds} s"));
            }
        }
    };
    if end != End::Exited {
        child.kill()?;
    }
    child.wait()?;
    Ok(end)
}

/// Reads the child's console in a thread of its own, so that reading can time out.
fn read_lines(child: &mut Child) -> anyhow::Result<mpsc::Receiver<String>> {
    let mut console = BufReader::new(child.stdout.take().context("it has no console")?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        while console
            .read_until(b'\n', &mut line)
            .is_ok_and(|len| len > 0)
        {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
            line.clear();
        }
    });
    Ok(receiver)
}

//! What happens to a running microVM from outside: `nacre run` ends soon, says why, and leaves nothing.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

use super::bad_input::{OWN_FAILURE, gofers_of, judge, nothing_left, qemus, vmms_of};
use super::process::{self, Ended};
use super::{Machine, Options};
use crate::Report;

/// How long an end may take; the longest wait for a guest is 20 s.
const LIMIT: Duration = Duration::from_secs(60);

/// Who is done something to.
#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The process that `nacre` started.
    Vmm,
    /// The process that opens files for it.
    Gofer,
    /// The QEMU of the QEMU machine.
    Qemu,
}

/// What is done to a running microVM, and how `nacre run` must end.
struct Death {
    name: &'static str,
    victim: Victim,
    /// The signal that the victim gets.
    signal: &'static str,
    /// A signal to `nacre` itself.
    to_nacre: Option<&'static str>,
    code: i32,
    /// What stderr must say, in small letters.
    says: &'static str,
}

const fn death(
    name: &'static str,
    victim: Victim,
    signal: &'static str,
    says: &'static str,
) -> Death {
    Death {
        name,
        victim,
        signal,
        to_nacre: None,
        code: OWN_FAILURE,
        says,
    }
}

const DEATHS: &[Death] = &[
    death(
        "VMM killed",
        Victim::Vmm,
        "KILL",
        "the vmm process was killed by signal 9",
    ),
    Death {
        to_nacre: Some("TERM"),
        code: 128 + 15,
        ..death("VMM frozen", Victim::Vmm, "STOP", "to answer signalprocess")
    },
];

/// On KVM. A VMM is the first of its processes, whom only SIGKILL and SIGSTOP reach from outside.
const KVM_DEATHS: &[Death] = &[death(
    "gofer killed",
    Victim::Gofer,
    "KILL",
    "the process that serves the microvm's files was killed by signal 9",
)];

/// On QEMU.
const QEMU_DEATHS: &[Death] = &[
    death(
        "QEMU killed",
        Victim::Qemu,
        "KILL",
        "the vmm process was killed by signal 9",
    ),
    death(
        "QEMU asked to end",
        Victim::Qemu,
        "TERM",
        "ended from outside (host-signal)",
    ),
];

/// Plays all deaths.
pub(super) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let others = match options.machine {
        Machine::Kvm => KVM_DEATHS,
        Machine::Qemu => QEMU_DEATHS,
    };
    let deaths = DEATHS.iter().chain(others);
    for death in deaths.filter(|death| options.wants(death.name)) {
        let name = options.name(&format!("deaths: {}", death.name));
        match options.machine.why_not() {
            None => report.note(name, play(options, death)?),
            Some(reason) => report.skip(name, reason),
        }
    }
    Ok(())
}

fn play(options: &Options, death: &Death) -> anyhow::Result<Result<(), String>> {
    let (mut child, said) = start(options)?;
    let vmms = vmms_of(options);
    let victims = match death.victim {
        Victim::Vmm => vmms,
        Victim::Gofer => gofers_of(options),
        Victim::Qemu => qemus(|parent| vmms.contains(&parent)),
    };
    for victim in &victims {
        kill(death.signal, *victim)?;
    }
    if let Some(signal) = death.to_nacre {
        kill(signal, child.id())?;
    }
    let code = process::wait(&mut child, LIMIT)?;
    let stderr = said.join().unwrap_or_default();
    let ended = Ended {
        code,
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    };
    if victims.is_empty() {
        return Ok(Err(format!("no VMM ran: {ended:?}")));
    }
    Ok(judge(&ended, &[death.code], death.says).and_then(|()| nothing_left(options)))
}

/// Starts a program that waits, and returns once it runs.
fn start(options: &Options) -> anyhow::Result<(Child, JoinHandle<Vec<u8>>)> {
    let mut command = options.command(&options.nacre);
    command.arg("run").arg("--rootfs").arg(&options.busybox);
    command.args(["--", "sh", "-c", "echo running; sleep 600"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let said = process::read_all(child.stderr.take().context("no stderr")?);
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
    Ok((child, said))
}

fn kill(signal: &str, pid: u32) -> anyhow::Result<()> {
    let mut command = Command::new("kill");
    command.arg(format!("-{signal}")).arg(pid.to_string());
    command.status().context("cannot start kill").map(drop)
}

//! What happens to a running microVM from outside: `nacre run` ends soon, says why, and leaves nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

use super::Options;
use super::bad_input::{OWN_FAILURE, gofers_of, judge, nothing_left, vmms_of};
use super::process::{self, Ended};
use crate::Report;

/// How long an end may take; the longest wait for a guest is 20 s.
const LIMIT: Duration = Duration::from_secs(60);

/// What is done to a running microVM, and how `nacre run` must end.
struct Death {
    name: &'static str,
    /// Signals to the VMM, one after the other.
    to_vmm: &'static [&'static str],
    /// Signals to the process that opens files for it.
    to_gofer: &'static [&'static str],
    /// A signal to `nacre` itself.
    to_nacre: Option<&'static str>,
    code: i32,
    /// What stderr must say, in small letters.
    says: &'static str,
}

const DEATHS: &[Death] = &[
    Death {
        name: "VMM killed",
        to_vmm: &["KILL"],
        to_gofer: &[],
        to_nacre: None,
        code: OWN_FAILURE,
        says: "the vmm process was killed by signal 9",
    },
    Death {
        // A VMM is the first of its processes, whom only this signal reaches from outside.
        name: "gofer killed",
        to_vmm: &[],
        to_gofer: &["KILL"],
        to_nacre: None,
        code: OWN_FAILURE,
        says: "the process that serves the microvm's files was killed by signal 9",
    },
    Death {
        name: "VMM frozen",
        to_vmm: &["STOP"],
        to_gofer: &[],
        to_nacre: Some("TERM"),
        code: 128 + 15,
        says: "to answer signalprocess",
    },
];

/// Plays all deaths.
pub(super) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let has_kvm = Path::new("/dev/kvm").exists();
    for death in DEATHS.iter().filter(|death| options.wants(death.name)) {
        let name = format!("kvm/deaths: {}", death.name);
        if has_kvm {
            report.note(name, play(options, death)?);
        } else {
            report.skip(name, "/dev/kvm is not there");
        }
    }
    Ok(())
}

fn play(options: &Options, death: &Death) -> anyhow::Result<Result<(), String>> {
    let (mut child, said) = start(options)?;
    let vmms = vmms_of(options);
    let to_vmm = death.to_vmm.iter().map(|signal| (signal, &vmms));
    let gofers = gofers_of(options);
    let to_gofer = death.to_gofer.iter().map(|signal| (signal, &gofers));
    for (signal, processes) in to_vmm.chain(to_gofer) {
        for process in processes {
            kill(signal, *process)?;
        }
        // A signal that waits while its like is handled would be lost.
        std::thread::sleep(Duration::from_millis(300));
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
    if vmms.is_empty() {
        return Ok(Err(format!("no VMM ran: {ended:?}")));
    }
    Ok(judge(&ended, &[death.code], death.says).and_then(|()| nothing_left(options)))
}

/// Starts a program that waits, and returns once it runs.
fn start(options: &Options) -> anyhow::Result<(Child, JoinHandle<Vec<u8>>)> {
    let mut command = Command::new(&options.nacre);
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

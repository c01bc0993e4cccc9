//! What a program has freed goes back to the host: the memory of a pod before and after one that used much.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::bad_input::{nothing_left, qemus, vmms_of};
use super::{Machine, Options, process};
use crate::Report;

/// What the program uses at least: a little less than its 100 MiB.
const USED_KIB: u64 = 95 << 10;
/// What may be left of it.
const LEFT_KIB: u64 = 5 << 10;
/// How long it may take to go back, on the slowest machine.
const BOUND: Duration = Duration::from_secs(240);

/// A shell that has another program use 100 MiB for each line that it reads.
const SCRIPT: &str = "echo ready; while read line; do \
                      dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo $?; done";

/// Runs the check.
pub(super) fn run(options: &Options, report: &mut Report) {
    let name = "memory: freed";
    if !options.wants(name) {
        return;
    }
    let test = options.name(name);
    if let Some(reason) = options.machine.why_not() {
        report.skip(test, reason);
        return;
    }
    let result = check(options)
        .map_err(|error| format!("{error:#}"))
        .and_then(|()| nothing_left(options));
    report.note(test, result);
}

fn check(options: &Options) -> anyhow::Result<()> {
    let mut command = options.command(&options.nacre);
    command.args(["run", "-i", "--memory", "512M", "--rootfs"]);
    command
        .arg(&options.busybox)
        .args(["--", "sh", "-c", SCRIPT]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start nacre")?;
    let done = watch(options, &mut child);
    // Its input has ended, and so does it; but for a check that failed.
    if done.is_err() {
        child.kill().ok();
    }
    let code = process::wait(&mut child, BOUND)?;
    done?;
    ensure!(code == Some(0), "the pod ends with {code:?}");
    Ok(())
}

fn watch(options: &Options, child: &mut Child) -> anyhow::Result<()> {
    let mut input = child.stdin.take().context("no stdin")?;
    let mut output = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut line = || {
        let mut line = String::new();
        output.read_line(&mut line).map(|_| line)
    };
    ensure!(line()? == "ready\n", "the program does not start");
    let before = Usage::of(options)?;
    input.write_all(b"\n")?;
    let said = line()?;
    ensure!(said == "0\n", "the program says {said:?}");
    let begun = Instant::now();
    loop {
        let now = Usage::of(options)?;
        ensure!(
            now.most >= before.most + USED_KIB,
            "it used no memory: {before:?}, {now:?}"
        );
        if now.now <= before.now + LEFT_KIB {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < BOUND,
            "KiB of guest memory before and after: {before:?}, {now:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What the host has of guest memory, in KiB: what the process that it is of has of it.
#[derive(Debug)]
struct Usage {
    /// Now.
    now: u64,
    /// The most that it was, with the process's own memory.
    most: u64,
}

impl Usage {
    fn of(options: &Options) -> anyhow::Result<Self> {
        let vmms = vmms_of(options);
        let (processes, kind) = match options.machine {
            Machine::Kvm => (vmms, "RssAnon:"),
            Machine::Qemu => (qemus(|parent| vmms.contains(&parent)), "RssShmem:"),
        };
        let [process] = *processes else {
            bail!("processes with guest memory: {processes:?}");
        };
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let figure = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        Ok(Self {
            now: figure(kind).context("no such figure")?,
            most: figure("VmHWM:").context("no such figure")?,
        })
    }
}

//! What is left, and what is said, when one of the processes behind a container is killed.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::daemon::Daemon;
use super::only_nacre::{detach, processes_of, wait_until};

/// Where shims have their sockets.
const SOCKETS: &str = "/run/containerd/s";

/// A shim that is killed while it creates: the client hears of it at once, and nothing is left.
pub(super) fn while_created(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "killed-while-created";
    let before = sockets()?;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let run = scope.spawn(|| detach(daemon, id));
        wait_until("the shim", || Ok(!shims(daemon, id)?.is_empty()))?;
        kill(&shims(daemon, id)?)?;
        let outcome = run
            .join()
            .ok()
            .context("the thread that runs ctr panicked")?;
        ensure!(outcome.is_err(), "ctr run says that all is well");
        Ok(())
    })?;
    ensure!(
        sockets()? == before,
        "a socket is left in {SOCKETS}: {:?}, {before:?} before",
        sockets()?
    );
    let tasks = daemon.ctr(&["task", "list", "--quiet"], None)?.stdout;
    ensure!(tasks.is_empty(), "a task is left: {tasks:?}");
    Ok(())
}

/// A shim that is killed takes its microVM along, and containerd says that the task has ended.
pub(super) fn shim_killed(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "shim-killed";
    let before = sockets()?;
    detach(daemon, id)?;
    let vmm = vmm_of(daemon, id)?;
    kill(&shims(daemon, id)?)?;
    wait_until("the task to go", || {
        let list = daemon.ctr(&["task", "list"], None)?;
        Ok(!String::from_utf8_lossy(&list.stdout).contains("RUNNING"))
    })?;
    wait_until("the VMM to go", || Ok(!fs::exists(format!("/proc/{vmm}"))?))?;
    daemon.ctr(&["task", "delete", "--force", id], None)?;
    daemon.ctr(&["container", "delete", id], None)?;
    wait_until("the socket to go", || Ok(sockets()? == before))
}

/// A VMM that is killed is an end of its container that nobody takes for success, and the log says why.
pub(super) fn vmm_killed(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "vmm-killed";
    detach(daemon, id)?;
    kill(&[vmm_of(daemon, id)?])?;
    wait_until("the task to stop", || {
        let list = daemon.ctr(&["task", "list"], None)?;
        Ok(String::from_utf8_lossy(&list.stdout).contains("STOPPED"))
    })?;
    let exec = daemon.ctr(&["task", "exec", "--exec-id", "e1", id, "/bin/true"], None)?;
    ensure!(!exec.status.success(), "an exec in what is gone succeeds");
    let said = daemon.log();
    ensure!(
        said.lines()
            .any(|line| line.contains("lost process") && line.contains("signal 9")),
        "the log does not say what happened: {}",
        daemon.log_tail()
    );
    let deleted = daemon.ctr(&["task", "delete", id], None)?;
    let said = String::from_utf8_lossy(&deleted.stderr);
    ensure!(
        deleted.status.success() && said.contains("code 255"),
        "task delete says {said:?}"
    );
    Ok(())
}

/// A containerd that is killed finds its tasks again: those that run, and those that ended meanwhile.
pub(super) fn containerd_killed(daemon: &mut Daemon) -> anyhow::Result<()> {
    let id = "containerd-killed";
    detach(daemon, id)?;
    daemon.restart(|| Ok(()))?;
    let list = daemon.ctr(&["task", "list"], None)?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    ensure!(list.contains("RUNNING"), "task list says {list:?}");
    let exec = daemon.ctr(
        &["task", "exec", "--exec-id", "e1", id, "/bin/echo", "here"],
        None,
    )?;
    ensure!(exec.stdout == b"here\n", "the exec says {exec:?}");
    let vmm = vmm_of(daemon, id)?;
    daemon.restart(|| {
        kill(&[vmm])?;
        // The shim cannot tell anybody now.
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    })?;
    wait_until("the task to be known as stopped", || {
        let list = daemon.ctr(&["task", "list"], None)?;
        Ok(String::from_utf8_lossy(&list.stdout).contains("STOPPED"))
    })?;
    let deleted = daemon.ctr(&["task", "delete", id], None)?;
    ensure!(deleted.status.success(), "task delete says {deleted:?}");
    Ok(())
}

fn shims(daemon: &Daemon, id: &str) -> anyhow::Result<Vec<u32>> {
    processes_of(&daemon.bundle(id))
}

/// The pid that stands for a task is its VMM's.
fn vmm_of(daemon: &Daemon, id: &str) -> anyhow::Result<u32> {
    let list = daemon.ctr(&["task", "list"], None)?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let mut words = list.lines().map(str::split_whitespace);
    let pid = words.find_map(|mut words| (words.next() == Some(id)).then(|| words.next())?);
    pid.and_then(|pid| pid.parse().ok())
        .with_context(|| format!("task list names no pid of {id}: {list:?}"))
}

fn kill(pids: &[u32]) -> anyhow::Result<()> {
    ensure!(!pids.is_empty(), "there is nothing to kill");
    for pid in pids {
        let killed = Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()?;
        ensure!(killed.success(), "cannot kill {pid}");
    }
    Ok(())
}

fn sockets() -> anyhow::Result<usize> {
    Ok(fs::read_dir(SOCKETS).map_or(0, Iterator::count))
}

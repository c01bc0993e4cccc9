//! What is left, and what is said, when one of the processes behind a container is killed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Rounds of killing at random, in a usual run and in a full one.
const ROUNDS: [u64; 2] = [3, 30];

/// The shim, its VMM or the process beside that, killed at moments from before the container is there to well after:
/// once containerd has been told to forget it, nothing is left of it.
pub(super) fn at_random(daemon: &Daemon) -> anyhow::Result<()> {
    let before = sockets()?;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let begun = Instant::now();
    detach(daemon, "killed-at-random")?;
    let whole = begun.elapsed();
    daemon.remove("killed-at-random");
    for round in 0..ROUNDS[usize::from(daemon.is_full())] {
        // xorshift: the same moments in each run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let most = u64::try_from(whole.as_millis())? * 5 / 4;
        let moment = Duration::from_millis(random % most.max(1));
        let id = format!("killed-at-random-{round}");
        std::thread::scope(|scope| -> anyhow::Result<()> {
            // Whether it starts depends on the moment.
            let run = scope.spawn(|| drop(detach(daemon, &id)));
            std::thread::sleep(moment);
            kill_one(daemon, &id, round)?;
            ensure!(run.join().is_ok(), "the thread that runs ctr panicked");
            Ok(())
        })?;
        daemon.remove(&id);
        nothing_of(daemon, &id, before).with_context(|| format!("{id}, after {moment:?}"))?;
    }
    Ok(())
}

/// Kills the shim, its VMM or the gofer of that, if there is one yet.
fn kill_one(daemon: &Daemon, id: &str, round: u64) -> anyhow::Result<()> {
    let shims = shims(daemon, id)?;
    let vmms: Vec<u32> = shims.iter().flat_map(|shim| children(*shim)).collect();
    let gofers: Vec<u32> = vmms.iter().flat_map(|vmm| children(*vmm)).collect();
    let victims = match round % 3 {
        0 => shims,
        1 => vmms,
        _ => gofers,
    };
    for victim in victims {
        let mut command = Command::new("kill");
        // One that has ended since is no failure.
        command
            .args(["-9", &victim.to_string()])
            .stderr(Stdio::null());
        command.status()?;
    }
    Ok(())
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let text = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let text: String = text.map(Result::unwrap_or_default).collect();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn nothing_of(daemon: &Daemon, id: &str, sockets_before: usize) -> anyhow::Result<()> {
    wait_until("its processes to end", || Ok(shims(daemon, id)?.is_empty()))?;
    wait_until("its socket to go", || Ok(sockets()? == sockets_before))?;
    let listed = daemon.nacre(&["ps", "-q"])?;
    ensure!(!listed.contains(id), "nacre ps lists {listed:?}");
    let trees = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let trees = trees.map(|tree| tree.path().join("default").join(id));
    let left: Vec<_> = trees.filter(|leaf| leaf.exists()).collect();
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    let bundle = daemon.bundle(id).display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    ensure!(
        !mounts.contains(&bundle),
        "something is mounted in {bundle}"
    );
    Ok(())
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

//! kill -9 of any process of a pod, at any moment, its start among them: nothing of the pod is left, and `nacre ps`
//! tells the truth meanwhile. Once one after the other, many times with `--full`; once with several pods at once.

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::bad_input::{gofers_of, nothing_left, qemus, vmms_of};
use super::pods::{BOUND, Pods};
use super::process;

/// Rounds of the killing, and pods at once, in a usual run and in a full one.
const ROUNDS: [u64; 2] = [6, 300];
const PODS: [usize; 2] = [3, 20];
/// A host that emulates kernel code takes a minute for 20 starts at once, which is as long as a start may take.
const STARTS: usize = 4;
/// The program says that it runs and waits.
const PROGRAM: &str = "echo out; sleep 600";

/// A sequence that looks random and is the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Owner,
    Vmm,
    /// The process beside the VMM: its gofer, or QEMU.
    Helper,
    Client,
}

const VICTIMS: [Victim; 4] = [Victim::Owner, Victim::Vmm, Victim::Helper, Victim::Client];

/// The processes of the microVM that a process started, or of all.
#[derive(Debug, Default)]
struct Processes {
    vmms: Vec<u32>,
    helpers: Vec<u32>,
}

impl Processes {
    fn of_all(pods: &Pods<'_>) -> Self {
        let vmms = vmms_of(pods.options);
        let mut helpers = gofers_of(pods.options);
        helpers.extend(qemus(|parent| vmms.contains(&parent)));
        Self { vmms, helpers }
    }
}

fn kill(pids: &[u32]) -> anyhow::Result<()> {
    for pid in pids {
        let mut command = Command::new("kill");
        // One that has ended since is no failure.
        command.args(["-9", &pid.to_string()]).stderr(Stdio::null());
        command.status()?;
    }
    Ok(())
}

/// Kills one process of a pod after the other, each of another pod.
pub(super) fn one_at_a_time(pods: &Pods<'_>) -> anyhow::Result<()> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let whole = time_to_run(pods)?;
    let rounds = ROUNDS[usize::from(pods.options.full)];
    for round in 0..rounds {
        let victim = VICTIMS[usize::try_from(round % 4)?];
        // Well into the program's time, too.
        let most = u64::try_from(whole.as_millis())? * 5 / 4;
        let moment = Duration::from_millis(random.below(most));
        let killed = kill_once(pods, victim, moment).and_then(|()| pods.is_empty());
        killed
            .and_then(|()| nothing_left(pods.options).map_err(anyhow::Error::msg))
            .with_context(|| format!("round {round}: {victim:?} killed after {moment:?}"))?;
    }
    Ok(())
}

/// How long a pod takes to run its program, on this machine and now.
fn time_to_run(pods: &Pods<'_>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut owner = pods.start(PROGRAM)?;
    let runs = first_line(&mut owner).map(drop);
    let taken = begun.elapsed();
    let leaves = pods.see_leaves();
    owner.kill()?;
    owner.wait()?;
    runs?;
    // As root there is one; from now on each round sees that it has gone, with all that was made for it.
    ensure!(!leaves.is_empty(), "a pod has no cgroup");
    pods.is_empty()?;
    Ok(taken)
}

fn first_line(owner: &mut Child) -> anyhow::Result<BufReader<ChildStdout>> {
    let mut stdout = BufReader::new(owner.stdout.take().context("no stdout")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    if line != "out\n" {
        // It has ended, or is of no use.
        owner.kill()?;
        let mut said = String::new();
        if let Some(mut stderr) = owner.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        bail!("the program says {line:?}, and its owner {said:?}");
    }
    Ok(stdout)
}

fn kill_once(pods: &Pods<'_>, victim: Victim, moment: Duration) -> anyhow::Result<()> {
    let mut owner = pods.start(PROGRAM)?;
    std::thread::sleep(moment);
    let name = pods.name.clone();
    let mut client = pods.command(&["exec", &name, "sleep", "600"]);
    client
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut client = client.spawn()?;
    let processes = Processes::of_all(pods);
    let (pids, ends_the_pod) = match victim {
        Victim::Owner => (vec![owner.id()], true),
        Victim::Vmm => (processes.vmms, true),
        Victim::Helper => (processes.helpers, true),
        Victim::Client => (vec![client.id()], false),
    };
    let killed = kill(&pids);
    // It tells of pods whose owners live, or of none, and does not stumble over what is dying.
    let listed = pods.nacre(&["ps", "-q"]);
    if pids.is_empty() || !ends_the_pod {
        owner.kill()?;
    }
    let end = process::wait(&mut owner, BOUND)?;
    let client = process::wait(&mut client, BOUND)?;
    killed?;
    let listed = listed?;
    ensure!(
        listed.code == Some(0) && listed.stdout.lines().all(|line| line.ends_with(&*name)),
        "ps ends as {listed:?}"
    );
    ensure!(
        end.is_some() && end != Some(0),
        "the owner ends with {end:?}"
    );
    ensure!(
        client.is_some() && client != Some(0),
        "the client ends with {client:?}"
    );
    Ok(())
}

/// A pod that comes to its cgroup's limit of memory is ended by the host's kernel, and its owner says so.
pub(super) fn out_of_memory(pods: &Pods<'_>) -> anyhow::Result<()> {
    let mut owner = pods.start(PROGRAM)?;
    let runs = first_line(&mut owner);
    let limited = runs.and_then(|_| {
        for leaf in pods.see_leaves() {
            limit_to_what_is_used(&leaf)?;
        }
        // Of 256 MiB the guest has 60 to spare, and the host no more than 4.
        let fill = "of=/dev/shm/x";
        pods.nacre(&[
            "exec",
            &pods.name,
            "dd",
            "if=/dev/zero",
            fill,
            "bs=1M",
            "count=60",
        ])
    });
    if limited.is_err() {
        owner.kill()?;
    }
    let end = process::wait(&mut owner, BOUND)?;
    let exec = limited?;
    let mut said = String::new();
    let stderr = owner.stderr.as_mut().context("no stderr")?;
    stderr.read_to_string(&mut said)?;
    ensure!(
        end.is_some() && end != Some(0) && said.contains("the host's out-of-memory killer ended"),
        "the owner ends with {end:?} and says {said:?}; the exec: {exec:?}"
    );
    pods.is_empty()?;
    nothing_left(pods.options).map_err(anyhow::Error::msg)
}

/// Moves the limit of memory, in the tree that has one, to 4 MiB above what is charged, without swap.
fn limit_to_what_is_used(leaf: &Path) -> anyhow::Result<()> {
    for (used, limit, with_swap, in_swap) in [
        (
            "memory.usage_in_bytes",
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            true,
        ),
        ("memory.current", "memory.max", "memory.swap.max", false),
    ] {
        let Ok(used) = fs::read_to_string(leaf.join(used)) else {
            continue;
        };
        let most = used.trim().parse::<u64>()? + (4 << 20);
        fs::write(leaf.join(limit), most.to_string())?;
        let swap = if in_swap { most } else { 0 };
        // A kernel without swap may not have it.
        let _ = fs::write(leaf.join(with_swap), swap.to_string());
    }
    Ok(())
}

/// Several pods at once, of which each loses a process; then those that are left, their owners.
pub(super) fn many_at_once(pods: &Pods<'_>) -> anyhow::Result<()> {
    let count = PODS[usize::from(pods.options.full)];
    let mut owners = Vec::new();
    let checked = lose_some(pods, count, &mut owners);
    for (_, owner, _) in &mut owners {
        // Those that have ended are reaped, too.
        let _ = owner.kill();
        owner.wait()?;
    }
    checked?;
    pods.is_empty()?;
    nothing_left(pods.options).map_err(anyhow::Error::msg)
}

fn start_all(pods: &Pods<'_>, names: &[String], owners: &mut Vec<Owned>) -> anyhow::Result<()> {
    let started = names.iter().map(|name| pods.start_as(name, PROGRAM));
    let started = started.collect::<anyhow::Result<Vec<_>>>()?;
    let mut all_run = Ok(());
    for (name, mut owner) in names.iter().zip(started) {
        match first_line(&mut owner).with_context(|| name.clone()) {
            Ok(stdout) => owners.push((name.clone(), owner, stdout)),
            Err(error) => {
                owner.kill()?;
                owner.wait()?;
                all_run = all_run.and(Err(error));
            }
        }
    }
    all_run
}

type Owned = (String, Child, BufReader<ChildStdout>);

fn lose_some(pods: &Pods<'_>, count: usize, owners: &mut Vec<Owned>) -> anyhow::Result<()> {
    let names: Vec<_> = (0..count)
        .map(|number| format!("{}-{number}", pods.name))
        .collect();
    // All run at once; so many start at once.
    for names in names.chunks(STARTS) {
        start_all(pods, names, owners)?;
    }
    let lists = |expected: &[&str]| -> anyhow::Result<()> {
        let mut expected: Vec<_> = expected
            .iter()
            .map(|name| format!("default/{name}"))
            .collect();
        expected.sort();
        let listed = pods.says(&["ps", "-q"])?;
        let mut listed: Vec<_> = listed.lines().collect();
        listed.sort();
        ensure!(listed == expected, "ps lists {listed:?}, not {expected:?}");
        Ok(())
    };
    lists(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    // Every second one loses its VMM, what is beside that, or its owner.
    let processes = Processes::of_all(pods);
    for (index, (_, owner, _)) in owners.iter_mut().enumerate().skip(1).step_by(2) {
        let own = |pid: &&u32| process::ancestors(**pid).contains(&owner.id());
        let of = |pids: &[u32]| pids.iter().filter(own).copied().collect::<Vec<_>>();
        let pids = match index / 2 % 3 {
            0 => of(&processes.vmms),
            1 => of(&processes.helpers),
            _ => vec![owner.id()],
        };
        ensure!(!pids.is_empty(), "pod {index} has no such process");
        kill(&pids)?;
    }
    let mut left = Vec::new();
    for (index, (name, owner, _)) in owners.iter_mut().enumerate() {
        if index % 2 == 0 {
            left.push(name.as_str());
            continue;
        }
        let end = process::wait(owner, BOUND)?;
        ensure!(end.is_some() && end != Some(0), "{name} ends with {end:?}");
    }
    lists(&left)?;
    for name in left {
        let said = pods.says(&["exec", name, "echo", "here"])?;
        ensure!(said == "here\n", "{name} says {said:?}");
    }
    Ok(())
}

//! kill -9 of any process of a pod, at any moment, its start among them: nothing of the pod is left, and `nacre ps`
//! tells the truth meanwhile. Once one after the other, many times with `--full`; once with several pods at once.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::bad_input::{gofers_of, nothing_left, qemus, vmms_of};
use super::pods::{BOUND, Pods};
use super::process;

/// Rounds of the killing, and pods at once, in a usual run and in a full one.
const ROUNDS: [u64; 2] = [6, 300];
const PODS: [usize; 2] = [3, 20];
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
    ensure!(line == "out\n", "the program says {line:?}");
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

type Owned = (String, Child, BufReader<ChildStdout>);

fn lose_some(pods: &Pods<'_>, count: usize, owners: &mut Vec<Owned>) -> anyhow::Result<()> {
    let names: Vec<_> = (0..count)
        .map(|number| format!("{}-{number}", pods.name))
        .collect();
    let started = names.iter().map(|name| pods.start_as(name, PROGRAM));
    let mut started = started.collect::<anyhow::Result<Vec<_>>>()?;
    for (name, mut owner) in names.iter().zip(started.drain(..)) {
        let stdout = first_line(&mut owner);
        if stdout.is_err() {
            owner.kill()?;
        }
        owners.push((name.clone(), owner, stdout.with_context(|| name.clone())?));
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

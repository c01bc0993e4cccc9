//! Pods that other processes own: `nacre ps`, `exec`, `kill`, `logs`, `stats` and the rest against a `nacre run` that
//! runs, and what is left when any of the processes is killed at any moment.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::bad_input::{OWN_FAILURE, gofers_of, judge, nothing_left, qemus, vmms_of};
use super::process::{self, Ended};
use super::{Machine, Options, kills, network, volumes};
use crate::Report;

/// How long something may take to be seen; only ever waited for in full when it does not come.
pub(super) const BOUND: Duration = Duration::from_secs(120);

/// Takes time without work.
const IDLE: &str = "pods: idle";
/// Not for everybody.
const NETWORK: &str = "pods: network";

type Check = fn(&Pods<'_>) -> anyhow::Result<()>;

const CHECKS: [(&str, Check); 8] = [
    ("pods: all commands", all_commands),
    (IDLE, idle),
    ("pods: killed at any moment", kills::one_at_a_time),
    ("pods: many at once, killed", kills::many_at_once),
    ("pods: out of the host's memory", kills::out_of_memory),
    ("pods: bad state directories", bad_directories),
    ("pods: volumes", volumes::come_and_go),
    (NETWORK, network::reach_and_are_reached),
];

/// Runs the checks.
pub(super) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    for (name, check) in CHECKS.iter().filter(|(name, _)| options.wants(name)) {
        let test = options.name(name);
        if let Some(reason) = options.machine.why_not() {
            report.skip(test, reason);
            continue;
        }
        if *name == IDLE && !(options.full && options.machine == Machine::Kvm) {
            report.skip(test, "it takes most of a minute: on KVM, with `--full`");
            continue;
        }
        if *name == NETWORK && options.debian.is_none() {
            report.skip(test, "it makes network namespaces: by root");
            continue;
        }
        // The suites of two machines may run at once.
        let name = format!("tested-on-{}", options.machine.name());
        let root = options
            .work_dir
            .join(format!("pods-{}", options.machine.name()));
        let pods = Pods {
            options,
            name,
            root,
            leaves: RefCell::default(),
        };
        let done = pods.begin().and_then(|()| check(&pods));
        let left = || nothing_left(options);
        let result = done
            .map_err(|error| format!("{error:#}"))
            .and_then(|()| left());
        report.note(test, result);
    }
    Ok(())
}

/// A state directory of the test's own.
pub(super) struct Pods<'a> {
    pub(super) options: &'a Options,
    /// What a pod is called.
    pub(super) name: String,
    root: PathBuf,
    /// The cgroups that pods were seen to have.
    leaves: RefCell<Vec<PathBuf>>,
}

impl Pods<'_> {
    /// Removes what a check that failed has left, and what it left of cgroups, which only its state names.
    fn begin(&self) -> anyhow::Result<()> {
        if !self.root.exists() {
            return Ok(());
        }
        if self.root.is_dir() {
            self.nacre(&["ps"])?;
            fs::remove_dir_all(&self.root)?;
        } else {
            fs::remove_file(&self.root)?;
        }
        Ok(())
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.options.command(&self.options.nacre);
        command.env("NACRE_STATE_DIR", &self.root).args(words);
        // Several at once on a machine that does other work may take long.
        command.env("NACRE_PATIENCE", "10");
        command
    }

    pub(super) fn nacre(&self, words: &[&str]) -> anyhow::Result<Ended> {
        process::run(self.command(words), b"")
    }

    /// The same, which has to work; its output.
    pub(super) fn says(&self, words: &[&str]) -> anyhow::Result<String> {
        let ended = self.nacre(words)?;
        ensure!(ended.code == Some(0), "nacre {words:?}: {ended:?}");
        Ok(ended.stdout)
    }

    fn refuses(&self, words: &[&str], code: i32, says: &str) -> anyhow::Result<()> {
        let ended = self.nacre(words)?;
        judge(&ended, &[code], says).map_err(|why| anyhow::anyhow!("nacre {words:?}: {why}"))
    }

    /// Starts a pod whose program says something and waits.
    pub(super) fn start(&self, script: &str) -> anyhow::Result<Child> {
        self.start_as(&self.name, script)
    }

    pub(super) fn start_as(&self, name: &str, script: &str) -> anyhow::Result<Child> {
        let rootfs = self.options.busybox.display().to_string();
        let words = [
            "run", "--name", name, "--rootfs", &rootfs, "--", "sh", "-c", script,
        ];
        let mut command = self.command(&words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().context("cannot start nacre")
    }

    /// The cgroups of the pod, as its state names them for who finds it dead.
    pub(super) fn see_leaves(&self) -> Vec<PathBuf> {
        let state = self
            .root
            .join("default")
            .join(&self.name)
            .join("state.json");
        let state = fs::read(state).unwrap_or_default();
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        let leaves = state["cgroup"]["leaves"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let leaves = leaves.iter().filter_map(Value::as_str).map(PathBuf::from);
        let leaves: Vec<_> = leaves.collect();
        self.leaves.borrow_mut().extend(leaves.iter().cloned());
        leaves
    }

    /// All is gone, and `ps` knows it.
    pub(super) fn is_empty(&self) -> anyhow::Result<()> {
        let listed = self.says(&["ps", "-q"])?;
        ensure!(listed.is_empty(), "ps lists {listed:?}");
        let left = fs::read_dir(&self.root).map_or(0, Iterator::count);
        ensure!(
            left == 0,
            "{left} namespaces are left in {}",
            self.root.display()
        );
        for leaf in self.leaves.borrow().iter() {
            // The folders of the namespace and of the state root go with their last pod.
            let kept = leaf.ancestors().take(3).find(|dir| dir.exists());
            ensure!(kept.is_none(), "the cgroup {kept:?} is left");
        }
        Ok(())
    }

    fn wait_for(&self, what: &str, words: &[&str], sees: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let said = self.says(words)?;
            if said.contains(sees) {
                return Ok(());
            }
            ensure!(begun.elapsed() < BOUND, "{what} was not seen: {said:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Says something on both outputs, and ends by itself when it is asked to.
const PROGRAM: &str =
    "trap 'echo asked; exit 7' TERM; echo out; echo err >&2; while :; do sleep 1; done";

fn all_commands(pods: &Pods<'_>) -> anyhow::Result<()> {
    let mut child = pods.start(PROGRAM)?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut line)?;
    ensure!(line == "out\n", "the program says {line:?}");
    let checked = while_it_runs(pods, &mut child);
    // A check that failed has not ended it.
    child.kill().ok();
    child.wait()?;
    checked?;
    pods.is_empty()
}

fn while_it_runs(pods: &Pods<'_>, child: &mut Child) -> anyhow::Result<()> {
    let name = &*pods.name;
    pods.wait_for("the pod", &["ps"], "running")?;
    let listed = pods.says(&["ps", "--format", "json"])?;
    ensure!(
        listed.contains(&format!("\"name\": \"{}\"", pods.name)),
        "ps says {listed:?}"
    );
    let rootfs = pods.options.busybox.display().to_string();
    let again = ["run", "--name", name, "--rootfs", &rootfs, "--", "true"];
    pods.refuses(&again, OWN_FAILURE, "runs already")?;
    execs(pods)?;
    pods.wait_for("its output", &["logs", name], "out\n")?;
    let logged = pods.nacre(&["logs", name])?;
    let outputs = (&*logged.stdout, &*logged.stderr);
    ensure!(outputs == ("out\n", "err\n"), "the log has {logged:?}");
    let last = pods.nacre(&["logs", "--tail", "1", "--since", "1h", name])?;
    let outputs = (&*last.stdout, &*last.stderr);
    ensure!(outputs == ("", "err\n"), "the last line is {last:?}");
    let future = pods.nacre(&["logs", "--since", "2500-01-01", name])?;
    ensure!(future.stdout.is_empty(), "the future has {future:?}");
    let followed = follow(pods, &["logs", "-f", name])?;
    let events = follow(pods, &["events", name])?;
    pods.says(&["pause", name])?;
    pods.wait_for("the pause", &["ps"], "paused")?;
    pods.refuses(&["exec", name, "true"], OWN_FAILURE, "paused")?;
    pods.says(&["resume", name])?;
    pods.wait_for("the end of the pause", &["ps"], "running")?;
    updates(pods)?;
    let stats = pods.says(&["stats", "--format", "json", name])?;
    ensure!(stats.contains("\"fs\":"), "stats says {stats:?}");
    in_its_cgroup(pods, &stats)?;
    let metrics = pods.says(&["stats", "--format", "prometheus"])?;
    for (metric, rest) in [
        ("memory_bytes", "} "),
        ("processes", "} 2\n"),
        ("device_requests_total", ",device=\"fs\"} "),
    ] {
        let line = format!("nacre_pod_{metric}{{namespace=\"default\",pod=\"{name}\"{rest}");
        ensure!(metrics.contains(&line), "no {line:?} in {metrics:?}");
    }
    pods.refuses(&["kill", "nobody"], 1, "no pod nobody")?;
    pods.says(&["kill", "-s", "TERM", name])?;
    let code = process::wait(child, BOUND)?;
    ensure!(code == Some(7), "the pod ends with {code:?}");
    let followed = ended(followed)?;
    ensure!(
        followed.ends_with("asked\n"),
        "who follows the log sees {followed:?}"
    );
    let events = ended(events)?;
    let words: Vec<_> = events
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let words: Vec<_> = words.into_iter().map(|(_, what)| what).collect();
    ensure!(
        words.contains(&"paused") && words.contains(&"exited 7"),
        "the events are {words:?}"
    );
    Ok(())
}

/// A pod whose program sleeps costs memory and no time.
fn idle(pods: &Pods<'_>) -> anyhow::Result<()> {
    let mut child = pods.start("echo out; exec sleep 1000")?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let checked = crate::idle::check(child.id());
    child.kill()?;
    child.wait()?;
    checked?;
    pods.is_empty()
}

/// All processes of the machine are in the pod's cgroup, which has its limits; the owner is not.
fn in_its_cgroup(pods: &Pods<'_>, stats: &str) -> anyhow::Result<()> {
    let leaves = pods.see_leaves();
    ensure!(!leaves.is_empty(), "a pod of root has no cgroup");
    let mut machine = [vmms_of(pods.options), gofers_of(pods.options)].concat();
    machine.extend(qemus(|parent| machine.contains(&parent)));
    machine.sort_unstable();
    for leaf in &leaves {
        let procs = fs::read_to_string(leaf.join("cgroup.procs"))?;
        let mut procs: Vec<u32> = procs.lines().filter_map(|pid| pid.parse().ok()).collect();
        procs.sort_unstable();
        ensure!(
            procs == machine,
            "{} has {procs:?}, not {machine:?}",
            leaf.display()
        );
    }
    let stats: Value = serde_json::from_str(stats)?;
    let cgroup = &stats[0]["cgroup"];
    let number = |name: &str| cgroup[name].as_u64().unwrap_or(0);
    let (used, limit) = (number("memory_bytes"), number("memory_limit_bytes"));
    // 256 MiB of the guest and what the processes take.
    ensure!(used < limit && limit > 256 << 20, "stats says {stats}");
    ensure!(number("processes") > 0, "stats says {stats}");
    Ok(())
}

/// Less memory while it runs, and as much as before; not more than it was started with, and not less than it needs.
fn updates(pods: &Pods<'_>) -> anyhow::Result<()> {
    let name = &*pods.name;
    let total = || {
        let said = pods.says(&["exec", name, "grep", "MemTotal", "/proc/meminfo"])?;
        let kib = said.split_whitespace().nth(1).context("no MemTotal")?;
        Ok::<u64, anyhow::Error>(kib.parse()?)
    };
    let update = |size| ["update", "--memory", size, name];
    let before = total()?;
    pods.says(&update("96M"))?;
    let lower = total()?;
    ensure!(lower == 96 << 10, "of 96 MiB it has {lower} KiB");
    pods.refuses(&update("4G"), 1, "was started with 256 MiB")?;
    pods.refuses(&update("1M"), 1, "at least 32 MiB")?;
    pods.says(&update("256M"))?;
    let after = total()?;
    ensure!(after == before, "it had {before} KiB and has {after}");
    Ok(())
}

fn execs(pods: &Pods<'_>) -> anyhow::Result<()> {
    let name = &*pods.name;
    let words = [
        "exec",
        "-i",
        "-e",
        "A=1",
        name,
        "--",
        "sh",
        "-c",
        "cat; echo $A >&2; exit 3",
    ];
    let ended = process::run(pods.command(&words), b"in\n")?;
    let seen = (ended.code, &*ended.stdout, &*ended.stderr);
    ensure!(
        seen == (Some(3), "in\n", "1\n"),
        "the exec ends as {ended:?}"
    );
    // More than sockets hold, each way.
    let big = vec![b'x'; 3_000_000];
    let ended = process::run(pods.command(&["exec", "-i", name, "cat"]), &big)?;
    ensure!(
        ended.code == Some(0),
        "cat ends with {:?}: {}",
        ended.code,
        ended.stderr
    );
    ensure!(
        ended.stdout.as_bytes() == big,
        "{} bytes came back",
        ended.stdout.len()
    );
    pods.refuses(&["exec", name, "/no/such"], 127, "/no/such")?;
    let detached = pods.says(&[
        "exec",
        "-d",
        name,
        "sh",
        "-c",
        "echo nobody; >/tmp/detached",
    ])?;
    ensure!(detached.is_empty(), "a detached exec says {detached:?}");
    let look = [
        "exec",
        name,
        "sh",
        "-c",
        "test -e /tmp/detached && echo there && rm /tmp/detached || :",
    ];
    pods.wait_for("what a detached exec has made", &look, "there")?;
    pods.refuses(&["exec", "-d", name, "/no/such"], 127, "/no/such")?;
    pods.refuses(&["exec", name, "/etc"], 126, "/etc")?;
    rights(pods)?;
    let killed = pods.nacre(&["exec", name, "sh", "-c", "kill -9 $$"])?;
    ensure!(killed.code == Some(137), "a killed exec ends as {killed:?}");
    let nacre = pods.options.nacre.display();
    let line = format!("{nacre} exec -it {name} -- sh -c 'test -t 0 && echo terminal; exit 4'");
    let mut script = pods.options.command("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env("NACRE_STATE_DIR", &pods.root);
    let ended = process::run(script, b"")?;
    let is_right = ended.code == Some(4) && ended.stdout.contains("terminal");
    ensure!(is_right, "with a terminal: {ended:?}");
    Ok(())
}

/// A container's root makes and opens no device that is not its own.
fn device_rules(pods: &Pods<'_>) -> anyhow::Result<()> {
    let name = &*pods.name;
    // The machine's own terminals: the log, and the console of the agent.
    for number in ["4 64", "229 0", "5 1"] {
        let script = format!("mknod /dev/own c {number} && head -c 1 /dev/own; rm -f /dev/own");
        let opened = pods.nacre(&["exec", name, "sh", "-c", &script])?;
        ensure!(
            opened.stdout.is_empty() && opened.stderr.contains("Operation not permitted"),
            "the device {number}: {opened:?}"
        );
    }
    Ok(())
}

/// What an exec may do and what not.
fn rights(pods: &Pods<'_>) -> anyhow::Result<()> {
    let name = &*pods.name;
    let as_user = pods.says(&[
        "exec",
        "-u",
        "1:2",
        "-w",
        "/etc",
        name,
        "sh",
        "-c",
        "id -u; pwd; echo named >/dev/stdout",
    ])?;
    let expected = "1\n/etc\nnamed\n";
    ensure!(as_user == expected, "as another user: {as_user:?}");
    device_rules(pods)?;
    Ok(())
}

fn follow(pods: &Pods<'_>, words: &[&str]) -> anyhow::Result<Child> {
    let mut command = pods.command(words);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let child = command.spawn()?;
    // Long enough to be connected on most machines; what it then misses is the log's beginning or nothing.
    std::thread::sleep(Duration::from_millis(500));
    Ok(child)
}

fn ended(mut child: Child) -> anyhow::Result<String> {
    let said = process::read_all(child.stdout.take().context("no stdout")?);
    let code = process::wait(&mut child, BOUND)?;
    ensure!(code == Some(0), "who follows ends with {code:?}");
    Ok(String::from_utf8_lossy(&said.join().unwrap_or_default()).into_owned())
}

fn bad_directories(pods: &Pods<'_>) -> anyhow::Result<()> {
    let name = &*pods.name;
    let rootfs = pods.options.busybox.display().to_string();
    let start = ["run", "--name", name, "--rootfs", &rootfs, "--", "true"];
    let dir = pods.root.join("default").join(name);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("lock"), "")?;
    fs::write(dir.join("state.json"), r#"{"version": 7}"#)?;
    pods.refuses(&["ps"], 1, "version 7")?;
    pods.refuses(&start, OWN_FAILURE, "version 7")?;
    ensure!(
        dir.join("state.json").exists(),
        "another version's state is gone"
    );
    fs::remove_dir_all(&pods.root)?;
    fs::write(&pods.root, "a file")?;
    pods.refuses(&start, OWN_FAILURE, "cannot make")?;
    pods.refuses(&["ps"], OWN_FAILURE, "cannot read")?;
    fs::remove_file(&pods.root)?;
    // Room for the folders and the lock, and no more.
    fs::create_dir_all(&pods.root)?;
    let refused = in_small_tmpfs(pods, "nr_inodes=5", "", &start)?;
    judge(&refused, &[OWN_FAILURE], "free some space").map_err(anyhow::Error::msg)?;
    let fill = "dd if=/dev/zero of=\"$NACRE_STATE_DIR/.full\" bs=4k 2>/dev/null;";
    let refused = in_small_tmpfs(pods, "size=16k", fill, &start)?;
    judge(&refused, &[OWN_FAILURE], "free some space").map_err(anyhow::Error::msg)?;
    // One that fills up while the pod runs costs lines of the log, and nothing of the program's.
    let words = ["sh", "-c", "yes | head -c 300000; exit 3"];
    let run = ["run", "--name", name, "--rootfs", &rootfs, "--"];
    let ended = in_small_tmpfs(pods, "size=64k", "", &[&run[..], &words].concat())?;
    judge(&ended, &[3], "will have gaps").map_err(anyhow::Error::msg)?;
    ensure!(
        ended.stdout.len() == 300_000,
        "{} bytes came out",
        ended.stdout.len()
    );
    pods.is_empty()
}

/// Runs `nacre` with its state on a file system of its own, which a script has first.
fn in_small_tmpfs(
    pods: &Pods<'_>,
    options: &str,
    script: &str,
    words: &[&str],
) -> anyhow::Result<Ended> {
    let mount = format!(
        "mount -t tmpfs -o mode=700,{options} none \"$NACRE_STATE_DIR\" && {{ {script} exec \"$0\" \"$@\"; }}"
    );
    let mut command = pods.options.command("unshare");
    command.args(["--mount", "sh", "-c", &mount]);
    command.arg(&pods.options.nacre).args(words);
    command.env("NACRE_STATE_DIR", &pods.root);
    process::run(command, b"")
}

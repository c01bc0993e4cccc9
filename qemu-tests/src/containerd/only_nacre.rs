//! What only Nacre can show: its own kernel, refusals by name, and that nothing stays.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::{NACRE, Options, crashes, image};
use crate::Report;

/// How long leftovers may take to go.
const GONE_BOUND: Duration = Duration::from_secs(20);

type Check = fn(&mut Daemon) -> anyhow::Result<()>;

/// Runs the checks; each names its container as it is named itself.
pub(super) fn run(options: &Options, daemon: &mut Daemon, report: &mut Report) {
    let checks: [(&str, Check); 13] = [
        ("own-kernel", |daemon| own_kernel(daemon)),
        ("states", |daemon| states(daemon)),
        ("seen-by-nacre", |daemon| seen_by_nacre(daemon)),
        ("many-execs", |daemon| many_execs(daemon)),
        ("refusals", |daemon| refusals(daemon)),
        ("default-filter", |daemon| default_filter(daemon)),
        ("dockers-spec", |daemon| dockers_spec(daemon)),
        ("killed-while-created", |daemon| {
            crashes::while_created(daemon)
        }),
        ("shim-killed", |daemon| crashes::shim_killed(daemon)),
        ("vmm-killed", |daemon| crashes::vmm_killed(daemon)),
        ("killed-at-random", |daemon| crashes::at_random(daemon)),
        ("containerd-killed", crashes::containerd_killed),
        ("nothing-left", |daemon| nothing_left(daemon)),
    ];
    for (name, check) in checks.into_iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("==> containerd: {name}");
        let result = check(daemon).map_err(|error| format!("{error:#}\n{}", daemon.log_tail()));
        daemon.remove(name);
        report.note(format_args!("containerd/{name}"), result);
    }
}

fn own_kernel(daemon: &Daemon) -> anyhow::Result<()> {
    let text = run_sh(daemon, "own-kernel", &[], "cat /proc/version")?.0;
    let host = fs::read_to_string("/proc/version").context("cannot read /proc/version")?;
    ensure!(
        text.contains("nacre") && text != host,
        "the guest says {text:?}"
    );
    Ok(())
}

/// `nacre` reaches what containerd has started, and containerd learns of it.
fn seen_by_nacre(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "seen-by-nacre";
    detach(daemon, id)?;
    let listed = daemon.nacre(&["ps"])?;
    let line = listed
        .lines()
        .find(|line| line.contains(id))
        .unwrap_or_default();
    let is_right = line.contains("running") && line.contains("/bin/sleep 1000");
    ensure!(is_right, "nacre ps says {listed:?}");
    let said = daemon.nacre(&["exec", id, "/bin/echo", "here"])?;
    ensure!(said == "here\n", "nacre exec says {said:?}");
    let tasks = || -> anyhow::Result<String> {
        let list = daemon.ctr(&["task", "list"], None)?;
        Ok(String::from_utf8_lossy(&list.stdout).into_owned())
    };
    let metrics = daemon.ctr(&["task", "metrics", id], None)?;
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    let figure = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
    };
    let memory = figure("memory.usage ").unwrap_or(0);
    ensure!(
        memory > 1_000_000 && figure("pids.current ") == Some(1),
        "the task's metrics are {metrics:?}"
    );
    daemon.nacre(&["pause", id])?;
    ensure!(
        tasks()?.contains("PAUSED"),
        "containerd says {:?}",
        tasks()?
    );
    daemon.nacre(&["resume", id])?;
    if daemon.is_full() {
        let listed = daemon.nacre(&["ps", "--format", "json"])?;
        let listed: Value = serde_json::from_str(&listed)?;
        let mut pods = listed.as_array().context("no list")?.iter();
        let pod = pods.find(|pod| pod["name"] == id).context("not listed")?;
        let owner = pod["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        crate::idle::check(owner.context("no pid")?)?;
    }
    daemon.nacre(&["kill", id])?;
    wait_until("the task to stop", || Ok(tasks()?.contains("STOPPED")))?;
    daemon.ctr(&["task", "delete", id], None)?;
    daemon.ctr(&["container", "delete", id], None)?;
    let listed = daemon.nacre(&["ps", "-q"])?;
    ensure!(!listed.contains(id), "nacre ps still says {listed:?}");
    Ok(())
}

fn states(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "states";
    detach(daemon, id)?;
    let shown = |words: &[&str]| -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&daemon.ctr(words, None)?.stdout).into_owned())
    };
    let list = shown(&["task", "list"])?;
    ensure!(list.contains("RUNNING"), "task list says {list:?}");
    let processes = shown(&["task", "ps", id])?;
    ensure!(processes.lines().count() >= 2, "task ps says {processes:?}");
    for (word, state) in [
        ("pause", "PAUSED"),
        ("resume", "RUNNING"),
        ("pause", "PAUSED"),
    ] {
        let done = daemon.ctr(&["task", word, id], None)?;
        let list = shown(&["task", "list"])?;
        ensure!(
            done.status.success() && list.contains(state),
            "after {word} task list says {list:?}"
        );
    }
    // It has figures while it stands still, too: those of the host do not ask the guest.
    let metrics = daemon.ctr(&["task", "metrics", id], None)?;
    let said = String::from_utf8_lossy(&metrics.stdout);
    ensure!(
        metrics.status.success() && said.contains("memory"),
        "task metrics says {said:?} and {:?}",
        String::from_utf8_lossy(&metrics.stderr)
    );
    daemon.ctr(&["task", "kill", "--signal", "SIGKILL", id], None)?;
    wait_until("the task to stop", || {
        Ok(shown(&["task", "list"])?.contains("STOPPED"))
    })?;
    daemon.ctr(&["task", "delete", id], None)?;
    daemon.ctr(&["container", "delete", id], None)?;
    Ok(())
}

/// Processes that are waited for do not keep a further one out.
fn many_execs(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "many-execs";
    detach(daemon, id)?;
    let exec = |flags: &[&str], program: &[&str]| -> anyhow::Result<String> {
        let words = [&["task", "exec"], flags, &[id], program].concat();
        let output = daemon.ctr(&words, None)?;
        ensure!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for number in 0..7 {
        let name = format!("e{number}");
        exec(&["--detach", "--exec-id", &name], &["/bin/sleep", "1000"])?;
    }
    let said = exec(&["--exec-id", "last"], &["/bin/echo", "through"])?;
    ensure!(said == "through\n", "the last exec says {said:?}");
    Ok(())
}

/// Options that are not enforced are refused with their names.
fn refusals(daemon: &Daemon) -> anyhow::Result<()> {
    for (flags, name) in [
        (&["--memory-limit", "1048576"][..], "memory limit"),
        (&["--device", "/dev/zero"], "linux.devices"),
        (&["--net-host"], "host's network namespace"),
        (
            &["--rootfs-propagation", "shared"],
            "linux.rootfsPropagation",
        ),
        (&["--log-uri", "binary:///bin/true"], "binary"),
        (&["--no-pivot"], "task option"),
        (
            &["--with-ns", "network:/proc/1/ns/net"],
            "network namespace",
        ),
    ] {
        let (out, err) = run_sh(daemon, "refusals", flags, "echo ran")?;
        ensure!(
            !out.contains("ran") && err.contains(name),
            "{flags:?} says {err:?}"
        );
    }
    Ok(())
}

/// The filter that containerd (and Docker, whose profile it is) puts before system calls by default holds, for execs, too.
fn default_filter(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "default-filter";
    // A new user namespace is not in the profile, and would take no privileges.
    let script = "b=/bin/busybox; $b grep Seccomp: /proc/self/status; $b unshare -U $b true 2>&1; $b mkdir /tmp/made && echo made";
    let (out, err) = run_sh(daemon, id, &["--seccomp"], script)?;
    let forbidden = out.contains("Operation not permitted");
    ensure!(
        out.starts_with("Seccomp:\t2\n") && forbidden && out.ends_with("made\n"),
        "it says {out:?} and {err:?}"
    );
    let words = ["run", "--detach", "--seccomp", "--runtime", NACRE];
    let run = daemon.ctr(
        &[&words[..], &[image::NAME, id, "/bin/sleep", "1000"]].concat(),
        None,
    )?;
    let err = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "ctr run: {err}");
    let exec = [
        "task",
        "exec",
        "--exec-id",
        "e",
        id,
        "/bin/busybox",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ];
    let said = daemon.ctr(&exec, None)?.stdout;
    ensure!(
        said == b"Seccomp:\t2\n",
        "the exec says {:?}",
        String::from_utf8_lossy(&said)
    );
    daemon.ctr(&["task", "kill", "--signal", "SIGKILL", id], None)?;
    Ok(())
}

/// The specification that Docker writes by default, with a hook in place of Docker's own.
fn dockers_spec(daemon: &Daemon) -> anyhow::Result<()> {
    let id = "dockers-spec";
    let spec = include_str!("../../../host-runtime/oci/tests/specs/docker.json");
    let mut spec: Value = serde_json::from_str(spec)?;
    let told = daemon.files().join("told");
    let script = format!("cat >> {}", told.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    spec["hooks"] = json!({"prestart": hook, "poststart": hook, "poststop": hook});
    spec["root"] = json!({"path": daemon.rootfs(), "readonly": true});
    spec["process"]["args"] = json!(["/bin/sh", "-c", "cat /etc/hosts; echo $$; exit 4"]);
    daemon.make_files()?;
    let mounts = spec["mounts"].as_array_mut().context("mounts")?;
    mounts.retain(|mount| mount["type"] != "bind" || mount["destination"] == "/etc/hosts");
    let hosts = mounts.last_mut().context("a mount")?;
    hosts["source"] = json!(daemon.files().join("file"));
    let file = daemon.files().join("config.json");
    fs::write(&file, spec.to_string())?;
    let file = file.display().to_string();
    let words = ["run", "--rm", "--runtime", NACRE, "--config", &file, id];
    let output = daemon.ctr(&words, None)?;
    let (out, err) = (&output.stdout, &output.stderr);
    let said = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    ensure!(
        output.status.code() == Some(4) && said.0 == "file\n1\n",
        "it ends with {:?} and says {said:?}",
        output.status
    );
    let told = fs::read_to_string(told)?;
    for status in ["creating", "running", "stopped"] {
        let status = format!("\"status\":\"{status}\"");
        ensure!(told.matches(&status).count() == 1, "hooks are told {told}");
    }
    ensure!(
        daemon.log().contains("warning 2 of 2: linux.sysctl.net"),
        "the log does not name what is dropped"
    );
    Ok(())
}

/// After all the tests: no VMM, no shim, no mount below the state folder.
fn nothing_left(daemon: &Daemon) -> anyhow::Result<()> {
    let bundles = daemon.bundle("");
    let state = bundles.display().to_string();
    wait_until("shims and VMMs to end", || {
        Ok(processes_of(&bundles)?.is_empty())
    })?;
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let left: Vec<_> = mounts
        .lines()
        .filter(|line| line.contains(state.trim_end_matches('/')))
        .collect();
    ensure!(left.is_empty(), "left mounted: {left:?}");
    let pods = daemon.nacre(&["ps", "-q"])?;
    let folders = fs::read_dir(daemon.state_dir()).map_or(0, Iterator::count);
    ensure!(
        pods.is_empty() && folders == 0,
        "left in the state directory: {pods:?}, {folders}"
    );
    Ok(())
}

pub(super) fn detach(daemon: &Daemon, id: &str) -> anyhow::Result<()> {
    let output = daemon.ctr(
        &[
            "run",
            "--detach",
            "--runtime",
            NACRE,
            image::NAME,
            id,
            "/bin/sleep",
            "1000",
        ],
        None,
    )?;
    ensure!(
        output.status.success(),
        "ctr run: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// `ctr run --rm` of a shell command line: its output and what was said on stderr.
fn run_sh(
    daemon: &Daemon,
    id: &str,
    flags: &[&str],
    script: &str,
) -> anyhow::Result<(String, String)> {
    let mut words = vec!["run", "--rm", "--runtime", NACRE];
    words.extend(flags);
    words.extend([image::NAME, id, "/bin/sh", "-c", script]);
    let output = daemon.ctr(&words, None)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr)))
}

/// Processes whose working directory is `dir` or below it: a container's shim.
pub(super) fn processes_of(dir: &Path) -> anyhow::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end while we look.
        if fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

pub(super) fn wait_until(
    what: &str,
    done: impl Fn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + GONE_BOUND;
    while !done()? {
        ensure!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            GONE_BOUND.as_secs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

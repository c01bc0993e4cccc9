//! Networks of `nacre run`: a page is served to and from a pod, through `passt` and through a namespace that it was given,
//! and nothing stays. All of it is in network namespaces that are made here and removed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::pods::{BOUND, Pods};
use super::process;

/// What is served outside of pods, and by them.
const OUTSIDE: &str = "of the world";
const INSIDE: &str = "of the pod";
/// The world's address and the pod's, where it has one of its own.
const WORLD: &str = "10.77.0.1";
const POD: &str = "10.77.0.2";
/// Fetches the world's page, and serves one.
const SCRIPT: &str = "wget -q -O - http://10.77.0.1/page && mkdir /dev/shm/www && \
    echo of the pod >/dev/shm/www/page && exec httpd -f -p 80 -h /dev/shm/www";

/// A namespace, removed with whatever runs in it when dropped.
struct Namespace(String);

impl Namespace {
    fn new(pods: &Pods<'_>, name: &str) -> anyhow::Result<Self> {
        let name = format!("nacre-{name}-{}", pods.name);
        // One that a run which was killed has left.
        drop(Self(name.clone()));
        ip(&["netns", "add", &name])?;
        let made = Self(name);
        ip(&["-n", &made.0, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// A program of the busybox root in it.
    fn busybox(&self, pods: &Pods<'_>, words: &[&str]) -> Command {
        let busybox = pods.options.busybox.join("bin/busybox");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(busybox);
        command.args(words);
        command
    }

    /// The processes in it.
    fn processes(&self) -> anyhow::Result<Vec<String>> {
        let said = ip(&["netns", "pids", &self.0])?;
        Ok(said.split_whitespace().map(str::to_owned).collect())
    }

    /// Waits until the page of `host` is there; gives it.
    fn fetch(&self, pods: &Pods<'_>, host: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        let url = format!("http://{host}/page");
        loop {
            let got = process::run(self.busybox(pods, &["wget", "-q", "-O", "-", &url]), b"")?;
            if got.code == Some(0) {
                return Ok(got.stdout.trim().to_owned());
            }
            ensure!(begun.elapsed() < BOUND, "{url} cannot be had: {got:?}");
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for pid in self.processes().unwrap_or_default() {
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
        // One that is not there is as good.
        let _ = ip(&["netns", "del", &self.0]);
    }
}

fn ip(words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ip").args(words).output();
    let output = output.context("iproute2 is not there")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {words:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it.
pub(super) fn reach_and_are_reached(pods: &Pods<'_>) -> anyhow::Result<()> {
    let (near, world) = (
        Namespace::new(pods, "near")?,
        Namespace::new(pods, "world")?,
    );
    ip(&[
        "link", "add", "eth0", "netns", &near.0, "type", "veth", "peer", "name", "eth0", "netns",
        &world.0,
    ])?;
    for (namespace, address) in [(&near, POD), (&world, WORLD)] {
        let address = format!("{address}/24");
        ip(&["-n", &namespace.0, "addr", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &namespace.0, "link", "set", "eth0", "up"])?;
    }
    ip(&["-n", &near.0, "route", "add", "default", "via", WORLD])?;
    let pages = pods.options.work_dir.join(format!("{}-pages", pods.name));
    fs::create_dir_all(&pages)?;
    fs::write(pages.join("page"), format!("{OUTSIDE}\n"))?;
    let folder = pages.display().to_string();
    let address = format!("{WORLD}:80");
    let serve = ["httpd", "-f", "-p", &address, "-h", &folder];
    let mut server = world.busybox(pods, &serve).spawn()?;
    let done = by_passt(pods, &near).and_then(|()| by_namespace(pods, &near, &world));
    // It serves until it is ended.
    let _ = server.kill().and_then(|()| server.wait());
    fs::remove_dir_all(&pages)?;
    done
}

/// A pod whose network is `passt`'s, in this namespace as on a host; killed, it leaves nothing there.
fn by_passt(pods: &Pods<'_>, host: &Namespace) -> anyhow::Result<()> {
    let network = ["--net", "user", "-p", "127.0.0.1:18080:80"];
    let mut pod = start(pods, Some(host), &network)?;
    ensure!(
        host.fetch(pods, "127.0.0.1:18080")? == INSIDE,
        "another page"
    );
    pod.kill()?;
    pod.wait()?;
    let begun = Instant::now();
    while !host.processes()?.is_empty() {
        ensure!(begun.elapsed() < BOUND, "passt is still there");
    }
    Ok(())
}

/// A pod that has the interface of this namespace; ended, it gives that back.
fn by_namespace(pods: &Pods<'_>, near: &Namespace, world: &Namespace) -> anyhow::Result<()> {
    let mut pod = start(pods, None, &["--net", &near.0])?;
    ensure!(world.fetch(pods, POD)? == INSIDE, "another page");
    pods.says(&["kill", "-s", "KILL", &pods.name])?;
    process::wait(&mut pod, process::LIMIT)?;
    let mut tc = Command::new("tc");
    tc.args(["-n", &near.0, "qdisc", "show", "dev", "eth0"]);
    let left = process::run(tc, b"")?.stdout;
    ensure!(!left.contains("ingress"), "filters are left: {left}");
    Ok(())
}

/// Starts a pod that has fetched the world's page when this returns.
fn start(pods: &Pods<'_>, within: Option<&Namespace>, network: &[&str]) -> anyhow::Result<Child> {
    let rootfs = pods.options.busybox.display().to_string();
    let words = [
        &["run", "--name", &pods.name, "--rootfs", &rootfs],
        network,
        &["--", "sh", "-c", SCRIPT],
    ];
    let nacre = pods.command(&words.concat());
    let mut command = match within {
        Some(namespace) => inside(&namespace.0, &nacre),
        None => nacre,
    };
    let log = pods
        .options
        .work_dir
        .join(format!("{}-network.log", pods.name));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log)?);
    let mut pod = command.spawn().context("cannot start nacre")?;
    let mut line = String::new();
    let stdout = pod.stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != OUTSIDE {
        let _ = pod.kill().and_then(|()| pod.wait());
        let said = fs::read_to_string(&log).unwrap_or_default();
        anyhow::bail!("the pod got {line:?} and said: {said}");
    }
    Ok(pod)
}

/// The same command in a namespace: `ip` becomes it, so that its process is the pod's owner.
fn inside(namespace: &str, of: &Command) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command.arg(Path::new(of.get_program())).args(of.get_args());
    let set = of.get_envs();
    command.envs(set.filter_map(|(name, value)| Some((name, value?))));
    command
}

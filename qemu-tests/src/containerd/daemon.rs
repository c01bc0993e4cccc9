//! A containerd of the test's own, with its state in the test's folder, and `ctr` talking to it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::Options;
use super::events::Events;
use super::scenarios::{Scenario, Step};

/// How long containerd may take to start or to stop.
const DAEMON_BOUND: Duration = Duration::from_secs(30);
/// How long a step is tried again that has to work in the end.
const STEP_BOUND: Duration = Duration::from_secs(30);
/// How long one `ctr` command may take; guests boot slowly where KVM emulates.
const CTR_BOUND: Duration = Duration::from_secs(120);

/// A running containerd.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Option<Child>,
    dir: PathBuf,
    options: Options,
}

impl Daemon {
    /// Starts containerd with `bin_dir` first on its PATH, where it looks for shims.
    pub(super) fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = options.work_dir.clone();
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("config.toml"), configuration(&dir))?;
        let mut daemon = Self {
            child: None,
            dir,
            options: options.clone(),
        };
        daemon.spawn()?;
        Ok(daemon)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("containerd.log"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .env("PATH", format!("{}:{path}", self.options.bin_dir.display()))
            // Shims inherit it. The host's own pods may have the same names.
            .env("NACRE_STATE_DIR", self.state_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run containerd")?;
        self.child = Some(child);
        self.wait_ready()
    }

    /// Whether what takes long is tested, too.
    pub(super) fn is_full(&self) -> bool {
        self.options.full
    }

    /// Runs `nacre` for this containerd's pods; it has to succeed.
    pub(super) fn nacre(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(self.options.bin_dir.join("nacre"))
            .args(words)
            .env("NACRE_STATE_DIR", self.state_dir())
            .stdin(Stdio::null())
            .output()
            .context("cannot run nacre")?;
        ensure!(output.status.success(), "nacre {words:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Where the pods have their state directories.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("pods")
    }

    /// Kills containerd, does something while there is none, and starts it again.
    pub(super) fn restart(
        &mut self,
        meanwhile: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("cannot kill containerd")?;
            child.wait().context("cannot kill containerd")?;
        }
        let done = meanwhile();
        self.spawn()?;
        done
    }

    fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + DAEMON_BOUND;
        while Instant::now() < deadline {
            if self.socket().exists() && self.ctr(&["version"], None)?.status.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!(
            "containerd was not ready after {} s:\n{}",
            DAEMON_BOUND.as_secs(),
            self.log_tail()
        )
    }

    pub(super) fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.display().to_string();
        let output = self.ctr(&["image", "import", &archive], None)?;
        ensure!(
            output.status.success(),
            "cannot import {archive}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        super::image::remove(Path::new(&archive)).context("cannot remove the test image")
    }

    /// Plays a scenario and gives what a person would see, with names that do not depend on the runtime.
    pub(super) fn play(&self, runtime: &str, scenario: &Scenario) -> anyhow::Result<Vec<String>> {
        let id = scenario.name;
        self.make_files()?;
        let events = Events::follow(&self.socket())?;
        let mut seen = Vec::new();
        let result = scenario
            .steps
            .iter()
            .try_for_each(|step| self.step(runtime, id, step, &mut seen));
        self.remove(id);
        result?;
        seen.extend(events.finish(id)?);
        Ok(seen)
    }

    fn step(
        &self,
        runtime: &str,
        id: &str,
        step: &Step,
        seen: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let files = self.files().display().to_string();
        let rootfs = self.options.rootfs.display().to_string();
        let words: Vec<String> = step
            .command
            .iter()
            .map(|word| match *word {
                "ID" => id.to_owned(),
                "RUNTIME" => runtime.to_owned(),
                "IMAGE" => super::image::NAME.to_owned(),
                word => word.replace("FILES", &files).replace("ROOTFS", &rootfs),
            })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let deadline = Instant::now() + STEP_BOUND;
        let output = loop {
            let output = if step.terminal {
                self.ctr_on_terminal(&words)?
            } else {
                self.ctr(&words, step.stdin)?
            };
            if !step.until_it_works || output.status.success() || Instant::now() > deadline {
                break output;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let code = output.status.code().unwrap_or(-1);
        seen.push(format!("$ ctr {} -> {code}", step.command.join(" ")));
        if step.shows_output {
            // script(1) sends an end of input, whose echo comes at any time.
            let text = String::from_utf8_lossy(&output.stdout).replace("^@", "");
            seen.extend(
                text.lines()
                    .map(|line| line.trim_end_matches('\r').to_owned()),
            );
            let text = String::from_utf8_lossy(&output.stderr);
            seen.extend(text.lines().map(|line| format!("stderr: {line}")));
        }
        Ok(())
    }

    pub(super) fn rootfs(&self) -> &Path {
        &self.options.rootfs
    }

    /// The folder whose contents scenarios bind.
    pub(super) fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// Makes the files that scenarios bind, anew.
    pub(super) fn make_files(&self) -> anyhow::Result<()> {
        let files = self.files();
        if files.exists() {
            fs::remove_dir_all(&files)?;
        }
        fs::create_dir_all(files.join("dir"))?;
        fs::write(files.join("dir/inside"), "inside\n")?;
        fs::write(files.join("file"), "file\n")?;
        Ok(())
    }

    /// Runs `ctr` on a terminal that script(1) makes.
    fn ctr_on_terminal(&self, words: &[&str]) -> anyhow::Result<Output> {
        let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
        let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let socket = quote(&self.socket().display().to_string());
        let line = format!("ctr --address {socket} {}", quoted.join(" "));
        Command::new("timeout")
            .args(["--signal=KILL", &CTR_BOUND.as_secs().to_string()])
            .args([
                "script",
                "--quiet",
                "--return",
                "--command",
                &line,
                "/dev/null",
            ])
            .stdin(Stdio::null())
            .output()
            .context("cannot run script(1)")
    }

    /// Removes whatever a scenario left, so that a failed one does not spoil the next.
    pub(super) fn remove(&self, id: &str) {
        for words in [
            &["task", "kill", "--signal", "SIGKILL", id][..],
            &["task", "delete", "--force", id],
            &["container", "delete", id],
            &["snapshot", "delete", id],
        ] {
            // Mostly there is nothing to remove.
            let _ = self.ctr(words, None);
        }
    }

    /// Runs `ctr`; it is killed when it takes too long.
    pub(super) fn ctr(&self, words: &[&str], stdin: Option<&str>) -> anyhow::Result<Output> {
        let mut child = Command::new("timeout")
            .args([
                "--signal=KILL",
                &CTR_BOUND.as_secs().to_string(),
                "ctr",
                "--address",
            ])
            .arg(self.socket())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ctr")?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that reads nothing may be gone already.
            let _ = pipe.write_all(stdin.unwrap_or_default().as_bytes());
        }
        let output = child.wait_with_output().context("cannot run ctr")?;
        ensure!(
            output.status.code() != Some(137)
                || !output.stdout.is_empty()
                || !output.stderr.is_empty()
                || words[0] != "run",
            "ctr {} did not end within {} s",
            words.join(" "),
            CTR_BOUND.as_secs()
        );
        Ok(output)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// The folder of a container's bundle.
    pub(super) fn bundle(&self, id: &str) -> PathBuf {
        self.dir
            .join("state/io.containerd.runtime.v2.task/default")
            .join(id)
    }

    /// containerd's log, with what the shims wrote.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("containerd.log")).unwrap_or_default()
    }

    /// The last lines of containerd's log.
    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Stops containerd; its state goes, its log stays.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.end();
        for dir in ["root", "state"] {
            let dir = self.dir.join(dir);
            if dir.exists() {
                fs::remove_dir_all(&dir)
                    .with_context(|| format!("containerd left {} in use", dir.display()))?;
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // SIGTERM first: containerd closes its database.
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let deadline = Instant::now() + DAEMON_BOUND;
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{dir}/c.sock"
[ttrpc]
  address = "{dir}/c.sock.ttrpc"
"#
    )
}

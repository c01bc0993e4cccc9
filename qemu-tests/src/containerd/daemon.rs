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
/// How long one `ctr` command may take; guests boot slowly where KVM emulates.
const CTR_BOUND: Duration = Duration::from_secs(120);

/// A running containerd.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Option<Child>,
    dir: PathBuf,
}

impl Daemon {
    /// Starts containerd with `bin_dir` first on its PATH, where it looks for shims.
    pub(super) fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = options.work_dir.clone();
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let config = dir.join("config.toml");
        fs::write(&config, configuration(&dir))?;
        let log = File::create(dir.join("containerd.log"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .env("PATH", format!("{}:{path}", options.bin_dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run containerd")?;
        let daemon = Self {
            child: Some(child),
            dir,
        };
        daemon.wait_ready()?;
        Ok(daemon)
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
        let words: Vec<&str> = step
            .command
            .iter()
            .map(|word| match *word {
                "ID" => id,
                "RUNTIME" => runtime,
                "IMAGE" => super::image::NAME,
                word => word,
            })
            .collect();
        let output = self.ctr(&words, step.stdin)?;
        let code = output.status.code().unwrap_or(-1);
        seen.push(format!("$ ctr {} -> {code}", step.command.join(" ")));
        if step.shows_output {
            let text = String::from_utf8_lossy(&output.stdout);
            seen.extend(
                text.lines()
                    .map(|line| line.trim_end_matches('\r').to_owned()),
            );
            let text = String::from_utf8_lossy(&output.stderr);
            seen.extend(text.lines().map(|line| format!("stderr: {line}")));
        }
        Ok(())
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

    /// The last lines of containerd's log.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("containerd.log")).unwrap_or_default();
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

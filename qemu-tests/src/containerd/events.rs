//! containerd's events while a scenario is played, without what differs from run to run.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

/// How long after the last command an event may come.
const QUIET: Duration = Duration::from_millis(1500);
/// How long after the event that is a task's last: nothing should come.
const AFTER_LAST: Duration = Duration::from_millis(300);

/// A running `ctr events`.
#[derive(Debug)]
pub(super) struct Events {
    child: Child,
    lines: Receiver<String>,
}

impl Events {
    pub(super) fn follow(socket: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new("ctr")
            .arg("--address")
            .arg(socket)
            .arg("events")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run ctr events")?;
        let stdout = child.stdout.take().context("ctr events has no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        // `ctr` says nothing when it has subscribed; what it missed would show as a difference.
        std::thread::sleep(Duration::from_millis(300));
        Ok(Self { child, lines })
    }

    /// The task events of one container: topic, process, exit status.
    pub(super) fn finish(mut self, id: &str) -> anyhow::Result<Vec<String>> {
        let mut seen = Vec::new();
        let mut quiet = QUIET;
        while let Ok(line) = self.lines.recv_timeout(quiet) {
            let event = describe(&line, id);
            quiet = match &event {
                Some(event) if event.starts_with("event /tasks/delete") => AFTER_LAST,
                // What else there is to tell of: its snapshot and its container go.
                None if quiet == AFTER_LAST => AFTER_LAST,
                _ => QUIET,
            };
            seen.extend(event);
        }
        self.child.kill().context("cannot stop ctr events")?;
        self.child.wait().context("cannot stop ctr events")?;
        Ok(seen)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Already ended when `finish` was called.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `TIME NAMESPACE TOPIC JSON` of a task event of container `id`, as one stable line.
fn describe(line: &str, id: &str) -> Option<String> {
    let topic_at = line.find("/tasks/")?;
    let (topic, json) = line[topic_at..].split_once(' ')?;
    let event: Value = serde_json::from_str(json).ok()?;
    if event["container_id"] != id {
        return None;
    }
    let mut text = format!("event {topic}");
    for field in ["exec_id", "id", "exit_status"] {
        if let Some(value) = event.get(field) {
            text.push_str(&format!(" {field}={value}"));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn keeps_what_does_not_depend_on_the_run() {
        let line = r#"2026-01-02 03:04:05.6 +0000 UTC default /tasks/exit {"container_id":"c","id":"e","pid":7,"exit_status":3}"#;
        assert_eq!(
            describe(line, "c").as_deref(),
            Some(r#"event /tasks/exit id="e" exit_status=3"#)
        );
        assert_eq!(describe(line, "d"), None);
        assert_eq!(describe("2026 default /images/create {}", "c"), None);
    }
}

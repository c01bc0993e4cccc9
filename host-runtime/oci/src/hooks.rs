//! Hooks: programs of the host that are run at points of a container's life.
//!
//! Those that run in the namespaces of the runtime are followed; a hook for the container's namespaces cannot be, and
//! is refused with the other [`fields`](crate::fields). Each gets the container's state on its standard input.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use host_machine::bounds;
use oci_spec::runtime::{Hook as OciHook, Spec};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags};
use serde_json::json;

use crate::OciError;

/// A container's hooks, and what they are told of it.
#[derive(Debug)]
pub struct Hooks {
    oci_version: String,
    id: String,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
    prestart: Vec<OciHook>,
    poststart: Vec<OciHook>,
    poststop: Vec<OciHook>,
}

/// After what a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The program has been started.
    Start,
    /// The container has been deleted.
    Stop,
}

impl Hooks {
    pub(crate) fn new(id: &str, bundle: &Path, spec: &Spec) -> Self {
        let hooks = spec.hooks().clone().unwrap_or_default();
        let list = |list: &Option<Vec<OciHook>>| list.clone().unwrap_or_default();
        // The two names of one point in time, the old one first.
        let prestart = [list(hooks.prestart()), list(hooks.create_runtime())].concat();
        Self {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            prestart,
            poststart: list(hooks.poststart()),
            poststop: list(hooks.poststop()),
        }
    }

    /// Runs what is to run before the program starts, in order; `pid` is the process that stands for the container.
    ///
    /// # Errors
    /// The first hook that fails; the container is not to be started then.
    pub fn before_start(&self, pid: u32) -> Result<(), OciError> {
        let state = self.state("creating", pid);
        self.prestart.iter().try_for_each(|hook| run(hook, &state))
    }

    /// Runs what is to run afterwards: all of it, whatever fails. Gives the failures, which change nothing.
    #[must_use]
    pub fn after(&self, point: After, pid: u32) -> Vec<OciError> {
        let (hooks, status) = match point {
            After::Start => (&self.poststart, "running"),
            After::Stop => (&self.poststop, "stopped"),
        };
        let state = self.state(status, pid);
        let outcomes = hooks.iter().map(|hook| run(hook, &state));
        outcomes.filter_map(Result::err).collect()
    }

    /// The state of the container, as the specification has it.
    fn state(&self, status: &str, pid: u32) -> String {
        let mut state = json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        if status != "stopped" {
            state["pid"] = pid.into();
        }
        state.to_string()
    }
}

fn run(hook: &OciHook, state: &str) -> Result<(), OciError> {
    let path = hook.path();
    let failed = |why: String| OciError::Hook {
        path: path.clone(),
        why,
    };
    if !path.is_absolute() {
        return Err(failed("its path is not absolute".to_owned()));
    }
    let words = hook.args().clone().unwrap_or_default();
    let mut command = Command::new(path);
    if let Some((name, rest)) = words.split_first() {
        command.arg0(name).args(rest);
    }
    let env = hook.env().iter().flatten();
    let bound = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok());
    let bound = bound.filter(|&seconds| seconds > 0);
    let child = input(state).and_then(|input| {
        command
            .env_clear()
            .envs(env.filter_map(|entry| entry.split_once('=')))
            .stdin(input)
            .stdout(Stdio::null())
            .spawn()
    });
    let mut child = child.map_err(|error| failed(format!("it cannot be run: {error}")))?;
    let bound = bound.map_or(bounds::HOOK.get(), Duration::from_secs);
    match end_within(&mut child, bound) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(failed(format!("it ended with {status}"))),
        Ok(None) => Err(failed(format!(
            "it did not end within {} s",
            bound.as_secs()
        ))),
        Err(error) => Err(failed(format!("it cannot be waited for: {error}"))),
    }
}

/// A file and not a pipe: a hook need not read it.
fn input(state: &str) -> std::io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("state", MemfdFlags::CLOEXEC)?);
    file.write_all(state.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Waits for a child and reaps it; `None` for one that had to be killed.
fn end_within(child: &mut Child, bound: Duration) -> std::io::Result<Option<ExitStatus>> {
    let pidfd = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let bound = Timespec::try_from(bound).ok();
    let ended = loop {
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], bound.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ended => break ended?,
        }
    };
    if ended == 0 {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok((ended != 0).then_some(status))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{After, Hooks};

    fn hooks(hooks: &Value) -> Hooks {
        let spec = json!({"ociVersion": "1.0.2", "annotations": {"a": "b"}, "hooks": hooks});
        let spec = serde_json::from_value(spec).expect("a specification");
        Hooks::new("c1", Path::new("/bundle"), &spec)
    }

    fn sh(script: &str) -> Value {
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=1"]})
    }

    #[test]
    fn hooks_are_told_the_state_and_run_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("log");
        let wrapped = |word: &str| {
            let log = file.display();
            sh(&format!("{{ echo {word} $A $HOME; cat; }} >>{log}"))
        };
        let made = hooks(&json!({
            "prestart": [wrapped("one")], "createRuntime": [wrapped("two")], "poststop": [sh("exit 1"), wrapped("three")]
        }));
        made.before_start(7).expect("two hooks");
        let failures = made.after(After::Stop, 7);
        assert_eq!(failures.len(), 1, "{failures:?}");
        let text = std::fs::read_to_string(&file).expect("a log");
        assert!(text.starts_with("one 1\n{"), "{text}");
        assert!(text.contains("two 1") && text.contains("three 1"), "{text}");
        for part in [
            r#""pid":7"#,
            r#""status":"creating""#,
            r#""status":"stopped""#,
            r#""id":"c1""#,
            r#""a":"b""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_hook_that_fails_or_hangs_fails_the_start() {
        let mut slow = sh("exec sleep 1000");
        slow["timeout"] = 1.into();
        for (hook, words) in [
            (sh("exit 3"), "ended with exit status: 3"),
            (slow, "did not end within 1 s"),
            (json!({"path": "/no/such/hook"}), "cannot be run"),
            (json!({"path": "hook"}), "not absolute"),
        ] {
            let said = hooks(&json!({"prestart": [hook, sh("exit 0")]})).before_start(1);
            let said = said.expect_err(words).to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}

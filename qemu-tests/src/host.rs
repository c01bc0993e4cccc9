//! Expectations: the programs run on the host's Linux by the same init, as PID 1 of namespaces of
//! its own, with the same files, read-only, as its root.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::transcript::{Run, Transcript};

/// Makes `$0` read-only, enters it and starts init, with no signal ignored: nohup(1), or a shell that has this run in the
/// background, ignores some, which the programs would inherit.
const ENTER: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && \
                     exec env --default-signal chroot \"$0\" /init";

/// Runs all programs of the tree at `root` and returns what each did, by name.
///
/// # Errors
/// When the host does not let us make namespaces, or a program does not end.
pub fn expectations(root: &Path) -> anyhow::Result<BTreeMap<String, Run>> {
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--net",
            "--fork",
            "--kill-child",
        ])
        .args(["sh", "-c", ENTER])
        .arg(root)
        .env_clear()
        .envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("NACRE_HOST", "1"),
        ])
        .stdin(Stdio::null())
        .output()
        .context("cannot start unshare")?;
    let mut transcript = Transcript::default();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .for_each(|line| transcript.take(line));
    if !transcript.is_done {
        bail!(
            "the test programs did not run on the host (namespaces need root): {}{}",
            String::from_utf8_lossy(&output.stderr),
            transcript.log_tail(10)
        );
    }
    Ok(transcript
        .runs
        .into_iter()
        .map(|run| (run.name.clone(), run))
        .collect())
}

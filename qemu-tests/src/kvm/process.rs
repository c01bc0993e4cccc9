//! Running a program to its end, with a bound, and looking at what it left.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use sha2::{Digest, Sha256};

/// The longest that one program may take. The slowest host emulates kernel code.
pub(super) const LIMIT: Duration = Duration::from_secs(400);

/// A program's end.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code, or 128 and the signal; nothing when it had to be killed.
    pub(super) code: Option<i32>,
    /// What it printed.
    pub(super) stdout: String,
    /// What it complained.
    pub(super) stderr: String,
}

/// Runs `command` with `stdin` as its input.
pub(super) fn run(mut command: Command, stdin: &[u8]) -> anyhow::Result<Ended> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start the program")?;
    let mut input = child.stdin.take().context("no stdin")?;
    let bytes = stdin.to_vec();
    // The program may end before it has read everything; that is not our error.
    thread::spawn(move || drop(input.write_all(&bytes)));
    let stdout = read_all(child.stdout.take().context("no stdout")?);
    let stderr = read_all(child.stderr.take().context("no stderr")?);
    let code = wait(&mut child, LIMIT)?;
    Ok(Ended {
        code,
        stdout: join(stdout),
        stderr: join(stderr),
    })
}

/// Waits for at most `limit`; kills the program and returns nothing when that is not enough.
pub(super) fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt;
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().or(status.signal().map(|signal| 128 + signal)));
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The parents of a process, from the nearest.
pub(super) fn ancestors(pid: u32) -> Vec<u32> {
    let mut ancestors = Vec::new();
    let mut next = parent(pid);
    while let Some(pid) = next.filter(|pid| *pid > 1) {
        ancestors.push(pid);
        next = parent(pid);
    }
    ancestors
}

/// The parent of a process that runs.
pub(super) fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line?.trim().parse().ok()
}

/// Reads all of `source` in a thread of its own.
pub(super) fn read_all(mut source: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth comparing.
        drop(source.read_to_end(&mut bytes));
        bytes
    })
}

fn join(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

/// One line for each file below `dir`, sorted: path, length and SHA-256 of the contents.
pub(super) fn hashes(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    add_hashes(dir, dir, &mut lines)?;
    lines.sort();
    Ok(lines)
}

fn add_hashes(top: &Path, dir: &Path, lines: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let shown = path
            .strip_prefix(top)
            .unwrap_or(&path)
            .display()
            .to_string();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            lines.push(format!("left {shown}/"));
            add_hashes(top, &path, lines)?;
        } else if kind.is_file() {
            let data = fs::read(&path)?;
            let hash: String = Sha256::digest(&data)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            lines.push(format!("left {shown} {} {hash}", data.len()));
        } else if kind.is_symlink() {
            lines.push(format!(
                "left {shown} -> {}",
                fs::read_link(&path)?.display()
            ));
        } else {
            lines.push(format!("left {shown} (special)"));
        }
    }
    Ok(())
}

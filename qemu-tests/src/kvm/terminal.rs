//! Job control under a pseudo-terminal: the same keys typed at the same prompts, to bash in a
//! chroot on the host and in a microVM. `script` gives both a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Options, process};
use crate::{Report, diff};

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is typed, and what must come before the next is typed.
const DIALOGUE: &[(&str, &str)] = &[
    ("PS1='[rea''dy] '\n", "[ready] "),
    (
        "echo $((6 * 7)); test -t 0 && echo terminal\n",
        "terminal\r\n[ready] ",
    ),
    (
        "stty -a | grep -o -w -e 'echo' -e 'icanon' -e 'isig'\n",
        "[ready] ",
    ),
    ("cat\n", "cat\r\n"),
    ("typed\n", "typed\r\ntyped\r\n"),
    ("\u{4}", "[ready] "),
    ("sleep 100\n", "sleep 100\r\n"),
    ("\u{1a}", "[ready] "),
    ("jobs\n", "[ready] "),
    ("bg; sleep 0.2\n", "[ready] "),
    ("jobs\n", "[ready] "),
    ("fg\n", "sleep 100\r\n"),
    ("\u{3}", "[ready] "),
    ("echo $?\n", "[ready] "),
    (
        "((sleep 0.3; echo from the background) & wait)\n",
        "[ready] ",
    ),
    ("stty size; stty rows 40 cols 100; stty size\n", "[ready] "),
    ("trap 'echo interrupted' INT; sleep 50\n", "sleep 50\r\n"),
    ("\u{3}", "[ready] "),
    ("exit 3\n", "exit"),
];

const NAME: &str = "job control";

/// Plays the dialogue on both sides.
pub(super) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    if !options.wants(NAME) {
        return Ok(());
    }
    let name = options.name(NAME);
    let Some(root) = &options.debian else {
        report.skip(name, "the Debian root needs root to be made");
        return Ok(());
    };
    if let Some(reason) = options.machine.why_not() {
        report.skip(name, reason);
        return Ok(());
    }
    let enter = "mount -t proc proc $0/proc; mount --rbind /dev $0/dev; exec chroot $0 $@";
    let bash = "/bin/bash --norc --noediting -i";
    let root = root.display();
    let host = format!(
        "exec unshare --mount --pid --fork --kill-child sh -c '{enter}' {root} /bin/sh -c '{bash}; exit $?'"
    );
    let nacre = options.nacre.display();
    let machine = options.machine.name();
    let log = options.work_dir.join("job-control.log");
    let log = log.display();
    let guest = format!(
        "exec {nacre} run --machine {machine} --rootfs {root} --log {log} -i -t -e LC_ALL=C -e HOME=/root -- {bash}"
    );
    let expected = play(&host)?;
    let actual = play(&guest)?;
    let difference = diff::lines(&expected, &actual);
    report.note(
        name,
        if difference.is_empty() {
            Ok(())
        } else {
            Err(difference)
        },
    );
    Ok(())
}

/// Runs `command_line` under a terminal and returns what was to be seen on it.
fn play(command_line: &str) -> anyhow::Result<Vec<String>> {
    let mut child = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            command_line,
            "/dev/null",
        ])
        .env_clear()
        .envs([
            ("PATH", super::PATH),
            ("TERM", "dumb"),
            ("LC_ALL", "C"),
            ("HOME", "/root"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start script")?;
    let mut keyboard = child.stdin.take().context("no stdin")?;
    let screen = bytes_of(child.stdout.take().context("no stdout")?);
    let mut seen = String::new();
    let mut at = 0;
    // bash's own prompt comes first.
    let first = ("", "# ");
    for (keys, answer) in std::iter::once(&first).chain(DIALOGUE) {
        // Programs that were just started get a moment to reach the terminal.
        let is_control = keys.starts_with(|key: char| key.is_control());
        thread::sleep(Duration::from_millis(if is_control { 3000 } else { 300 }));
        if keyboard.write_all(keys.as_bytes()).is_err() || !wait_for(answer, &screen, &mut seen, at)
        {
            seen.push_str(&format!("\n(no answer to {keys:?})\n"));
            break;
        }
        at = seen.len();
    }
    let code = process::wait(&mut child, PATIENCE)?;
    while let Ok(bytes) = screen.recv_timeout(Duration::from_millis(200)) {
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    // What comes before the first prompt of ours is the host's name and the like.
    let start = seen.find("PS1=").unwrap_or_default();
    let mut lines: Vec<String> = seen[start..]
        .replace('\r', "")
        .lines()
        .map(str::to_owned)
        .collect();
    lines.push(format!("exit {code:?}"));
    Ok(lines)
}

/// Reads until `answer` stands in what came after `at`.
fn wait_for(answer: &str, screen: &Receiver<Vec<u8>>, seen: &mut String, at: usize) -> bool {
    let start = Instant::now();
    while !seen[at..].contains(answer) {
        let left = PATIENCE.saturating_sub(start.elapsed());
        match screen.recv_timeout(left) {
            Ok(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            Err(_) => return false,
        }
    }
    true
}

/// Hands on what `source` gives as it comes.
fn bytes_of(mut source: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = source.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

//! The session of `nacre run` against an agent on this host: stdio, exit codes, signals, terminal.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use agent_protocol::StartProcessRequest;
use cli::RunError;
use cli::session::{HANG_UP_GRACE, LocalStdio, Session, Signal};
use common::{Host, request};
use pod::{Container, PodError};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// A session and the outer ends of its local stdio.
struct Outer {
    session: Session,
    signals: Sender<Signal>,
    forced: std::sync::mpsc::Receiver<u8>,
    stdin: Option<File>,
    stdout: File,
    stderr: File,
}

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (File::from(OwnedFd::from(reader)), writer.into())
}

/// The container of the tests, whose first process is to be this one.
fn container(host: &Host, request: StartProcessRequest) -> Arc<Container> {
    let container = host
        .pod()
        .create_container(&common::container("root"), request);
    container.expect("a container")
}

fn connect(host: &Host, request: StartProcessRequest) -> Result<Outer, RunError> {
    connect_to(pipe(), host, request)
}

/// Connects a session whose output goes to the second of `stdout`.
fn connect_to(
    (stdout, stdout_writer): (File, OwnedFd),
    host: &Host,
    request: StartProcessRequest,
) -> Result<Outer, RunError> {
    let (stdin_reader, stdin_writer) = std::io::pipe().expect("a pipe");
    let (stderr, stderr_writer) = pipe();
    let local = LocalStdio {
        stdin: Some(stdin_reader.into()),
        stdout: stdout_writer,
        stderr: stderr_writer,
    };
    let (signals, receiver) = channel();
    let (force, forced) = channel();
    let force = Arc::new(move |signal| force.send(signal).expect("someone to tell"));
    let container = container(host, request);
    let session = Session::start(&container, local, receiver, force, HANG_UP_GRACE)?;
    let stdin = Some(File::from(OwnedFd::from(stdin_writer)));
    Ok(Outer {
        session,
        signals,
        forced,
        stdin,
        stdout,
        stderr,
    })
}

#[test]
fn stdio_goes_both_ways_and_the_code_comes_back() {
    let host = Host::with_root();
    let script = "read line; echo got $line; cat; echo oops >&2; exit 42";
    let mut outer = connect(&host, request("", &["sh", "-c", script])).expect("runs");
    let mut stdin = outer.stdin.take().expect("stdin");
    stdin.write_all(b"hello\nrest\n").expect("written");
    drop(stdin);
    assert_eq!(outer.session.wait().expect("an exit").status, 42);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    outer.stdout.read_to_string(&mut stdout).expect("stdout");
    outer.stderr.read_to_string(&mut stderr).expect("stderr");
    assert_eq!(
        (stdout.as_str(), stderr.as_str()),
        ("got hello\nrest\n", "oops\n")
    );
}

#[test]
fn output_to_a_closed_pipe_ends_the_program() {
    let host = Host::with_root();
    let script = ["sh", "-c", "while :; do echo y; done"];
    let outer = connect(&host, request("", &script)).expect("runs");
    drop(outer.stdout);
    assert_eq!(outer.session.wait().expect("an exit").status, 128 + 13);
}

/// The run used to succeed although what the program had written was lost.
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let host = Host::with_root();
    let full = || File::options().write(true).open("/dev/full").expect("full");
    let request = request("", &["sh", "-c", "echo lost"]);
    let outer = connect_to((full(), full().into()), &host, request).expect("runs");
    let error = outer.session.wait().expect_err("output is lost");
    assert!(
        matches!(error, RunError::Pod(PodError::Output { .. })),
        "{error}"
    );
    assert_eq!(error.exit_code(), 125);
}

#[test]
fn a_program_may_handle_any_number_of_signals() {
    let host = Host::with_root();
    let script =
        "trap 'echo int' INT; trap 'echo term' TERM; echo go; while :; do sleep 0.02; done";
    let mut outer = connect(&host, request("", &["sh", "-c", script])).expect("runs");
    let mut wait_for = |wanted: &str| {
        let mut text = String::new();
        while !text.contains(wanted) {
            let mut buffer = [0; 64];
            let length = outer.stdout.read(&mut buffer).expect("output");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    wait_for("go");
    for _ in 0..4 {
        for (signal, answer) in [(2, "int"), (15, "term")] {
            outer.signals.send(Signal::Send(signal)).expect("sent");
            wait_for(answer);
        }
    }
    // The fourth of these used to end the microVM.
    assert!(outer.forced.try_recv().is_err());
    host.agent.signal(common::ID, "", 9, false).expect("killed");
    assert_eq!(outer.session.wait().expect("an exit").status, 128 + 9);
}

#[test]
fn a_program_that_is_not_there_has_its_exit_code() {
    let host = Host::with_root();
    let error = connect(&host, request("", &["nope"]))
        .err()
        .expect("refused");
    assert_eq!(error.exit_code(), 127);
    assert_eq!(
        error.to_string(),
        "cannot run \"nope\": no such file or directory"
    );
    let host = Host::with_root();
    let error = connect(&host, request("", &["/bin"]))
        .err()
        .expect("refused");
    assert_eq!(error.exit_code(), 126);
}

#[test]
fn a_lost_agent_is_an_error_at_once() {
    let mut host = Host::with_root();
    let outer = connect(&host, request("", &["sleep", "1000"])).expect("runs");
    host.process.kill().expect("killed");
    let error = outer.session.wait().expect_err("lost");
    assert_eq!(error.exit_code(), 125);
    assert!(
        error
            .to_string()
            .starts_with("lost the connection to the agent"),
        "{error}"
    );
}

#[test]
fn a_terminal_is_passed_through() {
    let host = Host::with_root();
    let (master, slave) = terminal();
    let resize = |rows, columns| {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).expect("a size");
    };
    resize(30, 90);
    let mut asked = request(
        "",
        &[
            "sh",
            "-c",
            "trap 'stty size; exit 6' WINCH; stty size; while :; do sleep 0.02; done",
        ],
    );
    asked.terminal = true;
    let local = on_terminal(&slave);
    let (signals, receiver) = channel();
    let container = container(&host, asked);
    let force = Arc::new(|_| {});
    let session = Session::start(&container, local, receiver, force, HANG_UP_GRACE);
    let session = session.expect("runs");
    let mut master_file = File::from(master.try_clone().expect("a clone"));
    let mut text = String::new();
    let mut read_until = |wanted: &str| {
        while !text.contains(wanted) {
            let mut buffer = [0; 256];
            let length = master_file.read(&mut buffer).expect("output");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    read_until("30 90");
    resize(40, 100);
    signals.send(Signal::WindowChanged).expect("sent");
    read_until("40 100");
    assert_eq!(session.wait().expect("an exit").status, 6);
}

/// Both ends of a new terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::unlockpt(&master).expect("unlocked");
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its other end");
    (master, slave)
}

/// A terminal as the program's three streams.
fn on_terminal(slave: &OwnedFd) -> LocalStdio {
    let clone = || slave.try_clone().expect("a clone");
    LocalStdio {
        stdin: Some(clone()),
        stdout: clone(),
        stderr: clone(),
    }
}

/// A program on a terminal whose other end has gone, and how it ended.
fn hung_up(script: &str, grace: Duration) -> u32 {
    let host = Host::with_root();
    let (master, slave) = terminal();
    let mut asked = request("", &["sh", "-c", script]);
    asked.terminal = true;
    let local = on_terminal(&slave);
    let (_signals, receiver) = channel();
    let container = container(&host, asked);
    let session = Session::start(&container, local, receiver, Arc::new(|_| {}), grace);
    let session = session.expect("runs");
    let mut master = File::from(master);
    let mut text = String::new();
    while !text.contains("ready") {
        let mut buffer = [0; 256];
        let length = master.read(&mut buffer).expect("output");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    drop(master);
    session.wait().expect("an exit").status
}

#[test]
fn a_terminal_that_goes_hangs_up_the_programs_own() {
    let long = Duration::from_secs(120);
    assert_eq!(hung_up("echo ready; sleep 1000", long), 128 + 1);
    let script = "trap 'exit 9' HUP; echo ready; while :; do sleep 0.02; done";
    assert_eq!(hung_up(script, long), 9);
    // Who is told by nothing but the end of its input.
    assert_eq!(
        hung_up(
            "trap '' HUP; echo ready; while read x; do :; done; exit 8",
            long
        ),
        8
    );
}

#[test]
fn a_program_that_ignores_that_its_terminal_has_gone_is_killed() {
    let script = "trap '' HUP TERM; echo ready; while :; do sleep 0.02; done";
    assert_eq!(hung_up(script, Duration::from_millis(100)), 128 + 9);
}

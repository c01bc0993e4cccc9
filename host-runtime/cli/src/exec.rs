//! `nacre exec`: another program in a pod that some process owns, with this process's stdio, terminal and signals.
//!
//! Each direction of stdio is a socket of its own to the pod's process. Threads here move the bytes, pass signals on
//! and wait for the end; the caller's thread waits for the first of an end and a signal that nobody takes.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use agent_protocol::pump;
use host_machine::printing::tell;
use pod::client::{ClientError, PodClient};
use pod::state::StateRoot;
use pod::wire::{ExecRequest, WaitResponse};
use pod::{Broken, Outputs};

use super::RunError;
use super::args::ExecArgs;
use super::control::find;
use super::run::set_variable;
use super::session::{self, Signal};
use super::signals::Caught;
use super::terminal::{self, RawTerminal};

/// What ends the command.
enum End {
    Exited(Result<WaitResponse, ClientError>),
    /// This signal could not even be passed on.
    Insisted(u8),
}

/// Runs the program and gives the code to exit with.
pub(super) fn run(root: &StateRoot, args: &ExecArgs) -> Result<u8, RunError> {
    let stdin = io::stdin();
    if args.tty && args.interactive && !rustix::termios::isatty(&stdin) {
        return Err(RunError::NotATerminal);
    }
    let mut request = request(args)?;
    let pod = Arc::new(find(
        root,
        args.which.namespace.as_deref(),
        &args.which.pod,
    )?);
    if args.detach {
        pod.exec(&request)?;
        return Ok(0);
    }
    let caught = Caught::start()?;
    let terminal_fd = terminal_of(args)?;
    if let Some((rows, columns)) = terminal_fd.as_ref().and_then(terminal::size) {
        (request.rows, request.columns) = (rows.into(), columns.into());
    }
    let input = match args.interactive {
        true => Some(pod.open_stream()?),
        false => None,
    };
    let output = pod.open_stream()?;
    let errors = match args.tty {
        true => None,
        false => Some(pod.open_stream()?),
    };
    request.stdin_token = input.as_ref().map_or(0, |(token, _)| *token);
    request.stdout_token = output.0;
    request.stderr_token = errors.as_ref().map_or(0, |(token, _)| *token);
    // Before the program starts, so that it never sees a half-cooked key.
    let raw = (args.tty && args.interactive)
        .then(|| RawTerminal::enter(&stdin))
        .transpose()
        .map_err(|_| RunError::NotATerminal)?;
    let exec = pod.exec(&request)?;
    let outputs = Outputs::default();
    let (stdout, stderr) = (own(io::stdout())?, own(io::stderr())?);
    outputs.add("stdout", output.1, stdout, Broken::HangUp)?;
    if let Some((_, stream)) = errors {
        outputs.add("stderr", stream, stderr, Broken::HangUp)?;
    }
    if let Some((_, stream)) = input {
        let from = own(&stdin)?;
        thread("stdin", move || copy_in(&from, &stream))?;
    }
    let (ends, end) = channel();
    let passing = Passing {
        pod: Arc::clone(&pod),
        exec: exec.clone(),
        terminal: terminal_fd,
        ends: ends.clone(),
    };
    let signals = caught.forward();
    thread("signals", move || passing.pass_all(signals))?;
    thread("wait", move || {
        // Nobody waits for it any more when the user has insisted.
        let _ = ends.send(End::Exited(pod.wait(&exec)));
    })?;
    let end = end.recv();
    if let Ok(End::Exited(Ok(_))) = &end {
        outputs.wait(session::output())?;
    }
    drop(raw);
    match end {
        Ok(End::Exited(exit)) => code_of(&exit?),
        Ok(End::Insisted(signal)) => Ok(signal.saturating_add(128)),
        // The waiting thread says what it got, whatever that is.
        Err(_) => Err(RunError::LostExec {
            sentence: "the thread that waited for it has ended".to_owned(),
        }),
    }
}

fn code_of(exit: &WaitResponse) -> Result<u8, RunError> {
    match exit.lost.is_empty() {
        true => Ok(u8::try_from(exit.exit_status).unwrap_or(u8::MAX)),
        false => Err(RunError::LostExec {
            sentence: host_machine::printing::printable(&exit.lost),
        }),
    }
}

fn request(args: &ExecArgs) -> Result<ExecRequest, RunError> {
    let mut env = Vec::new();
    if args.tty {
        let kind = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        env.push(format!("TERM={kind}"));
    }
    for given in &args.env {
        set_variable(&mut env, given)?;
    }
    Ok(ExecRequest {
        args: args.program.clone(),
        env,
        cwd: args.cwd.clone(),
        user: args.user.clone(),
        terminal: args.tty,
        ..Default::default()
    })
}

/// The local terminal whose size the program's has: stdin when the program reads it, otherwise wherever output goes.
fn terminal_of(args: &ExecArgs) -> Result<Option<OwnedFd>, RunError> {
    match (args.tty, args.interactive) {
        (false, _) => Ok(None),
        (true, true) => own(io::stdin()).map(Some),
        (true, false) => own(io::stdout()).map(Some),
    }
}

fn own(stream: impl AsFd) -> Result<OwnedFd, RunError> {
    let cloned = stream.as_fd().try_clone_to_owned();
    cloned.map_err(|source| RunError::Host {
        what: "duplicate stdio",
        source,
    })
}

fn copy_in(from: &OwnedFd, to: &UnixStream) {
    // A program that has closed its end has had enough.
    let _ = pump::copy(from, to, |_| {});
    let _ = to.shutdown(Shutdown::Write);
}

fn thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(work);
    spawned.map(drop).map_err(|source| RunError::Host {
        what: "start a thread",
        source,
    })
}

/// What passing signals on takes.
struct Passing {
    pod: Arc<PodClient>,
    exec: String,
    terminal: Option<OwnedFd>,
    ends: Sender<End>,
}

impl Passing {
    fn pass_all(self, signals: Receiver<Signal>) {
        for signal in signals {
            let passed = match signal {
                Signal::WindowChanged => match self.terminal.as_ref().and_then(terminal::size) {
                    Some((rows, columns)) => {
                        self.pod.resize(&self.exec, rows.into(), columns.into())
                    }
                    None => Ok(()),
                },
                Signal::Send(number) => self.pod.kill(&self.exec, number.into()),
            };
            match passed {
                // One that has just ended takes none; its end is on its way.
                Ok(()) | Err(ClientError::Refused { .. }) => {}
                Err(error) => {
                    tell(format_args!("nacre: {error}"));
                    if let Signal::Send(number) = signal {
                        // A pod that does not even take a signal is not going to tell an end.
                        let _ = self.ends.send(End::Insisted(number));
                        return;
                    }
                }
            }
        }
    }
}

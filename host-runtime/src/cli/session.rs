//! One process in the guest, connected with this process's stdio, terminal and signals.
//!
//! A thread moves each direction of stdio, one more passes signals on, and the caller's thread
//! waits for the exit. When local output fails (a closed pipe) the stream is closed, and the
//! program meets a broken pipe of its own. When the program ends, its output is read to the end
//! before anything is reported. Nothing here knows where the agent runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{RunError, terminal};
use crate::agent::protocol::{StartProcessRequest, WindowSize};
use crate::agent::{Agent, AgentError, ProcessExit, StdioStream};
use crate::printing::tell;
use crate::pump;

/// How long output may stay silent after the program has ended, without having ended itself.
const SILENCE_BOUND: Duration = Duration::from_secs(10);
/// How often a silent output looks whether the program has ended.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How many requests to end a program may ignore before the next one ends its microVM.
const PATIENCE: u32 = 3;

/// The local ends of a process's stdio.
#[derive(Debug)]
pub struct LocalStdio {
    /// Read by the program; `None` gives it `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Written by the program, terminal or not.
    pub stdout: OwnedFd,
    /// Written by a program without a terminal.
    pub stderr: OwnedFd,
}

/// What may come in from outside while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Pass this one on.
    Send(u8),
    /// The local terminal has another size.
    WindowChanged,
}

/// Ends the microVM when the program will not.
pub type Force = Box<dyn Fn(u8) + Send>;

/// A started process.
#[derive(Debug)]
pub struct Session {
    agent: Arc<Agent>,
    container: String,
    exec: String,
    outputs: Vec<JoinHandle<Result<(), RunError>>>,
    exited: Arc<AtomicBool>,
}

impl Session {
    /// Opens the streams and starts the process; `request` is complete but for its tokens.
    ///
    /// # Errors
    /// As [`Agent::start_process`], with nothing left running.
    pub fn start(
        agent: &Arc<Agent>,
        mut request: StartProcessRequest,
        local: LocalStdio,
        signals: Receiver<Signal>,
        force: Force,
    ) -> Result<Self, RunError> {
        let terminal_fd = if request.terminal {
            terminal_of(&local)?
        } else {
            None
        };
        if let Some((rows, columns)) = terminal_fd.as_ref().and_then(terminal::size) {
            request.window_size = Some(window_size(rows, columns)).into();
        }
        let stdin = local
            .stdin
            .as_ref()
            .map(|_| agent.open_stream())
            .transpose()?;
        let stdout = agent.open_stream()?;
        let stderr = if request.terminal {
            None
        } else {
            Some(agent.open_stream()?)
        };
        request.stdin_token = stdin.as_ref().map_or(0, |stream| stream.token);
        request.stdout_token = stdout.token;
        request.stderr_token = stderr.as_ref().map_or(0, |stream| stream.token);
        agent.start_process(&request)?;
        let mut session = Self {
            agent: Arc::clone(agent),
            container: request.container_id,
            exec: request.exec_id,
            outputs: Vec::new(),
            exited: Arc::default(),
        };
        if let (Some(from), Some(to)) = (local.stdin, stdin) {
            thread("stdin", move || pump_in(&from, &to))?;
        }
        session.pump_out("stdout", stdout, local.stdout)?;
        if let Some(stderr) = stderr {
            session.pump_out("stderr", stderr, local.stderr)?;
        }
        session.pass_signals(signals, terminal_fd, force)?;
        Ok(session)
    }

    /// Waits for the process's end and for the end of its output.
    ///
    /// # Errors
    /// [`AgentError`] when the guest is lost, [`RunError::OutputStuck`].
    pub fn wait(self) -> Result<ProcessExit, RunError> {
        let exit = self.agent.wait(&self.container, &self.exec);
        self.exited.store(true, Ordering::Release);
        let mut outcome = Ok(());
        for output in self.outputs {
            // A panicked pump has told its reason already.
            let ended = output.join().unwrap_or(Ok(()));
            outcome = outcome.and(ended);
        }
        let exit = exit?;
        outcome.map(|()| exit)
    }

    fn pump_out(
        &mut self,
        name: &'static str,
        from: StdioStream,
        to: OwnedFd,
    ) -> Result<(), RunError> {
        let exited = Arc::clone(&self.exited);
        self.outputs
            .push(thread(name, move || pump_out(&from, &to, &exited))?);
        Ok(())
    }

    fn pass_signals(
        &self,
        signals: Receiver<Signal>,
        terminal_fd: Option<OwnedFd>,
        force: Force,
    ) -> Result<(), RunError> {
        let agent = Arc::clone(&self.agent);
        let (container, exec) = (self.container.clone(), self.exec.clone());
        let exited = Arc::clone(&self.exited);
        let pass = move || {
            let mut asked = 0;
            for signal in signals {
                if exited.load(Ordering::Acquire) {
                    return;
                }
                let passed = match signal {
                    Signal::WindowChanged => match terminal_fd.as_ref().and_then(terminal::size) {
                        Some((rows, columns)) => {
                            agent.resize(&container, &exec, rows.into(), columns.into())
                        }
                        None => Ok(()),
                    },
                    Signal::Send(number) => {
                        asked += u32::from(matches!(number, 2 | 15));
                        if asked > PATIENCE {
                            force(number);
                            return;
                        }
                        agent.signal(&container, &exec, number.into(), false)
                    }
                };
                if let Err(error @ AgentError::NoAnswer { .. }) = passed
                    && !exited.load(Ordering::Acquire)
                {
                    // A guest that does not even take a signal is not going to end.
                    tell(format_args!("nacre: {error}"));
                    if let Signal::Send(number) = signal {
                        force(number);
                        return;
                    }
                }
            }
        };
        thread("signal-passing", pass).map(drop)
    }
}

/// The local terminal: stdin when the program reads it, otherwise wherever output goes.
fn terminal_of(local: &LocalStdio) -> Result<Option<OwnedFd>, RunError> {
    let source = match &local.stdin {
        Some(stdin) if rustix::termios::isatty(stdin) => stdin,
        Some(_) => return Err(RunError::NotATerminal),
        None => &local.stdout,
    };
    source
        .try_clone()
        .map(Some)
        .map_err(|source| RunError::Terminal { source })
}

fn window_size(rows: u16, columns: u16) -> WindowSize {
    WindowSize {
        rows: rows.into(),
        columns: columns.into(),
        ..Default::default()
    }
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map_err(|source| RunError::Host {
        what: "start a thread",
        source,
    })
}

/// Moves local input to the guest; its end becomes the program's.
fn pump_in(from: &OwnedFd, to: &StdioStream) {
    if pump::copy(from, &to.stream).is_ok() {
        // The program may have gone before its input ended.
        let _ = to.stream.shutdown(std::net::Shutdown::Write);
    }
}

/// What a local output that takes no more means: a reader that has gone wants nothing, but anything
/// else loses what the program may think it has written.
fn refused(errno: Errno) -> Result<(), RunError> {
    match errno {
        Errno::PIPE => Ok(()),
        errno => Err(RunError::Output {
            source: errno.into(),
        }),
    }
}

/// Moves the guest's output here, to its end.
fn pump_out(from: &StdioStream, to: &OwnedFd, exited: &AtomicBool) -> Result<(), RunError> {
    let mut buffer = vec![0; pump::CHUNK];
    let mut silent_since: Option<Instant> = None;
    loop {
        let mut ready = [PollFd::new(&from.stream, PollFlags::IN)];
        match rustix::event::poll(&mut ready, Some(&LOOK)) {
            Ok(0) if exited.load(Ordering::Acquire) => {
                let since = *silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SILENCE_BOUND {
                    return Err(RunError::OutputStuck {
                        waited: SILENCE_BOUND,
                    });
                }
                continue;
            }
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => silent_since = None,
            Err(_) => return Ok(()),
        }
        match rustix::io::read(&from.stream, &mut buffer[..]) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                if let Err(errno) = pump::write_all(to, &buffer[..length]) {
                    // Nobody takes this any more; the program is to learn of it.
                    let _ = from.stream.shutdown(std::net::Shutdown::Both);
                    return refused(errno);
                }
            }
            Err(Errno::INTR) => {}
            // How the stream ends when the guest does.
            Err(_) => return Ok(()),
        }
    }
}

//! The first process of a container, connected with this process's stdio, terminal and signals.
//!
//! The pod moves the bytes; a thread here passes signals on, one looks whether the local terminal is still there
//! ([`hang_up`](super::hang_up)), and the caller's thread waits for the exit. When
//! local output fails (a closed pipe) the program meets a broken pipe of its own. When the program ends, its
//! output is read to the end before anything is reported. Nothing here knows where the agent runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use host_machine::bounds;
use host_machine::printing::tell;
use pod::{AgentError, Broken, Container, Ends, Exit, Patience, PodError, Process, Stage};

use super::hang_up::{Bell, Watch, has_hung_up};
use super::{RunError, terminal};

/// How long output may stay silent after the program has ended, without having ended itself.
pub(super) fn output() -> Patience {
    Patience {
        silence: bounds::OUTPUT.get(),
        most: Duration::MAX,
    }
}
/// How long a program may go on once its terminal has gone, as long as `docker stop` gives one.
pub const HANG_UP_GRACE: Duration = Duration::from_secs(10);
const SIGHUP: u8 = 1;
const SIGKILL: u32 = 9;

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

/// Ends the microVM when the guest does not even take a signal any more.
pub type Force = Arc<dyn Fn(u8) + Send + Sync>;

/// A started process.
#[derive(Debug)]
pub struct Session {
    process: Arc<Process>,
    /// The local terminal, if the process has one.
    terminal: Option<Arc<OwnedFd>>,
    /// Ends the watch of it when dropped.
    _watch: Option<Watch>,
}

impl Session {
    /// Starts the first process of `container`; `grace` is how long it may go on once the local terminal has gone.
    ///
    /// # Errors
    /// As [`Container::start`], with nothing left running.
    pub fn start(
        container: &Arc<Container>,
        local: LocalStdio,
        signals: Receiver<Signal>,
        force: Force,
        grace: Duration,
    ) -> Result<Self, RunError> {
        let process = container.process("")?;
        let terminal_fd = if process.request().terminal {
            terminal_of(&local)?
        } else {
            None
        };
        let size = terminal_fd.as_ref().and_then(terminal::size);
        let ends = Ends {
            stdin: local.stdin,
            stdout: Some(local.stdout),
            stderr: Some(local.stderr),
            broken: Broken::HangUp,
            window: size.map(|(rows, columns)| (rows.into(), columns.into())),
        };
        container.start("", ends)?;
        let terminal_fd = terminal_fd.map(Arc::new);
        let watched = terminal_fd
            .clone()
            .filter(|terminal| rustix::termios::isatty(terminal));
        let watch = watched
            .map(|terminal| {
                let end = end_after(grace, container, &process, &force);
                Watch::start(terminal, end)
            })
            .transpose()?;
        let passing = Passing {
            container: Arc::clone(container),
            process: Arc::clone(&process),
            terminal: terminal_fd.clone(),
            bell: watch.as_ref().map(Watch::bell).transpose()?,
            force,
        };
        let thread = std::thread::Builder::new().name("signal-passing".to_owned());
        let spawned = thread.spawn(move || passing.pass_all(signals));
        spawned.map_err(|source| RunError::Host {
            what: "start a thread",
            source,
        })?;
        Ok(Self {
            process,
            terminal: terminal_fd,
            _watch: watch,
        })
    }

    /// Waits for the process's end and for the end of its output.
    ///
    /// # Errors
    /// [`RunError::Lost`] when the guest is lost, and when output is.
    pub fn wait(self) -> Result<Exit, RunError> {
        let exit = self.process.wait();
        let outputs = self.process.wait_outputs(output());
        if let Some(lost) = exit.lost {
            return Err(lost.into());
        }
        // What was for a terminal that has gone is nobody's loss.
        if !self.terminal.is_some_and(has_hung_up) {
            outputs?;
        }
        Ok(exit)
    }
}

/// What passing signals on takes.
struct Passing {
    container: Arc<Container>,
    process: Arc<Process>,
    terminal: Option<Arc<OwnedFd>>,
    bell: Option<Bell>,
    force: Force,
}

impl Passing {
    /// Passes signals on until the program ends. What it does with them is its own affair.
    fn pass_all(self, signals: Receiver<Signal>) {
        for signal in signals {
            if self.is_over() {
                return;
            }
            let passed = match signal {
                Signal::WindowChanged => match self.terminal.as_ref().and_then(terminal::size) {
                    Some((rows, columns)) => self.container.resize("", rows.into(), columns.into()),
                    None => Ok(()),
                },
                Signal::Send(number) => {
                    if let (SIGHUP, Some(bell)) = (number, &self.bell) {
                        bell.ring();
                    }
                    self.container.signal("", number.into())
                }
            };
            if let Err(error @ PodError::Agent(AgentError::NoAnswer { .. })) = passed
                && !self.is_over()
            {
                // A guest that does not even take a signal is not going to end.
                tell(format_args!("nacre: {error}"));
                if let Signal::Send(number) = signal {
                    (self.force)(number);
                    return;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.process.stage(), Stage::Stopped(_))
    }
}

/// What ends a program whose terminal has gone: its own terminal hangs up; who ignores that is killed after `grace`, with
/// the microVM if nothing else helps.
fn end_after(
    grace: Duration,
    container: &Arc<Container>,
    process: &Arc<Process>,
    force: &Force,
) -> impl FnOnce() + Send + 'static {
    let (container, process) = (Arc::clone(container), Arc::clone(process));
    let force = Arc::clone(force);
    let has_ended = move |process: &Process| {
        process.wait_within(grace);
        matches!(process.stage(), Stage::Stopped(_))
    };
    move || {
        process.hang_up();
        if has_ended(&process) {
            return;
        }
        // The kill's own answer comes with the end or not at all.
        let _ = container.kill("", SIGKILL, true);
        if !has_ended(&process) {
            force(SIGHUP);
        }
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

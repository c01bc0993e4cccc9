//! The first process of a container, connected with this process's stdio, terminal and signals.
//!
//! The pod moves the bytes; a thread here passes signals on, and the caller's thread waits for the exit. When
//! local output fails (a closed pipe) the program meets a broken pipe of its own. When the program ends, its
//! output is read to the end before anything is reported. Nothing here knows where the agent runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use host_machine::printing::tell;
use pod::{AgentError, Broken, Container, Ends, Exit, Patience, PodError, Process, Stage};

use super::{RunError, terminal};

/// How long output may stay silent after the program has ended, without having ended itself.
const OUTPUT: Patience = Patience {
    silence: Duration::from_secs(10),
    most: Duration::MAX,
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
    process: Arc<Process>,
}

impl Session {
    /// Starts the first process of `container`.
    ///
    /// # Errors
    /// As [`Container::start`], with nothing left running.
    pub fn start(
        container: &Arc<Container>,
        local: LocalStdio,
        signals: Receiver<Signal>,
        force: Force,
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
        let passing = Passing {
            container: Arc::clone(container),
            process: Arc::clone(&process),
            terminal: terminal_fd,
            force,
        };
        let thread = std::thread::Builder::new().name("signal-passing".to_owned());
        let spawned = thread.spawn(move || passing.pass_all(signals));
        spawned.map_err(|source| RunError::Host {
            what: "start a thread",
            source,
        })?;
        Ok(Self { process })
    }

    /// Waits for the process's end and for the end of its output.
    ///
    /// # Errors
    /// [`RunError::Lost`] when the guest is lost, and when output is.
    pub fn wait(self) -> Result<Exit, RunError> {
        let exit = self.process.wait();
        let outputs = self.process.wait_outputs(OUTPUT);
        if let Some(lost) = exit.lost {
            return Err(lost.into());
        }
        outputs?;
        Ok(exit)
    }
}

/// What passing signals on takes.
struct Passing {
    container: Arc<Container>,
    process: Arc<Process>,
    terminal: Option<OwnedFd>,
    force: Force,
}

impl Passing {
    /// Passes signals on until the program ends, or is made to.
    fn pass_all(self, signals: Receiver<Signal>) {
        let mut asked = 0;
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
                    asked += u32::from(matches!(number, 2 | 15));
                    if asked > PATIENCE {
                        (self.force)(number);
                        return;
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

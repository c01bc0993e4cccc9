//! Why `nacre run` ended otherwise than by the program's own exit.

use std::io;
use std::path::PathBuf;

use agent_protocol::FailureKind;
use agent_protocol::root::Unrunnable;
use agent_protocol::users::Unknown;
use host_machine::MachineError;
use host_machine::printing::said;
use image::boot::{BadArchive, ImagesNotFound};
use pod::client::ClientError;
use pod::state::StateError;
use pod::{Lost, PodError};

use super::OWN_FAILURE;

/// What a shell exits with for a program that is not there.
const NOT_FOUND: u8 = 127;

/// A failure of `nacre run`. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The root file system cannot be used.
    #[error("cannot use the root file system {}: {}", path.display(), said(.source))]
    Rootfs {
        /// As given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The root file system is something else.
    #[error("the root file system {} is not a directory", path.display())]
    NotADirectory {
        /// As given.
        path: PathBuf,
    },
    /// No kernel or archive.
    #[error(transparent)]
    Images(#[from] ImagesNotFound),
    /// The archive is of no use.
    #[error(transparent)]
    Archive(#[from] BadArchive),
    /// A variable without a name.
    #[error("the variable {given:?} has no name; write NAME=VALUE")]
    Variable {
        /// As given.
        given: String,
    },
    /// The network cannot be had.
    #[error(transparent)]
    Net(#[from] host_net::NetError),
    /// A port of a network that has none.
    #[error("the port {port} can only be published with --net user")]
    Publish {
        /// As given.
        port: host_net::Forward,
    },
    /// Nobody of that name is in the root file system.
    #[error("{0}")]
    User(Unknown),
    /// The working directory is something else.
    #[error("the working directory \"{path}\" is not a directory")]
    Cwd {
        /// As given.
        path: String,
    },
    /// The working directory depends on another.
    #[error("the working directory \"{path}\" is not absolute")]
    RelativeCwd {
        /// As given.
        path: String,
    },
    /// The program is not in the root file system, or cannot run there.
    #[error("cannot run \"{program}\": {why}")]
    Program {
        /// As given.
        program: String,
        /// What is missing.
        why: Unrunnable,
    },
    /// `-t` without a terminal.
    #[error("stdin is not a terminal; leave out -t, or -i")]
    NotATerminal,
    /// The terminal could not be set up.
    #[error("cannot set up the terminal: {}", said(.source))]
    Terminal {
        /// The system's answer.
        source: io::Error,
    },
    /// Signals or threads could not be set up.
    #[error("cannot {what}: {}", said(.source))]
    Host {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The pod has no name, or no place for its state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A running pod did not do what it was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody knows how a program in it ended.
    #[error("lost the program: {sentence}")]
    LostExec {
        /// Why.
        sentence: String,
    },
    /// A list could not be printed.
    #[error("cannot print: {}", said(.source))]
    Print {
        /// The system's answer.
        source: io::Error,
    },
    /// The microVM could not be started.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The pod refused, or was lost.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// Nobody knows how the program ended.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The user insisted.
    #[error("ended the microVM because of signal {signal}")]
    Interrupted {
        /// The signal.
        signal: u8,
    },
}

impl RunError {
    /// What the command line exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pod(PodError::Agent(error)) => error.exit_code(),
            Self::Client(error) => match error.kind() {
                Some(FailureKind::FAILURE_KIND_PROGRAM_NOT_FOUND) => 127,
                Some(FailureKind::FAILURE_KIND_PROGRAM_NOT_EXECUTABLE) => 126,
                _ => OWN_FAILURE,
            },
            Self::Program { .. } => NOT_FOUND,
            Self::Interrupted { signal } => signal.saturating_add(128),
            _ => OWN_FAILURE,
        }
    }
}

//! What can go wrong in a pod, each as one sentence.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use host_machine::printing::said;
use host_machine::{ExitReason, MachineError};

use crate::agent::AgentError;

/// Why a pod did not do what it was asked. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The machine could not be started or reached.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The agent refused or was not reached.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The microVM ended under its containers.
    #[error("the microVM ended before the program did: {reason}")]
    Ended {
        /// How.
        reason: ExitReason,
    },
    /// It did not power off in order.
    #[error("the microVM did not power off in order: {reason}")]
    Disorderly {
        /// How it ended instead.
        reason: ExitReason,
    },
    /// It did not power off at all.
    #[error("waited {} s for the microVM to power off, ended it{}", .waited.as_secs(), because(.asked))]
    NoPowerOff {
        /// For how long was waited.
        waited: Duration,
        /// Why the agent could not even be asked.
        asked: Option<AgentError>,
    },
    /// No such process.
    #[error("{what}")]
    NotFound {
        /// What is missing.
        what: String,
    },
    /// It exists already.
    #[error("{what} already exists")]
    Exists {
        /// What.
        what: String,
    },
    /// Not in this state.
    #[error("{what}")]
    State {
        /// What is in the way.
        what: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for {what}: {}", said(.source))]
    Thread {
        /// What it was for.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A socket in the state directory could not be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A process has ended and its output has not.
    #[error("waited {} s for the rest of the program's output", .waited.as_secs())]
    OutputStuck {
        /// For how long was waited.
        waited: Duration,
    },
    /// Its output could not be passed on.
    #[error("cannot write the program's output: {}", said(.source))]
    Output {
        /// The system's answer.
        source: io::Error,
    },
}

impl PodError {
    /// Whether nothing of the guest has run, and another kind of machine may run it.
    #[must_use]
    pub fn is_of_unfit_kvm(&self) -> bool {
        let reason = match self {
            Self::Ended { reason }
            | Self::Machine(MachineError::Ended { reason })
            | Self::Agent(AgentError::Link(MachineError::Ended { reason })) => reason,
            _ => return false,
        };
        matches!(reason, ExitReason::KvmUnfit { .. })
    }
}

fn because(asked: &Option<AgentError>) -> String {
    asked
        .as_ref()
        .map_or_else(String::new, |error| format!(": {error}"))
}

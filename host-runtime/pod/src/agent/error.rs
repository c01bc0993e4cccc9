//! What can go wrong between host and agent.

use std::io;
use std::time::Duration;

use agent_protocol::{Failure, FailureKind, PROTOCOL_VERSION, failure_of};
use host_machine::printing::said;

use host_machine::MachineError;
use host_machine::printing::printable;

/// Why the agent did not do what it was asked. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The guest could not be reached.
    #[error(transparent)]
    Link(#[from] MachineError),
    /// This process could not ask.
    #[error("cannot wait for the agent in the guest: {0}")]
    Local(#[from] io::Error),
    /// The agent refused; its sentence names the input at fault.
    #[error("{}", sentence(.failure))]
    Refused {
        /// Which call.
        call: &'static str,
        /// What it said.
        failure: Box<Failure>,
    },
    /// The agent did not answer in time.
    #[error("waited {} s for the agent in the guest to answer {call}", .waited.as_secs())]
    NoAnswer {
        /// Which call.
        call: &'static str,
        /// For how long was waited.
        waited: Duration,
    },
    /// The connection to the agent broke, which is how a dead guest shows first.
    #[error("lost the connection to the agent in the guest during {call}: {source}")]
    Transport {
        /// Which call.
        call: &'static str,
        /// What ttrpc said.
        source: ttrpc::Error,
    },
    /// A stdio stream broke before it was in use.
    #[error("cannot open a stdio stream to the guest: {}", said(.source))]
    Stream {
        /// The system's answer.
        source: io::Error,
    },
    /// It is of another version, without saying so.
    #[error(
        "the agent in the guest speaks protocol version {theirs}, this program {PROTOCOL_VERSION}; use the guest image that came with it"
    )]
    Version {
        /// What it answered.
        theirs: u32,
    },
    /// The agent said something it must not say.
    #[error("the agent in the guest broke the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
    },
}

impl AgentError {
    pub(super) fn of_call(call: &'static str, source: ttrpc::Error) -> Self {
        match failure_of(&source) {
            Some(failure) => Self::Refused {
                call,
                failure: Box::new(failure),
            },
            None => Self::Transport { call, source },
        }
    }

    /// The kind of refusal, when it is one.
    #[must_use]
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Refused { failure, .. } => failure.kind.enum_value().ok(),
            _ => None,
        }
    }

    /// The exit code that a command line reports: 127 for a program that was not found, 126 for
    /// one that cannot be run, 125 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.kind() {
            Some(FailureKind::FAILURE_KIND_PROGRAM_NOT_FOUND) => 127,
            Some(FailureKind::FAILURE_KIND_PROGRAM_NOT_EXECUTABLE) => 126,
            _ => 125,
        }
    }
}

/// What the guest says goes to terminals and logs: on one line, of plain characters, not without end.
fn sentence(failure: &Failure) -> String {
    if failure.message.is_empty() {
        return "the agent in the guest refused without saying why".to_owned();
    }
    printable(&failure.message)
}

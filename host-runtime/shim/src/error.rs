//! What can go wrong in the shim, and how the Task API says it.

use std::io;
use std::path::PathBuf;

use containerd_shim_protos::ttrpc::{self, Code};
use host_machine::printing::said;

use oci::OciError;
use pod::PodError;
use pod::state::StateError;

/// Why the shim did not do what it was asked. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// The command line is not one that containerd writes.
    #[error("{0}; containerd starts this program, it is not meant to be run by hand")]
    Usage(String),
    /// A file or a socket of ours.
    #[error("cannot {what} {}: {}", path.display(), said(.source))]
    File {
        /// "read", "listen on" and so on.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A system call with no file in it.
    #[error("cannot {what}: {}", said(.source))]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// No such container or process.
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
    /// A call of the Task API that is not offered.
    #[error("the Nacre shim does not implement Task.{call}")]
    Unimplemented {
        /// Its name.
        call: &'static str,
    },
    /// The pod's name is taken, or there is no place for its state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel or the archive is not installed.
    #[error(transparent)]
    Images(#[from] image::boot::ImagesNotFound),
    /// The root file system could not be put in place.
    #[error(transparent)]
    Image(#[from] image::ImageError),
    /// The specification is not followed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The microVM did not start.
    #[error(transparent)]
    Machine(#[from] host_machine::MachineError),
    /// The pod refused, or was lost.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// containerd's side of the line.
    #[error("{what}: {source}")]
    Ttrpc {
        /// What was tried.
        what: &'static str,
        /// ttrpc's answer.
        source: ttrpc::Error,
    },
}

impl ShimError {
    /// Wraps the failure of an operation on `path`.
    pub(super) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } | Self::Pod(PodError::NotFound { .. }) => Code::NOT_FOUND,
            Self::Exists { .. }
            | Self::State(StateError::Taken { .. })
            | Self::Pod(PodError::Exists { .. }) => Code::ALREADY_EXISTS,
            Self::Pod(PodError::State { .. }) => Code::FAILED_PRECONDITION,
            Self::Unimplemented { .. } => Code::UNIMPLEMENTED,
            Self::Usage(_) => Code::INVALID_ARGUMENT,
            Self::Oci(error) => match error {
                OciError::Json { .. }
                | OciError::Unsupported { .. }
                | OciError::Field { .. }
                | OciError::Invalid { .. } => Code::INVALID_ARGUMENT,
                OciError::Read { .. } | OciError::Hook { .. } => Code::UNKNOWN,
            },
            Self::File { .. }
            | Self::System { .. }
            | Self::State(_)
            | Self::Images(_)
            | Self::Image(_)
            | Self::Machine(_)
            | Self::Pod(_)
            | Self::Ttrpc { .. } => Code::UNKNOWN,
        }
    }
}

impl From<ShimError> for ttrpc::Error {
    fn from(error: ShimError) -> Self {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.code(), error))
    }
}

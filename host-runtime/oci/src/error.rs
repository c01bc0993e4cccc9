//! Why a specification is not followed.

use std::io;
use std::path::PathBuf;

/// What is wrong with a specification, or with what it asks for. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is not what the OCI specification says.
    #[error("cannot read {what}: {source}")]
    Json {
        /// Which document.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It asks for something that Nacre does not do; it is refused rather than ignored.
    #[error(
        "{what} is not supported by this runtime; remove it from the container's configuration"
    )]
    Unsupported {
        /// The option, as the OCI specification names it.
        what: String,
    },
    /// A value that cannot be used.
    #[error("{what}")]
    Invalid {
        /// Which, and why.
        what: String,
    },
}

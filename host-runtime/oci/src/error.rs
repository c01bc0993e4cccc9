//! Why a specification is not followed.

use std::io;
use std::path::PathBuf;

use host_machine::printing::said;

/// What is wrong with a specification, or with what it asks for. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The file.
    #[error("cannot read {}: {}", path.display(), said(.source))]
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
    /// A field is set that nobody would see to.
    #[error(
        "{path} is not supported by this runtime ({why}); remove it from the container's configuration"
    )]
    Field {
        /// Where it stands in the document.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// A program that the specification wants run did not do its work.
    #[error("the hook {} failed: {why}", path.display())]
    Hook {
        /// The program.
        path: PathBuf,
        /// What became of it.
        why: String,
    },
    /// A value that cannot be used.
    #[error("{what}")]
    Invalid {
        /// Which, and why.
        what: String,
    },
}

//! Why a root file system could not be put in place.

use std::io;
use std::path::PathBuf;

use host_machine::printing::said;

/// A failed step. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or directory.
    #[error("cannot {what} {}: {}", path.display(), said(.source))]
    File {
        /// "make" and so on.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A mount.
    #[error("cannot mount {fstype} from {from} at {}: {}", at.display(), said(.source))]
    Mount {
        /// The file-system type.
        fstype: String,
        /// Its source.
        from: String,
        /// Where.
        at: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl ImageError {
    /// Wraps the failure of an operation on `path`.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

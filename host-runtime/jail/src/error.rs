//! Why a process could not be confined.

use std::io;

use host_machine::printing::said;

/// A step that the host refused. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {}", said(.source))]
pub struct JailError {
    /// What was to be done.
    pub(crate) what: &'static str,
    /// The system's answer.
    #[source]
    pub(crate) source: io::Error,
}

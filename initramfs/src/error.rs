//! Why an image is not an archive that can be used.

use core::fmt;

/// What is wrong with an image. All but [`ArchiveError::Misaligned`] mean a damaged or foreign
/// file: build it again with `cargo xtask build-image`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The image does not start on a page boundary in memory, so files could not be mapped.
    Misaligned,
    /// Shorter than the header.
    TooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// Does not begin with the magic bytes.
    BadMagic,
    /// A format version that this reader does not know.
    UnknownVersion {
        /// The version found.
        version: u32,
    },
    /// A checksum policy that this reader does not know.
    UnknownChecksum {
        /// The policy found.
        policy: u32,
    },
    /// The header's lengths contradict each other.
    BadHeader,
    /// Shorter than the header says.
    Truncated {
        /// Length the header gives, in bytes.
        expected: usize,
        /// Length of the image, in bytes.
        len: usize,
    },
    /// The index is not the one the header was written for.
    BadChecksum,
    /// The index is not a valid rkyv archive.
    BadIndex,
    /// The entries do not form a tree, or one of them breaks a rule of the format.
    BadEntry {
        /// Position of the entry in the index.
        index: usize,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => f.write_str("the archive does not start on a page boundary"),
            Self::TooShort { len } => write!(f, "{len} bytes are too few for an archive"),
            Self::BadMagic => f.write_str("this is not a Nacre archive"),
            Self::UnknownVersion { version } => write!(f, "archive format {version} is unknown"),
            Self::UnknownChecksum { policy } => write!(f, "checksum policy {policy} is unknown"),
            Self::BadHeader => f.write_str("the archive's header contradicts itself"),
            Self::Truncated { expected, len } => {
                write!(f, "the archive is cut short: {len} of {expected} bytes")
            }
            Self::BadChecksum => f.write_str("the archive's index is damaged (checksum)"),
            Self::BadIndex => f.write_str("the archive's index is damaged"),
            Self::BadEntry { index, reason } => {
                write!(f, "entry {index} of the archive is damaged: {reason}")
            }
        }
    }
}

impl core::error::Error for ArchiveError {}

//! Parts of paths that a walk goes through.

use core::ops::Deref;

use abi::Result;
use collections::Vec;

/// Part of a path: of the caller's, or of a symbolic link's target.
#[derive(Debug)]
pub(crate) enum Part<'p> {
    Given(&'p [u8]),
    Linked(Vec<u8>),
}

impl Part<'_> {
    /// A copy that outlives the walk.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn into_owned(self) -> Result<Vec<u8>> {
        match self {
            Part::Given(bytes) => Ok(Vec::try_from_slice(bytes)?),
            Part::Linked(bytes) => Ok(bytes),
        }
    }
}

impl Deref for Part<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Part::Given(bytes) => bytes,
            Part::Linked(bytes) => bytes,
        }
    }
}

/// The last component of a path.
#[derive(Debug)]
pub(crate) enum Last<'p> {
    /// A name to look up in the directory reached.
    Name {
        name: Part<'p>,
        /// A slash follows: it must be a directory.
        slash: bool,
    },
    /// The path ends in the directory reached: `/`, `.`, `..`, a magic link.
    Here,
}

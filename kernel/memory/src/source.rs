//! [`PageSource`]: where the pages of a file or of shared memory come from.

use core::any::Any;

use abi::Result;
use machine::Frame;

/// The pages of one mappable object. Whoever maps it keeps it alive.
pub trait PageSource: Any + Send + Sync {
    /// The frame that holds page `index` now, for reading, or for writing through a shared mapping.
    /// The same page gives the same frame until it is truncated away.
    ///
    /// # Errors
    /// `EFAULT` past the end (the toucher gets SIGBUS), `ENOSPC`, `ENOMEM`, `EIO`.
    fn page(&self, index: u64, write: bool) -> Result<Frame>;

    /// Length in bytes; pages wholly past it are not there.
    fn size_bytes(&self) -> u64;

    /// Writes dirty pages of the range back (msync(2)).
    ///
    /// # Errors
    /// `EIO` and what the store answers.
    fn sync(&self, first_page: u64, last_page: u64) -> Result<()> {
        let _ = (first_page, last_page);
        Ok(())
    }
}

impl core::fmt::Debug for dyn PageSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageSource({} bytes)", self.size_bytes())
    }
}

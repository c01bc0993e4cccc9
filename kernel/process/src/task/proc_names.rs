//! The names in /proc that mean a process, which are to be forgotten when it was waited for.
//!
//! [`crate::procfs`] shows processes and is above them, so it names by [`set_forget`] what forgets: a process only
//! keeps which names it was looked up by.

use abi::Result;
use collections::Vec;
use machine::sync::SpinLock;
use spin::Once;

use super::numbers::PidNumber;

/// The folder of a process in the /procs of a PID namespace: that namespace
/// ([`PidNamespace::ino`](super::pid_namespace::PidNamespace::ino)), and the folder's name.
pub(crate) type FolderName = (Option<u32>, PidNumber);

/// Forgets what is known below these names.
type Forget = fn(&[FolderName]);

static FORGET: Once<Forget> = Once::new();

/// Names what forgets. Once, when there is a /proc to mount; before, no name can have been kept.
pub(crate) fn set_forget(forget: Forget) {
    FORGET.call_once(|| forget);
}

/// The names of one process.
#[derive(Debug, Default)]
pub(crate) struct ProcNames(SpinLock<Vec<FolderName>>);

impl ProcNames {
    /// A folder that means the process may be kept in the cache of names.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn note(&self, name: FolderName) -> Result<()> {
        let mut names = self.0.lock();
        if !names.contains(&name) {
            names.try_push(name)?;
        }
        Ok(())
    }

    /// The names mean nothing any more.
    pub(crate) fn forget(&self) {
        let names = core::mem::take(&mut *self.0.lock());
        if let Some(forget) = FORGET.get() {
            forget(&names);
        }
    }
}

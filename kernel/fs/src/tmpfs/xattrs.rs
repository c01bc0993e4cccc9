//! Extended attributes of a tmpfs inode. Their space counts against the instance's inodes, as on Linux.
//!
//! Locking: a leaf spin lock; values are copied in before it is taken.

use abi::{Errno, Result};
use collections::{Map, Vec};
use machine::sync::SpinLock;

use super::Usage;
use crate::inode::XattrMode;

/// What an attribute takes besides its name and value (Linux's `struct simple_xattr`).
const OVERHEAD: usize = 40;

/// The attributes by name; most inodes have none.
#[derive(Debug, Default)]
pub(super) struct Xattrs(SpinLock<Map<Vec<u8>, Vec<u8>>>);

/// What an attribute counts for, in bytes.
fn space(name: &[u8], value: &[u8]) -> u64 {
    (OVERHEAD + name.len() + value.len()) as u64
}

impl Xattrs {
    pub(super) fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        let all = self.0.lock();
        let value = all.get(name).ok_or(Errno::ENODATA)?;
        Ok(value.try_clone()?)
    }

    pub(super) fn set(
        &self,
        usage: &Usage,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        let (key, new) = (Vec::try_from_slice(name)?, Vec::try_from_slice(value)?);
        usage.take_space(space(name, value))?;
        let outcome = self.insert(key, new, mode);
        let freed = match &outcome {
            Ok(Some(old)) => space(name, old),
            Ok(None) => 0,
            Err(_) => space(name, value),
        };
        usage.give_space(freed);
        outcome.map(drop)
    }

    /// Enters an attribute; what it had before.
    fn insert(&self, name: Vec<u8>, value: Vec<u8>, mode: XattrMode) -> Result<Option<Vec<u8>>> {
        let mut all = self.0.lock();
        match (all.contains_key(name.as_slice()), mode) {
            (true, XattrMode::Create | XattrMode::Never) => return Err(Errno::EEXIST),
            (false, XattrMode::Replace | XattrMode::Never) => return Err(Errno::ENODATA),
            _ => {}
        }
        Ok(all.try_insert(name, value)?)
    }

    /// All names, each with a NUL behind it.
    pub(super) fn list(&self) -> Result<Vec<u8>> {
        let all = self.0.lock();
        let mut names = Vec::new();
        for name in all.keys() {
            names.try_extend_from_slice(name)?;
            names.try_push(0)?;
        }
        Ok(names)
    }

    pub(super) fn remove(&self, usage: &Usage, name: &[u8]) -> Result<()> {
        let removed = self.0.lock().remove(name);
        let value = removed.ok_or(Errno::ENODATA)?;
        usage.give_space(space(name, &value));
        Ok(())
    }

    /// The inode goes.
    pub(super) fn clear(&mut self, usage: &Usage) {
        let all = self.0.get_mut();
        let sizes = all.iter().map(|(name, value)| space(name, value));
        usage.give_space(sizes.sum());
    }
}

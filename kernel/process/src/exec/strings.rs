//! Argument and environment strings on their way from the caller to the new stack.

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;

/// The longest single string, its NUL included (`MAX_ARG_STRLEN`).
pub const MAX_STRING: usize = 32 * 4096;

/// NUL-terminated strings, one behind the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// No string.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            count: 0,
        }
    }

    /// The strings of `list`; for programs that the kernel starts.
    ///
    /// # Errors
    /// `ENOMEM`, `E2BIG`.
    pub fn from_list<S: AsRef<[u8]>>(list: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut strings = Self::new();
        for string in list {
            strings.push(string.as_ref())?;
        }
        Ok(strings)
    }

    /// Reads an argv or envp array of the caller; null is an empty one. `limit` is how many bytes
    /// strings and pointers may take together.
    ///
    /// # Errors
    /// `E2BIG`, `EFAULT`, `ENOMEM`.
    pub fn from_user(array: UserAddr, limit: usize) -> Result<Self> {
        let mut strings = Self::new();
        if array.0 == 0 {
            return Ok(strings);
        }
        for index in 0.. {
            let slot = array.checked_add(index * 8).ok_or(Errno::EFAULT)?;
            let pointer = memory::user::read::<u64>(slot)?;
            if pointer == 0 {
                break;
            }
            let string = memory::user::read_c_string(UserAddr(pointer), MAX_STRING);
            let string = string.map_err(|errno| match errno {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                other => other,
            })?;
            strings.push(&string)?;
            if strings.size() > limit {
                return Err(Errno::E2BIG);
            }
            if sched::thread::killed() {
                return Err(Errno::EINTR);
            }
            sched::cond_resched();
        }
        Ok(strings)
    }

    /// Adds a string (without NUL) at the end.
    ///
    /// # Errors
    /// `E2BIG` when it is too long, `ENOMEM`.
    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        if string.len() >= MAX_STRING {
            return Err(Errno::E2BIG);
        }
        self.bytes.try_reserve(string.len() + 1)?;
        self.bytes.try_extend_from_slice(string)?;
        self.bytes.try_push(0)?;
        self.count += 1;
        Ok(())
    }

    /// The strings of `front`, then these without the first (which a script's interpreter replaces).
    ///
    /// # Errors
    /// `ENOMEM`, `E2BIG`.
    pub fn with_front(&self, front: &[&[u8]]) -> Result<Self> {
        let mut strings = Self::from_list(front)?;
        for string in self.iter().skip(1) {
            strings.push(string)?;
            sched::cond_resched();
        }
        Ok(strings)
    }

    /// The strings, without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == 0).take(self.count)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The strings with their NULs.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What they take on the stack, pointers included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + self.count * 8
    }
}

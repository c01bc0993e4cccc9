//! A string that grows fallibly, and formatting into it.

use alloc::string as std_string;
use core::borrow::Borrow;
use core::fmt::{self, Write};
use core::ops::Deref;

use super::error::{AllocError, Result};
use super::vec::Vec;

/// alloc's string without what panics for want of memory. Derefs to `str`; writing into it by
/// `write!` fails when there is no memory.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct String(std_string::String);

impl String {
    /// An empty string.
    #[must_use]
    pub const fn new() -> Self {
        Self(std_string::String::new())
    }

    /// A copy of `text`.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn try_from_str(text: &str) -> Result<Self> {
        let mut made = Self::new();
        made.try_push_str(text)?;
        Ok(made)
    }

    /// Makes room for `more` bytes.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn try_reserve(&mut self, more: usize) -> Result<()> {
        if self.0.capacity() - self.0.len() >= more {
            return Ok(());
        }
        super::admit()?;
        Ok(self.0.try_reserve(more)?)
    }

    /// Appends `text`.
    ///
    /// # Errors
    /// [`AllocError`]; nothing was appended.
    pub fn try_push_str(&mut self, text: &str) -> Result<()> {
        self.try_reserve(text.len())?;
        self.0.push_str(text);
        Ok(())
    }

    /// Appends `character`.
    ///
    /// # Errors
    /// [`AllocError`]; nothing was appended.
    pub fn try_push(&mut self, character: char) -> Result<()> {
        self.try_reserve(character.len_utf8())?;
        self.0.push(character);
        Ok(())
    }

    /// A copy.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn try_clone(&self) -> Result<Self> {
        Self::try_from_str(self)
    }

    /// Its bytes, with the same memory.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        Vec::from_std(self.0.into_bytes())
    }

    /// alloc's string with the same memory.
    #[must_use]
    pub fn into_std(self) -> std_string::String {
        self.0
    }

    /// This string from alloc's, with the same memory.
    #[must_use]
    pub fn from_std(text: std_string::String) -> Self {
        Self(text)
    }

    /// The text as a slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many bytes there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Takes the last character.
    pub fn pop(&mut self) -> Option<char> {
        self.0.pop()
    }

    /// Cuts the text to `len` bytes. Panics inside a character.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Empties the text; the memory stays for new text.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Deref for String {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Write for String {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_push_str(text).map_err(|AllocError| fmt::Error)
    }
}

impl fmt::Debug for String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsRef<str> for String {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for String {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Borrow<str> for String {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for String {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<&str> for String {
    fn eq(&self, other: &&str) -> bool {
        self.0 == **other
    }
}

/// Formats into a new string; [`crate::try_format!`] calls it.
///
/// # Errors
/// [`AllocError`], also when a part refuses to be formatted.
pub fn format_string(arguments: fmt::Arguments<'_>) -> Result<String> {
    let mut made = String::new();
    made.write_fmt(arguments).map_err(|fmt::Error| AllocError)?;
    Ok(made)
}

/// Formatted text as bytes: `write!` into a vector, for procfs and its kin.
impl Write for Vec<u8> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_extend_from_slice(text.as_bytes())
            .map_err(|AllocError| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AllocError, testing};
    use crate::try_format;

    #[test]
    fn formatting_tells_of_failures() {
        assert_eq!(
            try_format!("{} and {:#x}", "one", 31).expect("memory"),
            "one and 0x1f"
        );
        for nth in 1..10 {
            testing::fail_nth(nth);
            let made = try_format!("{:>40}{:>80}", 1, 2);
            if testing::fail_never() {
                assert!(made.is_ok() && nth > 1);
                return;
            }
            assert_eq!(made, Err(AllocError));
        }
        panic!("more than ten allocations for one line");
    }
}

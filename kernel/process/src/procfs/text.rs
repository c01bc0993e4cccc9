//! The text of a file of /proc, in pieces: it may be long, and memory may end while it is made.

use core::fmt;

use abi::{Errno, Result};
use collections::Vec;
use memory::io::IoWriter;

/// Bytes of a piece.
const PIECE: usize = 4096;

/// See the module. Writing fails only for want of memory, which [`fmt::Error`] then stands for.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pieces: Vec<Vec<u8>>,
    len: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Self {
            pieces: Vec::new(),
            len: 0,
        }
    }

    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let space = PIECE - room.len();
            let (now, later) = bytes.split_at(bytes.len().min(space));
            room.try_extend_from_slice(now)?;
            self.len += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// The piece that is not full.
    fn room(&mut self) -> Result<&mut Vec<u8>> {
        if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
            self.pieces.try_push(Vec::new())?;
        }
        self.pieces.last_mut().ok_or(Errno::ENOMEM)
    }

    /// Copies what is there from `start` on.
    pub(crate) fn read(&self, start: usize, to: &mut IoWriter<'_>) -> Result<usize> {
        let mut done = 0;
        while let Some(piece) = self.pieces.get((start + done) / PIECE) {
            let rest = piece.get((start + done) % PIECE..).unwrap_or_default();
            let count = if rest.is_empty() { 0 } else { to.write(rest)? };
            done += count;
            if count == 0 || count < rest.len() {
                break;
            }
        }
        Ok(done)
    }

    /// All of it in one; for short ones.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>> {
        let mut all = Vec::try_with_capacity(self.len)?;
        for piece in &self.pieces {
            all.try_extend_from_slice(piece)?;
        }
        Ok(all)
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// A command name up to its padding.
pub(super) fn trimmed(name: &[u8; 16]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::fmt::Write;

    use super::*;

    #[test]
    fn pieces_read_as_one() {
        let mut text = Text::new();
        for number in 0..3000 {
            writeln!(text, "{number}").unwrap();
        }
        let expected: String = (0..3000).map(|number| format!("{number}\n")).collect();
        assert_eq!(text.len(), expected.len());
        for start in [0, 1, PIECE - 1, PIECE, PIECE + 7, expected.len()] {
            let mut buffer = vec![0; expected.len()];
            let read = text
                .read(start, &mut IoWriter::kernel(&mut buffer))
                .unwrap();
            assert_eq!(&buffer[..read], &expected.as_bytes()[start..]);
        }
        assert_eq!(text.into_bytes().unwrap(), expected.as_bytes());
    }
}

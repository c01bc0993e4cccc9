//! A ring of bytes that grows as it is used, up to a pipe's capacity.

use abi::Result;
use collections::Vec;
use memory::io::{IoReader, IoWriter};

/// Smallest allocation.
const SMALLEST: usize = 256;

/// Bytes in order. `bytes.len()` is a power of two, or 0.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Moves as many bytes as `to` has room for out of the ring.
    pub(super) fn give(&mut self, to: &mut IoWriter<'_>) -> Result<usize> {
        let mut done = 0;
        while self.len > 0 && to.remaining() > 0 {
            let end = (self.start + self.len).min(self.bytes.len());
            match to.write(&self.bytes[self.start..end]) {
                Ok(count) => {
                    done += count;
                    self.consume(count);
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn consume(&mut self, count: usize) {
        self.len -= count;
        // An empty ring starts over, so that a busy small pipe stays in its first bytes.
        self.start = if self.len == 0 {
            0
        } else {
            (self.start + count) & (self.bytes.len() - 1)
        };
    }

    /// Moves up to `room` bytes of `from` into the ring.
    pub(super) fn take(&mut self, from: &mut IoReader<'_>, room: usize) -> Result<usize> {
        let wanted = from.remaining().min(room);
        self.reserve(self.len + wanted)?;
        let mut done = 0;
        while done < wanted {
            let size = self.bytes.len();
            let at = (self.start + self.len) & (size - 1);
            let end = size.min(at + wanted - done);
            match from.read(&mut self.bytes[at..end]) {
                Ok(count) => {
                    done += count;
                    self.len += count;
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Puts bytes that were given back in front, whatever the capacity.
    ///
    /// # Errors
    /// `ENOMEM`, only when others have filled the ring meanwhile.
    pub(super) fn put_back(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(self.len + bytes.len())?;
        let size = self.bytes.len();
        if size == 0 {
            return Ok(());
        }
        self.start = (self.start + size - bytes.len()) & (size - 1);
        let first = bytes.len().min(size - self.start);
        self.bytes[self.start..self.start + first].copy_from_slice(&bytes[..first]);
        self.bytes[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.len += bytes.len();
        Ok(())
    }

    /// Copies the first bytes without moving them.
    pub(super) fn peek(&self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.len);
        let first = count.min(self.bytes.len() - self.start);
        to[..first].copy_from_slice(&self.bytes[self.start..self.start + first]);
        to[first..count].copy_from_slice(&self.bytes[..count - first]);
        count
    }

    /// Gives memory back when it holds more than `capacity`; it still holds all its bytes.
    ///
    /// # Errors
    /// `ENOMEM`; it is as it was then.
    pub(super) fn shrink_to(&mut self, capacity: usize) -> Result<()> {
        if self.bytes.len() > capacity {
            let mut kept = zeroes(capacity)?;
            let len = self.peek(&mut kept);
            *self = Self {
                bytes: kept,
                start: 0,
                len,
            };
        }
        Ok(())
    }

    fn reserve(&mut self, needed: usize) -> Result<()> {
        if needed <= self.bytes.len() {
            return Ok(());
        }
        let size = needed.next_power_of_two().max(SMALLEST);
        let mut grown = zeroes(size)?;
        let len = self.peek(&mut grown);
        *self = Self {
            bytes: grown,
            start: 0,
            len,
        };
        Ok(())
    }
}

fn zeroes(size: usize) -> Result<Vec<u8>> {
    memory::pressure::ensure_headroom()?;
    Ok(Vec::try_from_elem(0, size)?)
}

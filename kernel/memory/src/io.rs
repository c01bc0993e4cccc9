//! [`IoWriter`] and [`IoReader`]: where a read(2) puts bytes and where a write(2) takes them, be it user
//! buffers or a kernel slice, so that a file knows one kind of each.
//!
//! Progress counts as success: a transfer that hits an unmapped page after some bytes reports those, and
//! the next one fails with `EFAULT`. User memory may fault and sleep: never used under a spin lock.

use abi::{Errno, Result};
use machine::{Frame, PAGE_SIZE, UserAddr};

use crate::user;

/// One piece of user memory (`struct iovec`), checked to lie below [`UserAddr::LIMIT`] or to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSlice {
    /// Start.
    pub addr: UserAddr,
    /// Length in bytes.
    pub len: usize,
}

/// Bytes that go through a bounce buffer between a frame and user memory at a time.
const BOUNCE: usize = 1024;

enum Sink<'a> {
    Kernel(&'a mut [u8]),
    User(UserSlice),
    Vector(&'a [UserSlice]),
}

/// Takes the bytes of a read.
pub struct IoWriter<'a> {
    sink: Sink<'a>,
    /// Bytes of the first piece that are done.
    offset: usize,
    remaining: usize,
}

impl<'a> IoWriter<'a> {
    /// Into kernel memory.
    pub fn kernel(to: &'a mut [u8]) -> Self {
        let remaining = to.len();
        Self { sink: Sink::Kernel(to), offset: 0, remaining }
    }

    /// Into one user buffer.
    #[must_use]
    pub fn user(addr: UserAddr, len: usize) -> Self {
        Self { sink: Sink::User(UserSlice { addr, len }), offset: 0, remaining: len }
    }

    /// Into several user buffers, one after the other.
    #[must_use]
    pub fn vector(pieces: &'a [UserSlice]) -> Self {
        let remaining = pieces.iter().map(|piece| piece.len).sum();
        Self { sink: Sink::Vector(pieces), offset: 0, remaining }
    }

    /// Bytes there is room for.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Takes no more than `len` further bytes.
    pub fn limit(&mut self, len: usize) {
        self.remaining = self.remaining.min(len);
    }

    /// Puts as much of `from` as there is room for; returns how much.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be put.
    pub fn write(&mut self, from: &[u8]) -> Result<usize> {
        let wanted = from.len().min(self.remaining);
        let mut done = 0;
        while done < wanted {
            match self.put(&from[done..wanted]) {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Puts up to `len` bytes of `frame` from `offset` on.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be put.
    pub fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let wanted = len.min(self.remaining);
        if let Sink::Kernel(to) = &mut self.sink {
            frame.read(offset, &mut to[self.offset..self.offset + wanted]);
            self.advance(wanted);
            return Ok(wanted);
        }
        let mut done = 0;
        let mut bounce = [0; BOUNCE];
        while done < wanted {
            let step = BOUNCE.min(wanted - done);
            frame.read(offset + done, &mut bounce[..step]);
            match self.write(&bounce[..step]) {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Puts up to `len` zeroes.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be put.
    pub fn zero(&mut self, len: usize) -> Result<usize> {
        const ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        let wanted = len.min(self.remaining);
        let mut done = 0;
        while done < wanted {
            match self.write(&ZEROES[..PAGE_SIZE.min(wanted - done)]) {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Puts bytes into the piece at hand; at least one, at most what fits there.
    fn put(&mut self, from: &[u8]) -> Result<usize> {
        let count = match &mut self.sink {
            Sink::Kernel(to) => {
                to[self.offset..self.offset + from.len()].copy_from_slice(from);
                from.len()
            }
            Sink::User(slice) => user::write_some(at(*slice, self.offset)?, from)?,
            Sink::Vector(pieces) => {
                let piece = skip_done(pieces, &mut self.offset)?;
                let room = piece.len - self.offset;
                user::write_some(at(piece, self.offset)?, &from[..from.len().min(room)])?
            }
        };
        self.advance(count);
        Ok(count)
    }

    fn advance(&mut self, count: usize) {
        self.offset += count;
        self.remaining -= count;
    }
}

impl core::fmt::Debug for IoWriter<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IoWriter({} bytes left)", self.remaining)
    }
}

enum Source<'a> {
    Kernel(&'a [u8]),
    User(UserSlice),
    Vector(&'a [UserSlice]),
}

/// Gives the bytes of a write.
pub struct IoReader<'a> {
    source: Source<'a>,
    offset: usize,
    remaining: usize,
}

impl<'a> IoReader<'a> {
    /// From kernel memory.
    #[must_use]
    pub fn kernel(from: &'a [u8]) -> Self {
        Self { source: Source::Kernel(from), offset: 0, remaining: from.len() }
    }

    /// From one user buffer.
    #[must_use]
    pub fn user(addr: UserAddr, len: usize) -> Self {
        Self { source: Source::User(UserSlice { addr, len }), offset: 0, remaining: len }
    }

    /// From several user buffers, one after the other.
    #[must_use]
    pub fn vector(pieces: &'a [UserSlice]) -> Self {
        let remaining = pieces.iter().map(|piece| piece.len).sum();
        Self { source: Source::Vector(pieces), offset: 0, remaining }
    }

    /// Bytes left to give.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Gives no more than `len` further bytes.
    pub fn limit(&mut self, len: usize) {
        self.remaining = self.remaining.min(len);
    }

    /// Fills as much of `to` as there are bytes for; returns how much.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be taken.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        let wanted = to.len().min(self.remaining);
        let mut done = 0;
        while done < wanted {
            match self.take(&mut to[done..wanted]) {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Fills up to `len` bytes of `frame` from `offset` on.
    ///
    /// # Errors
    /// `EFAULT` when not one byte could be taken.
    pub fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let wanted = len.min(self.remaining);
        if let Source::Kernel(from) = &self.source {
            frame.write(offset, &from[self.offset..self.offset + wanted]);
            self.advance(wanted);
            return Ok(wanted);
        }
        let mut done = 0;
        let mut bounce = [0; BOUNCE];
        while done < wanted {
            let step = BOUNCE.min(wanted - done);
            match self.read(&mut bounce[..step]) {
                Ok(count) => {
                    frame.write(offset + done, &bounce[..count]);
                    done += count;
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Passes over up to `len` bytes without looking at them; returns how many.
    pub fn skip(&mut self, len: usize) -> usize {
        let count = len.min(self.remaining);
        self.advance(count);
        count
    }

    /// Takes bytes from the piece at hand; at least one, at most what it has.
    fn take(&mut self, to: &mut [u8]) -> Result<usize> {
        let count = match &self.source {
            Source::Kernel(from) => {
                to.copy_from_slice(&from[self.offset..self.offset + to.len()]);
                to.len()
            }
            Source::User(slice) => user::read_some(at(*slice, self.offset)?, to)?,
            Source::Vector(pieces) => {
                let mut pieces = *pieces;
                let piece = skip_done(&mut pieces, &mut self.offset)?;
                self.source = Source::Vector(pieces);
                let has = piece.len - self.offset;
                let len = to.len().min(has);
                user::read_some(at(piece, self.offset)?, &mut to[..len])?
            }
        };
        self.advance(count);
        Ok(count)
    }

    fn advance(&mut self, count: usize) {
        self.offset += count;
        self.remaining -= count;
    }
}

impl core::fmt::Debug for IoReader<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IoReader({} bytes left)", self.remaining)
    }
}

fn at(slice: UserSlice, offset: usize) -> Result<UserAddr> {
    slice.addr.checked_add(offset as u64).ok_or(Errno::EFAULT)
}

/// Drops the pieces that `offset` has passed; the first piece left holds `offset`.
fn skip_done(pieces: &mut &[UserSlice], offset: &mut usize) -> Result<UserSlice> {
    while let Some((first, rest)) = pieces.split_first() {
        if *offset < first.len {
            return Ok(*first);
        }
        *offset -= first.len;
        *pieces = rest;
    }
    Err(Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_slices_are_filled_in_order_and_limited() {
        let mut buffer = [9; 6];
        let mut to = IoWriter::kernel(&mut buffer);
        to.limit(5);
        assert_eq!(to.write(b"abc"), Ok(3));
        assert_eq!(to.zero(9), Ok(2));
        assert_eq!(to.remaining(), 0);
        assert_eq!(buffer, *b"abc\0\0\x09");
    }

    #[test]
    fn a_reader_gives_each_byte_once() {
        let mut from = IoReader::kernel(b"hello");
        let mut first = [0; 2];
        assert_eq!(from.read(&mut first), Ok(2));
        assert_eq!(from.skip(1), 1);
        let mut rest = [0; 9];
        assert_eq!(from.read(&mut rest), Ok(2));
        assert_eq!((&first, &rest[..2]), (b"he", &b"lo"[..]));
    }

    #[test]
    fn pieces_that_are_done_are_passed_over() {
        let piece = |addr, len| UserSlice { addr: UserAddr(addr), len };
        let all = [piece(0x1000, 4), piece(0x2000, 0), piece(0x3000, 2)];
        let mut pieces = &all[..];
        let mut offset = 5;
        assert_eq!(skip_done(&mut pieces, &mut offset), Ok(all[2]));
        assert_eq!((offset, pieces.len()), (1, 1));
        offset = 2;
        assert_eq!(skip_done(&mut pieces, &mut offset), Err(Errno::EFAULT));
    }
}

//! Where a read(2) puts its bytes and a write(2) takes them from: user memory or a kernel buffer.
//!
//! Partial progress counts: a copy that faults half-way reports what it moved, and `EFAULT` only when that is
//! nothing. Both may sleep, so neither is used under a spin lock.

use abi::{Errno, Result};
use machine::{Frame, UserAddr};

use crate::user;

/// A piece of user memory, as in `struct iovec`: a claim until it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserSlice {
    /// Where it starts.
    pub addr: UserAddr,
    /// Its length in bytes.
    pub len: usize,
}

/// Takes bytes: the buffer of a read(2).
#[derive(Debug)]
pub struct IoWriter<'a> {
    target: Target<'a>,
    remaining: usize,
}

#[derive(Debug)]
enum Target<'a> {
    User(Cursor<'a>),
    Kernel(&'a mut [u8]),
}

/// Gives bytes: the buffer of a write(2).
#[derive(Debug)]
pub struct IoReader<'a> {
    source: Source<'a>,
    remaining: usize,
}

#[derive(Debug)]
enum Source<'a> {
    User(Cursor<'a>),
    Kernel(&'a [u8]),
}

/// A place in a list of user pieces.
#[derive(Debug)]
struct Cursor<'a> {
    now: UserSlice,
    rest: &'a [UserSlice],
}

impl<'a> Cursor<'a> {
    fn new(pieces: &'a [UserSlice]) -> Self {
        match pieces.split_first() {
            Some((now, rest)) => Self { now: *now, rest },
            None => Self {
                now: UserSlice {
                    addr: UserAddr(0),
                    len: 0,
                },
                rest: &[],
            },
        }
    }

    /// Moves up to `len` bytes, a piece at a time, by `copy(address, bytes done, bytes to do)`.
    fn advance(
        &mut self,
        len: usize,
        mut copy: impl FnMut(UserAddr, usize, usize) -> usize,
    ) -> usize {
        let mut done = 0;
        while done < len {
            if self.now.len == 0 {
                let Some((next, rest)) = self.rest.split_first() else {
                    break;
                };
                (self.now, self.rest) = (*next, rest);
                continue;
            }
            let part = self.now.len.min(len - done);
            let moved = copy(self.now.addr, done, part);
            self.now.addr = UserAddr(self.now.addr.0.wrapping_add(moved as u64));
            self.now.len -= moved;
            done += moved;
            if moved < part {
                break;
            }
        }
        done
    }
}

fn total(pieces: &[UserSlice]) -> usize {
    pieces
        .iter()
        .fold(0, |sum: usize, piece| sum.saturating_add(piece.len))
}

/// What a copy of `wanted` bytes that moved `moved` reports.
fn progress(moved: usize, wanted: usize) -> Result<usize> {
    if moved == 0 && wanted > 0 {
        Err(Errno::EFAULT)
    } else {
        Ok(moved)
    }
}

impl<'a> IoWriter<'a> {
    /// Into user memory, one piece after the other.
    #[must_use]
    pub fn vector(pieces: &'a [UserSlice]) -> Self {
        Self {
            remaining: total(pieces),
            target: Target::User(Cursor::new(pieces)),
        }
    }

    /// Into one piece of user memory.
    #[must_use]
    pub fn user(addr: UserAddr, len: usize) -> Self {
        let now = UserSlice { addr, len };
        Self {
            remaining: len,
            target: Target::User(Cursor { now, rest: &[] }),
        }
    }

    /// Into a kernel buffer.
    #[must_use]
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        Self {
            remaining: buffer.len(),
            target: Target::Kernel(buffer),
        }
    }

    /// Bytes it still takes.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Takes no more than `len` bytes from now on.
    pub fn limit(&mut self, len: usize) {
        self.remaining = self.remaining.min(len);
    }

    /// Puts bytes; returns how many it took (less when it is full or hits a bad address).
    ///
    /// # Errors
    /// `EFAULT` when not one could be put.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.put(
            bytes.len(),
            |at, done, len| user::copy_out(at, &bytes[done..done + len]),
            |buffer| buffer.copy_from_slice(&bytes[..buffer.len()]),
        )
    }

    /// Puts `len` bytes of a frame from `offset` on.
    ///
    /// # Errors
    /// `EFAULT` when not one could be put.
    pub fn write_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        self.put(
            len,
            |at, done, len| user::copy_frame_out(at, frame, offset + done, len),
            |buffer| frame.read(offset, buffer),
        )
    }

    /// Puts `len` zeroes.
    ///
    /// # Errors
    /// `EFAULT` when not one could be put.
    pub fn zero(&mut self, len: usize) -> Result<usize> {
        self.put(
            len,
            |at, _, len| user::zero_out(at, len),
            |buffer| buffer.fill(0),
        )
    }

    fn put(
        &mut self,
        len: usize,
        to_user: impl FnMut(UserAddr, usize, usize) -> usize,
        to_kernel: impl FnOnce(&mut [u8]),
    ) -> Result<usize> {
        let wanted = len.min(self.remaining);
        let moved = match &mut self.target {
            Target::User(cursor) => cursor.advance(wanted, to_user),
            Target::Kernel(buffer) => {
                let (now, rest) = core::mem::take(buffer).split_at_mut(wanted);
                to_kernel(now);
                *buffer = rest;
                wanted
            }
        };
        self.remaining -= moved;
        progress(moved, wanted)
    }
}

impl<'a> IoReader<'a> {
    /// From user memory, one piece after the other.
    #[must_use]
    pub fn vector(pieces: &'a [UserSlice]) -> Self {
        Self {
            remaining: total(pieces),
            source: Source::User(Cursor::new(pieces)),
        }
    }

    /// From one piece of user memory.
    #[must_use]
    pub fn user(addr: UserAddr, len: usize) -> Self {
        let now = UserSlice { addr, len };
        Self {
            remaining: len,
            source: Source::User(Cursor { now, rest: &[] }),
        }
    }

    /// From a kernel buffer.
    #[must_use]
    pub fn kernel(buffer: &'a [u8]) -> Self {
        Self {
            remaining: buffer.len(),
            source: Source::Kernel(buffer),
        }
    }

    /// Bytes it still has.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Gives no more than `len` bytes from now on.
    pub fn limit(&mut self, len: usize) {
        self.remaining = self.remaining.min(len);
    }

    /// Takes bytes; returns how many it got (less when there are no more or at a bad address).
    ///
    /// # Errors
    /// `EFAULT` when not one could be taken.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let wanted = bytes.len().min(self.remaining);
        let moved = match &mut self.source {
            Source::User(cursor) => cursor.advance(wanted, |at, done, len| {
                user::copy_in(at, &mut bytes[done..done + len])
            }),
            Source::Kernel(buffer) => {
                let (now, rest) = buffer.split_at(wanted);
                bytes[..wanted].copy_from_slice(now);
                *buffer = rest;
                wanted
            }
        };
        self.remaining -= moved;
        progress(moved, wanted)
    }

    /// Passes over up to `len` bytes without looking at them; returns how many.
    pub fn skip(&mut self, len: usize) -> usize {
        let wanted = len.min(self.remaining);
        let moved = match &mut self.source {
            Source::User(cursor) => cursor.advance(wanted, |_, _, len| len),
            Source::Kernel(buffer) => {
                *buffer = &buffer[wanted..];
                wanted
            }
        };
        self.remaining -= moved;
        moved
    }

    /// Takes `len` bytes into a frame at `offset`.
    ///
    /// # Errors
    /// `EFAULT` when not one could be taken.
    pub fn read_frame(&mut self, frame: &Frame, offset: usize, len: usize) -> Result<usize> {
        let wanted = len.min(self.remaining);
        let moved = match &mut self.source {
            Source::User(cursor) => cursor.advance(wanted, |at, done, len| {
                user::copy_frame_in(at, frame, offset + done, len)
            }),
            Source::Kernel(buffer) => {
                let (now, rest) = buffer.split_at(wanted);
                frame.write(offset, now);
                *buffer = rest;
                wanted
            }
        };
        self.remaining -= moved;
        progress(moved, wanted)
    }
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
}

//! [`Bytes`]: a part of a buffer that several may have; [`Stream`]: bytes in order, made of such parts.
//!
//! What a program sends is copied once into a buffer. The segments in flight, the queue they wait in for their
//! acknowledgement, and, on the loopback interface, the receiver's queue are parts of that buffer.

use alloc::sync::Arc;

use abi::Result;
use collections::{Vec, VecDeque, try_arc};
use memory::io::{IoReader, IoWriter};

/// Bytes a buffer has at least, so that small writes share one.
const LEAST: usize = 512;
/// What a part costs besides its bytes.
const OVERHEAD: usize = 128;

/// A part of a buffer.
#[derive(Clone)]
pub(crate) struct Bytes {
    buffer: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl core::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}

impl Bytes {
    /// Copies up to `len` bytes from a program; none is taken when memory is short.
    pub(crate) fn read(from: &mut IoReader<'_>, len: usize) -> Result<Bytes> {
        let len = len.min(from.remaining());
        let mut bytes = Vec::try_with_capacity(len.max(LEAST))?;
        bytes.try_resize(len, 0)?;
        let end = if len == 0 { 0 } else { from.read(&mut bytes)? };
        let buffer = try_arc(bytes)?;
        Ok(Bytes {
            buffer,
            start: 0,
            end,
        })
    }

    /// Copies what the kernel has.
    pub(crate) fn copy(from: &[u8]) -> Result<Bytes> {
        let mut bytes = Vec::try_with_capacity(from.len())?;
        bytes.try_extend_from_slice(from)?;
        let buffer = try_arc(bytes)?;
        Ok(Bytes {
            buffer,
            start: 0,
            end: from.len(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The part from `start` on, of at most `len` bytes.
    pub(crate) fn part(&self, start: usize, len: usize) -> Bytes {
        let start = (self.start + start).min(self.end);
        let end = start.saturating_add(len).min(self.end);
        Bytes {
            buffer: self.buffer.clone(),
            start,
            end,
        }
    }

    /// Drops `len` bytes in front.
    pub(crate) fn skip(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }

    /// Adds `more` behind, when nobody else has the buffer and there is room.
    fn join(&mut self, more: &[u8]) -> bool {
        let Some(buffer) = Arc::get_mut(&mut self.buffer) else {
            return false;
        };
        buffer.truncate(self.end);
        if buffer.capacity() - buffer.len() < more.len()
            || buffer.try_extend_from_slice(more).is_err()
        {
            return false;
        }
        self.end = buffer.len();
        true
    }
}

/// Bytes in order.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    parts: VecDeque<Bytes>,
    len: usize,
}

/// A place in a [`Stream`], so that going on from there does not begin at the front.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    part: usize,
    within: usize,
}

impl Stream {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory it stands for.
    pub(crate) fn cost(&self) -> usize {
        self.len + self.parts.len() * OVERHEAD
    }

    /// Adds bytes behind; those of a small part go into the buffer of the one before, if nobody else has that.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<()> {
        let len = bytes.len();
        if len == 0 {
            return Ok(());
        }
        let is_joined = len <= LEAST
            && self
                .parts
                .back_mut()
                .is_some_and(|last| last.join(bytes.as_slice()));
        if !is_joined {
            self.parts.try_push_back(bytes)?;
        }
        self.len += len;
        Ok(())
    }

    /// Drops `len` bytes in front; `cursor` keeps its place.
    pub(crate) fn drop_front(&mut self, mut len: usize, cursor: &mut Cursor) {
        while len > 0 {
            let Some(first) = self.parts.front_mut() else {
                return;
            };
            let now = first.len().min(len);
            first.skip(now);
            len -= now;
            self.len -= now;
            if cursor.part == 0 {
                cursor.within = cursor.within.saturating_sub(now);
            }
            if first.len() == 0 {
                self.parts.pop_front();
                cursor.part = cursor.part.saturating_sub(1);
            }
        }
    }

    /// Up to `len` bytes from `cursor` on which lie in one buffer; moves it behind them.
    pub(crate) fn take(&self, cursor: &mut Cursor, len: usize) -> Option<Bytes> {
        loop {
            let part = self.parts.get(cursor.part)?;
            if cursor.within < part.len() {
                let taken = part.part(cursor.within, len);
                cursor.within += taken.len();
                return Some(taken);
            }
            if cursor.part + 1 >= self.parts.len() {
                return None;
            }
            *cursor = Cursor {
                part: cursor.part + 1,
                within: 0,
            };
        }
    }

    /// Further handles to the parts from `skip` bytes on that `len` bytes lie in.
    pub(crate) fn share(&self, mut skip: usize, mut len: usize) -> Result<Vec<Bytes>> {
        let mut shared = Vec::new();
        for part in &self.parts {
            if len == 0 {
                break;
            }
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let now = part.part(skip, len);
            skip = 0;
            len -= now.len();
            shared.try_push(now)?;
        }
        Ok(shared)
    }

    pub(crate) fn clear(&mut self) {
        self.parts.release();
        self.len = 0;
    }
}

/// Copies to a program; bytes copied, and an error when that is fewer than there were and room was left.
pub(crate) fn write_all(parts: &[Bytes], to: &mut IoWriter<'_>) -> Result<usize> {
    let mut done = 0;
    for part in parts {
        let wanted = part.len().min(to.remaining());
        match to.write(part.as_slice()) {
            Ok(count) => {
                done += count;
                if count < wanted {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        sched::cond_resched();
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stream: &Stream, skip: usize, len: usize) -> alloc::vec::Vec<u8> {
        let parts = stream.share(skip, len).unwrap();
        parts
            .iter()
            .flat_map(|part| part.as_slice().to_vec())
            .collect()
    }

    #[test]
    fn a_stream_keeps_order_and_place() {
        let mut stream = Stream::default();
        let big = alloc::vec![b'x'; 2000];
        stream.push(Bytes::copy(b"abc").unwrap()).unwrap();
        stream.push(Bytes::copy(&big).unwrap()).unwrap();
        stream.push(Bytes::copy(b"tail").unwrap()).unwrap();
        assert_eq!(stream.len(), 2007);
        let mut cursor = Cursor::default();
        assert_eq!(stream.take(&mut cursor, 2).unwrap().as_slice(), b"ab");
        assert_eq!(stream.take(&mut cursor, 9).unwrap().as_slice(), b"c");
        stream.drop_front(2, &mut cursor);
        assert_eq!(
            stream.take(&mut cursor, 9).unwrap().as_slice(),
            b"xxxxxxxxx"
        );
        stream.drop_front(10, &mut cursor);
        assert_eq!(stream.take(&mut cursor, 5000).unwrap().len(), 1991);
        assert_eq!(stream.take(&mut cursor, 9).unwrap().as_slice(), b"tail");
        assert!(stream.take(&mut cursor, 9).is_none());
        stream.push(Bytes::copy(&big).unwrap()).unwrap();
        assert_eq!(stream.take(&mut cursor, 3).unwrap().as_slice(), b"xxx");
        assert_eq!(text(&stream, 1990, 6), b"xtailx");
    }

    #[test]
    fn small_writes_share_a_buffer_that_nobody_else_has() {
        let mut stream = Stream::default();
        stream
            .push(Bytes::read(&mut IoReader::kernel(b"one"), 9).unwrap())
            .unwrap();
        stream
            .push(Bytes::read(&mut IoReader::kernel(b"two"), 9).unwrap())
            .unwrap();
        assert_eq!(stream.share(0, 9).unwrap().len(), 1);
        let held = stream.share(0, 3).unwrap();
        stream.push(Bytes::copy(b"three").unwrap()).unwrap();
        assert_eq!(stream.share(0, 99).unwrap().len(), 2);
        assert_eq!(
            (held[0].as_slice(), text(&stream, 0, 99)),
            (&b"one"[..], b"onetwothree".to_vec())
        );
    }
}

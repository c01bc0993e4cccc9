//! Open directories: READDIR, checked entry by entry.
//!
//! A batch of entries is kept between calls, so that a reader with a small buffer does not have the
//! server list the same entries again and again.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use memory::io::IoWriter;
use sched::Mutex;
use zerocopy::{FromBytes, IntoBytes};

use super::inode::FuseInode;
use super::wire::{DirEnt, FSyncIn, Op, OpenIn, OpenOut, ReadIn, ReleaseIn};
use crate::file_ops::{DirSink, FileOps, Io, Seek, seek_in};
use crate::inode::Inode;
use crate::metadata::FileKind;

/// Bytes of entries asked for at a time.
const BATCH: usize = 16 * 1024;
const NAME_MAX: usize = 255;
const O_DIRECTORY: u32 = 0o200_000;

/// Opens a directory at the server.
pub(super) fn open(inode: Arc<FuseInode>) -> Result<Arc<dyn FileOps>> {
    let arg = OpenIn {
        flags: O_DIRECTORY,
        open_flags: 0,
    };
    let out: OpenOut = inode
        .ask(Op::OpenDir, &[arg.as_bytes()], size_of::<OpenOut>())?
        .parse()?;
    Ok(try_arc(Directory {
        inode,
        handle: out.fh,
        batch: Mutex::new(Batch::default()),
    })?)
}

struct Directory {
    inode: Arc<FuseInode>,
    handle: u64,
    batch: Mutex<Batch>,
}

/// Entries as the server sent them: the answer to a READDIR from `start`.
#[derive(Default)]
struct Batch {
    start: u64,
    bytes: Vec<u8>,
}

/// An entry as it stands in a batch.
struct Entry<'a> {
    ino: u64,
    kind: FileKind,
    name: &'a [u8],
    next: u64,
}

/// The entry at the start of `bytes` and what follows it; `None` at the end.
///
/// # Errors
/// `EIO` for an entry that no directory can have.
fn parse(bytes: &[u8]) -> Result<Option<(Entry<'_>, &[u8])>> {
    let Ok((head, rest)) = DirEnt::read_from_prefix(bytes) else {
        return if bytes.is_empty() {
            Ok(None)
        } else {
            Err(Errno::EIO)
        };
    };
    let len = head.namelen as usize;
    if len == 0 || len > NAME_MAX || len > rest.len() {
        return Err(Errno::EIO);
    }
    let (name, rest) = rest.split_at(len);
    if name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::EIO);
    }
    let rest = rest
        .get(len.next_multiple_of(8) - len..)
        .unwrap_or_default();
    let kind = FileKind::from_mode(head.kind << 12).unwrap_or(FileKind::Regular);
    Ok(Some((
        Entry {
            ino: head.ino,
            kind,
            name,
            next: head.off,
        },
        rest,
    )))
}

impl Directory {
    /// Fills `batch` from position `from` on.
    fn fetch(&self, batch: &mut Batch, from: u64) -> Result<()> {
        let arg = ReadIn {
            fh: self.handle,
            offset: from,
            size: u32::try_from(BATCH).unwrap_or(u32::MAX),
            ..ReadIn::default()
        };
        batch.bytes = self.inode.ask(Op::ReadDir, &[arg.as_bytes()], BATCH)?.body;
        batch.start = from;
        Ok(())
    }
}

/// The part of `batch` from position `from` on, when it has it.
fn part(batch: &Batch, from: u64) -> Option<&[u8]> {
    let mut at = batch.start;
    let mut bytes = &batch.bytes[..];
    while !bytes.is_empty() {
        if at == from {
            return Some(bytes);
        }
        let (entry, rest) = parse(bytes).ok()??;
        at = entry.next;
        bytes = rest;
    }
    None
}

/// The position behind `.`. Servers count entries or give what the host's file system gives: neither comes here.
const BEHIND_DOT: u64 = i64::MAX.cast_unsigned() - 1;
/// The position behind `..`, where the server's entries start.
const SERVER_START: u64 = i64::MAX.cast_unsigned() - 2;
/// `.` and `..`: where each is, and what comes next.
const DOTS: [(u64, &[u8], u64); 2] = [(0, b".", BEHIND_DOT), (BEHIND_DOT, b"..", SERVER_START)];

/// The server's position `at` as the caller sees it: its start is not ours.
fn shown(at: u64) -> u64 {
    if at == 0 { SERVER_START } else { at }
}

impl FileOps for Directory {
    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        // Positions are the server's; the end is not known.
        match to {
            Seek::Set(_) | Seek::Current(_) => seek_in(0, position, to),
            Seek::End(_) | Seek::Data(_) | Seek::Hole(_) => Err(Errno::EINVAL),
        }
    }

    fn read(&self, _: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let mut at = from;
        // Some servers list `.` and `..`, some leave them out: they are listed here, at positions
        // of their own, and the server's are passed over.
        for (position, name, next) in DOTS {
            if at != position {
                continue;
            }
            let ino = self.inode.metadata()?.ino;
            if !sink.add(name, ino, FileKind::Directory, next) {
                return Ok(at);
            }
            at = next;
        }
        let mut batch = self.batch.lock();
        // A rewound or fresh directory is listed anew.
        if at == SERVER_START {
            *batch = Batch::default();
            at = 0;
        }
        loop {
            if part(&batch, at).is_none() {
                self.fetch(&mut batch, at)?;
                if batch.bytes.is_empty() {
                    return Ok(shown(at));
                }
            }
            let mut bytes = part(&batch, at).unwrap_or_default();
            while let Some((entry, rest)) = parse(bytes)? {
                let is_dot = matches!(entry.name, b"." | b"..");
                if entry.next == at
                    || (!is_dot && !sink.add(entry.name, entry.ino, entry.kind, entry.next))
                {
                    return Ok(shown(at));
                }
                at = entry.next;
                bytes = rest;
            }
        }
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let arg = FSyncIn {
            fh: self.handle,
            flags: data_only.into(),
            padding: 0,
        };
        match self.inode.ask_optional(Op::FSyncDir, &[arg.as_bytes()], 0) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let arg = ReleaseIn {
            fh: self.handle,
            flags: O_DIRECTORY,
            ..ReleaseIn::default()
        };
        self.inode.send(Op::ReleaseDir, &[arg.as_bytes()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn entry(name: &[u8], off: u64) -> Vec<u8> {
        let len = u32::try_from(name.len()).unwrap();
        let mut bytes = DirEnt {
            ino: 7,
            off,
            namelen: len,
            kind: 8,
        }
        .as_bytes()
        .to_vec();
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn a_batch_is_entered_at_any_of_its_positions() {
        let bytes = [entry(b"a", 10), entry(b"bcdefghij", 5), entry(b"k", 99)].concat();
        let bytes = collections::Vec::from_std(bytes);
        let batch = Batch { start: 3, bytes };
        let name_at =
            |from| part(&batch, from).map(|bytes| parse(bytes).unwrap().unwrap().0.name.to_vec());
        assert_eq!(name_at(3).unwrap(), b"a");
        assert_eq!(name_at(10).unwrap(), b"bcdefghij");
        assert_eq!(name_at(5).unwrap(), b"k");
        assert!(name_at(99).is_none() && name_at(0).is_none());
    }

    #[test]
    fn impossible_entries_are_refused() {
        for name in [&b"a/b"[..], b"", b"a\0", &[b'x'; 256]] {
            assert_eq!(parse(&entry(name, 1)).err(), Some(Errno::EIO), "{name:?}");
        }
        let whole = entry(b"name", 1);
        for cut in 1..28 {
            assert_eq!(parse(&whole[..cut]).err(), Some(Errno::EIO), "{cut}");
        }
        assert!(parse(&[]).unwrap().is_none());
    }
}

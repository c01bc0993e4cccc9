//! What a forked child tells its parent: records of one size on a pipe that closes when the child ends or becomes
//! a program.
//!
//! What the tags mean is between the two ends: [`child`](crate::child) and [`mounting`](crate::mounting). A child
//! may have been made to write anything, so every record is read as one.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

/// Bytes of a record on the pipe.
const LENGTH: usize = 7;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// What it says.
    pub(crate) tag: u8,
    /// Of which of several things.
    pub(crate) index: u16,
    /// An errno or a pid.
    pub(crate) value: i32,
}

impl Record {
    /// The value as an errno.
    pub(crate) fn errno(self) -> Errno {
        match self.value {
            1..4096 => Errno::from_raw_os_error(self.value),
            _ => Errno::IO,
        }
    }

    fn parse(bytes: &[u8; LENGTH]) -> Self {
        let [tag, i0, i1, v0, v1, v2, v3] = *bytes;
        Self {
            tag,
            index: u16::from_le_bytes([i0, i1]),
            value: i32::from_le_bytes([v0, v1, v2, v3]),
        }
    }

    fn bytes(self) -> [u8; LENGTH] {
        let ([i0, i1], [v0, v1, v2, v3]) = (self.index.to_le_bytes(), self.value.to_le_bytes());
        [self.tag, i0, i1, v0, v1, v2, v3]
    }
}

/// The child's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report<'a>(BorrowedFd<'a>);

impl Report<'_> {
    /// Sends a record with one system call.
    pub(crate) fn send(self, tag: u8, index: u16, value: i32) {
        let record = Record { tag, index, value };
        // Nobody is left to tell if the pipe is gone.
        let _ = rustix::io::write(self.0, &record.bytes());
    }
}

/// Has `fork` make a child that reports, and reads to the end what it says. `forked` learns of the child at once,
/// before it can have ended.
pub(crate) fn of_child(
    fork: impl FnOnce(Report<'_>) -> io::Result<Pid>,
    forked: impl FnOnce(Pid),
) -> Result<(Pid, Vec<Record>), Errno> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let pid = fork(Report(writer.as_fd())).map_err(errno)?;
    forked(pid);
    drop(writer);
    let mut bytes = Vec::new();
    std::fs::File::from(reader)
        .read_to_end(&mut bytes)
        .map_err(errno)?;
    let (records, _) = bytes.as_chunks::<LENGTH>();
    Ok((pid, records.iter().map(Record::parse).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_pipe_and_any_value_is_an_errno() {
        let record = Record {
            tag: 0xfe,
            index: 0x1234,
            value: -7,
        };
        assert_eq!(Record::parse(&record.bytes()), record);
        assert_eq!(record.errno(), Errno::IO);
        assert_eq!(Record { value: 2, ..record }.errno(), Errno::NOENT);
        assert_eq!(
            Record {
                value: 4096,
                ..record
            }
            .errno(),
            Errno::IO
        );
    }
}

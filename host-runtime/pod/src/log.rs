//! A pod's log: what its container's first process has written, as far back as it is kept.
//!
//! Two files in the state directory, `log` and the one before it, `log.old`, each of at most [`FILE_BYTES`]: the
//! directory is in memory on most hosts. A record is the time (8 bytes, nanoseconds since 1970), the stream (1 byte),
//! the length (4 bytes), all little-endian, and the bytes. One lock for the files; readers take it for each batch.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use host_machine::printing::said;
use tokio::sync::watch;

use crate::state::{PodDir, StateError};

/// Where one file ends and the next begins.
const FILE_BYTES: u64 = 512 * 1024;
const HEADER_BYTES: usize = 13;
/// Longer records are nobody's.
const MOST_BYTES: usize = 1 << 20;
/// What a reader is given at once.
const BATCH_BYTES: usize = 64 * 1024;

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// When it came, in nanoseconds since 1970.
    pub at_ns: u64,
    /// From where.
    pub source: Source,
    /// What.
    pub data: Vec<u8>,
}

/// The log of a pod of this process.
#[derive(Debug)]
pub struct PodLog {
    files: Mutex<Files>,
    /// Changes with each record; true once there will be no more.
    changed: watch::Sender<bool>,
}

#[derive(Debug)]
struct Files {
    dir: PathBuf,
    current: File,
    length: u64,
    /// How many files there have been before.
    generation: u64,
    has_failed: bool,
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    generation: u64,
    offset: u64,
}

impl PodLog {
    /// An empty log in a pod's directory.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(dir: &PodDir) -> Result<Arc<Self>, StateError> {
        let dir = dir.path().to_owned();
        let current = open(&dir).map_err(StateError::of("make", &dir.join("log")))?;
        let files = Files {
            dir,
            current,
            length: 0,
            generation: 0,
            has_failed: false,
        };
        Ok(Arc::new(Self {
            files: Mutex::new(files),
            changed: watch::Sender::new(false),
        }))
    }

    /// Adds a piece. A log that cannot be written stays as it is: the program goes on.
    pub fn append(&self, source: Source, data: &[u8]) {
        let mut files = self.lock();
        if let Err(error) = files.append(source, data)
            && !files.has_failed
        {
            files.has_failed = true;
            let dir = files.dir.display();
            tracing::warn!(
                "cannot write the log in {dir}, which will have gaps: {}",
                said(&error)
            );
        }
        drop(files);
        self.changed.send_modify(|_| {});
    }

    /// There will be no more.
    pub fn end(&self) {
        self.changed.send_replace(true);
    }

    /// What comes next for a reader, whole records; nothing at the end.
    #[must_use]
    pub fn read(&self, at: &mut Position) -> Vec<LogRecord> {
        self.lock().read(at)
    }

    /// The last lines of what there is, and `at` behind it.
    #[must_use]
    pub fn read_last(&self, lines: u64, at: &mut Position) -> Vec<LogRecord> {
        // In one go, so that no line comes between.
        let files = self.lock();
        let mut records = Vec::new();
        loop {
            let batch = files.read(at);
            if batch.is_empty() {
                return last_lines(records, lines);
            }
            records.extend(batch);
        }
    }

    /// Changes with each record; true once there will be no more.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<bool> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        // Its numbers are right at every step; a panic elsewhere does not spoil them.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn append(&mut self, source: Source, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
        let mut record = Vec::with_capacity(HEADER_BYTES + data.len());
        record.extend(now.to_le_bytes());
        record.push(u8::from(source == Source::Stderr));
        record.extend(length.to_le_bytes());
        record.extend(data);
        if self.length > FILE_BYTES {
            match fs::rename(self.dir.join("log"), self.dir.join("log.old")) {
                // There was no room for the next one then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
            self.current = open(&self.dir)?;
            self.length = 0;
            self.generation += 1;
        }
        let written = self.current.write_all(&record);
        match written {
            Ok(()) => self.length += u64::try_from(record.len()).unwrap_or(u64::MAX),
            // Half a record would spoil all after it.
            Err(_) => self.current.set_len(self.length)?,
        }
        written
    }

    fn read(&self, at: &mut Position) -> Vec<LogRecord> {
        let mut records = Vec::new();
        let mut bytes = 0;
        if at.generation + 1 < self.generation {
            *at = Position {
                generation: self.generation - 1,
                offset: 0,
            };
        }
        while bytes < BATCH_BYTES {
            let read = match at.generation == self.generation {
                true => record_at(&self.current, at.offset),
                false => File::open(self.dir.join("log.old"))
                    .ok()
                    .and_then(|old| record_at(&old, at.offset)),
            };
            match read {
                Some((record, length)) => {
                    at.offset += length;
                    bytes += record.data.len();
                    records.push(record);
                }
                None if at.generation < self.generation => {
                    at.generation += 1;
                    at.offset = 0;
                }
                None => break,
            }
        }
        records
    }
}

/// What the last lines of the two outputs take, each of which has lines of its own.
fn last_lines(mut records: Vec<LogRecord>, most: u64) -> Vec<LogRecord> {
    let mut lines = 0;
    // Whether a line of that output has been met, whose beginning is further up.
    let mut is_in_line = [false; 2];
    for index in (0..records.len()).rev() {
        let record = &mut records[index];
        let is_in_line = &mut is_in_line[usize::from(record.source == Source::Stderr)];
        for at in (0..record.data.len()).rev() {
            if record.data[at] == b'\n' || !*is_in_line {
                if lines == most {
                    record.data.drain(..=at);
                    let first = if record.data.is_empty() {
                        index + 1
                    } else {
                        index
                    };
                    return records.split_off(first);
                }
                lines += 1;
                *is_in_line = true;
            }
        }
    }
    records
}

/// A record and its length in the file.
fn record_at(file: &File, offset: u64) -> Option<(LogRecord, u64)> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, offset).ok()?;
    let (time, rest) = header.split_first_chunk::<8>()?;
    let (source, length) = rest.split_first()?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let whole = u64::from(length) + u64::try_from(HEADER_BYTES).ok()?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MOST_BYTES)?;
    let mut data = vec![0; length];
    let begin = offset + u64::try_from(HEADER_BYTES).ok()?;
    file.read_exact_at(&mut data, begin).ok()?;
    let source = match source {
        0 => Source::Stdout,
        _ => Source::Stderr,
    };
    let at_ns = u64::from_le_bytes(*time);
    Some((
        LogRecord {
            at_ns,
            source,
            data,
        },
        whole,
    ))
}

fn open(dir: &std::path::Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    options.open(dir.join("log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Record, StateRoot};

    #[test]
    fn the_last_lines_are_those_of_either_output() {
        let record = |source, data: &[u8]| LogRecord {
            at_ns: 0,
            source,
            data: data.to_vec(),
        };
        let records = vec![
            record(Source::Stdout, b"one\ntw"),
            record(Source::Stderr, b"error\n"),
            record(Source::Stdout, b"o\nthree\n"),
            record(Source::Stdout, b"half"),
        ];
        let last = |lines| {
            let records = last_lines(records.clone(), lines).into_iter();
            records
                .map(|record| String::from_utf8(record.data).expect("text"))
                .collect::<Vec<_>>()
        };
        assert!(last(0).is_empty());
        assert_eq!(last(1), ["half"]);
        assert_eq!(last(2), ["three\n", "half"]);
        // The second line began before the error was written, and is whole all the same.
        assert_eq!(last(4), ["tw", "error\n", "o\nthree\n", "half"]);
        assert_eq!(last(5), last(u64::MAX));
        assert!(last_lines(Vec::new(), 3).is_empty());
    }

    #[test]
    fn a_reader_gets_what_is_kept_in_order() {
        let keep = tempfile::tempdir().expect("a folder");
        let root = StateRoot::new(keep.path().join("state"));
        let dir = root.claim(&Record::new("ns", "a", "test")).expect("free");
        let log = PodLog::create(&dir).expect("room");
        let mut at = Position::default();
        assert!(log.read(&mut at).is_empty());
        log.append(Source::Stdout, b"out\n");
        log.append(Source::Stderr, b"err\n");
        let records = log.read(&mut at);
        assert_eq!(records[0].data, b"out\n");
        assert_eq!(records[1].source, Source::Stderr);
        // More than both files hold: a reader that is late gets the newest part, whole records.
        let piece = |number: u32| number.to_le_bytes().repeat(2000);
        let last = 300;
        (0..=last).for_each(|number| log.append(Source::Stdout, &piece(number)));
        let mut seen = Vec::new();
        loop {
            let records = log.read(&mut at);
            if records.is_empty() {
                break;
            }
            seen.extend(records.into_iter().map(|record| record.data));
        }
        let first = last + 1 - u32::try_from(seen.len()).expect("few");
        assert!(first > 100 && seen.len() > 60, "{}", seen.len());
        let all: Vec<_> = (first..=last).map(piece).collect();
        assert!(seen == all);
        let kept: u64 = ["log", "log.old"]
            .iter()
            .map(|name| fs::metadata(dir.path().join(name)).expect("there").len())
            .sum();
        assert!(kept < 2 * FILE_BYTES + 20_000, "{kept}");
        assert!(!*log.follow().borrow());
        log.end();
        assert!(*log.follow().borrow());
    }
}

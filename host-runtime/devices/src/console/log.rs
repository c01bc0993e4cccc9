//! The guest's console log: passed on as it comes up to a bound, so that no guest fills the host's disk,
//! and its tail kept for the exit sentence.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// How much of the log is kept for the exit sentence, in bytes.
const TAIL: usize = 16 * 1024;
/// How much of the log is passed on, in bytes.
const MOST: usize = 16 << 20;
/// What stands in the log where that was reached.
const FULL: &[u8] =
    b"nacre-vmm: this log is full (16 MiB); what the guest writes further is left out\n";
/// How much of a panic is quoted, in characters.
const QUOTE: usize = 600;

/// The console log, written by the serial port and the virtio console.
#[derive(Debug)]
pub struct ConsoleLog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: File,
    /// Bytes of an unfinished line, so that the target sees whole lines in one write.
    line: Vec<u8>,
    tail: VecDeque<u8>,
    /// How many more bytes the target gets.
    left: usize,
}

impl ConsoleLog {
    /// A log that goes to `target`.
    #[must_use]
    pub fn new(target: File) -> Self {
        Self {
            inner: Mutex::new(Inner {
                target,
                line: Vec::new(),
                tail: VecDeque::new(),
                left: MOST,
            }),
        }
    }

    /// Appends what the guest wrote.
    pub fn write(&self, bytes: &[u8]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if inner.tail.len() == TAIL {
                inner.tail.pop_front();
            }
            inner.tail.push_back(*byte);
            inner.line.push(*byte);
            if *byte == b'\n' || inner.line.len() >= 1024 {
                inner.flush();
            }
        }
    }

    /// Passes on an unfinished line.
    pub fn flush(&self) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush();
    }

    /// The panic message at the end of the log, on one line.
    #[must_use]
    pub fn panic_message(&self) -> String {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let tail: Vec<u8> = inner.tail.iter().copied().collect();
        panic_message(&String::from_utf8_lossy(&tail))
    }
}

impl Inner {
    fn flush(&mut self) {
        if self.left > 0 {
            self.left = self.left.saturating_sub(self.line.len());
            let last = if self.left == 0 { FULL } else { b"" };
            // A log that cannot be written must not stop the guest.
            let written = self.target.write_all(&self.line);
            let _ = written.and_then(|()| self.target.write_all(last));
        }
        self.line.clear();
    }
}

/// What a guest kernel writes after its panic message: addresses, for who has the kernel's symbols.
const CALLS: &str = "called from";

/// The last line that speaks of a panic and the two after it, without the calls that led there; else the last line.
fn panic_message(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_panic = |line: &&str| line.to_lowercase().contains("panic");
    let quoted = match lines.iter().rposition(is_panic) {
        Some(at) => lines[at..]
            .iter()
            .take(3)
            .copied()
            .take_while(|line| !line.starts_with(CALLS))
            .collect::<Vec<_>>()
            .join("; "),
        None => lines
            .last()
            .map_or_else(|| "it left no message".to_owned(), |l| (*l).to_owned()),
    };
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    quoted.chars().map(printable).take(QUOTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_writes_for_ever_does_not_fill_the_host() {
        let file = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(file.expect("memory"));
        let log = ConsoleLog::new(file.try_clone().expect("a descriptor"));
        let line = [b"x".repeat(1000), b"\n".to_vec()].concat();
        for _ in 0..MOST / line.len() + 1000 {
            log.write(&line);
        }
        log.write(b"kernel panic: out of cheese\ncalled from, as image+: 0x1 0x2\n");
        let length = usize::try_from(file.metadata().expect("a file").len()).expect("it fits");
        assert!((MOST..MOST + 2048).contains(&length), "{length} bytes");
        assert_eq!(log.panic_message(), "kernel panic: out of cheese");
    }

    #[test]
    fn a_panic_is_found_at_the_end() {
        let log = "nacre: 256 MiB\nkernel panicked at kernel/machine/src/x.rs:3:\nout of cheese\n";
        let message = panic_message(log);
        assert_eq!(
            message,
            "kernel panicked at kernel/machine/src/x.rs:3:; out of cheese"
        );
        assert_eq!(panic_message("one\ntwo\n\n"), "two");
        assert_eq!(panic_message(""), "it left no message");
    }
}

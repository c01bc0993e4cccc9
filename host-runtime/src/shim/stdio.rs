//! A process's stdio: containerd's FIFOs on one side, streams to the guest on the other.
//!
//! One thread a direction. The shim holds both ends of every FIFO, as containerd's own shim does, so
//! that a client may come and go (`ctr task attach`); stdin ends when containerd says CloseIO.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::ShimError;
use crate::agent::Agent;
use crate::pump;

/// Where a process's stdio is on the host; an empty path is /dev/null in the guest. Outputs may be `file://` URIs.
#[derive(Debug, Clone, Default)]
pub(super) struct StdioPaths {
    pub(super) terminal: bool,
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl StdioPaths {
    /// Refuses by name what cannot be written to or read from.
    pub(super) fn check(&self) -> Result<(), ShimError> {
        Target::of(&self.stdout)?;
        Target::of(&self.stderr)?;
        match Target::of(&self.stdin)? {
            Target::File(path) => Err(ShimError::Unsupported {
                what: format!("stdin from the file {path}"),
            }),
            Target::Nothing | Target::Fifo(_) => Ok(()),
        }
    }
}

/// What a path or URI of containerd's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Nothing,
    Fifo(&'a str),
    /// A log, to be appended to.
    File(&'a str),
}

impl<'a> Target<'a> {
    fn of(address: &'a str) -> Result<Self, ShimError> {
        let target = match address.split_once("://") {
            None if address.is_empty() => Self::Nothing,
            None => Self::Fifo(address),
            Some(("fifo", path)) => Self::Fifo(path),
            Some(("file", path)) => Self::File(path),
            Some((scheme, _)) => {
                return Err(ShimError::Unsupported {
                    what: format!("stdio by {scheme}: ({address})"),
                });
            }
        };
        match target {
            // A query or an escape would be part of the name.
            Self::Fifo(path) | Self::File(path)
                if !path.starts_with('/')
                    || address.contains("://") && path.contains(['?', '%']) =>
            {
                Err(ShimError::Invalid {
                    what: format!("{address:?} does not name an absolute path for stdio"),
                })
            }
            target => Ok(target),
        }
    }
}

/// The tokens that a StartProcess request names.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) stdin: u64,
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

/// The copying threads of one process.
#[derive(Debug, Default)]
pub(super) struct Stdio {
    stdin: Mutex<Stdin>,
    outputs: Arc<Outputs>,
}

/// Whether more input may come.
#[derive(Debug, Default)]
enum Stdin {
    /// The FIFO has not been opened.
    #[default]
    Unopened,
    /// The shim's own write end of the FIFO keeps it from ending when a client goes.
    Held(#[expect(dead_code, reason = "held, not used")] File),
    /// CloseIO: it ends with what the client has written. May come before the start has got that far.
    Closed,
}

/// Counts the output streams that still have bytes to bring.
#[derive(Debug, Default)]
struct Outputs {
    open: Mutex<usize>,
    closed: Condvar,
}

impl Stdio {
    /// Opens the streams and starts the threads.
    pub(super) fn open(&self, agent: &Agent, paths: &StdioPaths) -> Result<Tokens, ShimError> {
        let mut tokens = Tokens::default();
        if let Target::Fifo(path) = Target::of(&paths.stdin)? {
            let fifo = open_fifo(path, true, false)?;
            self.hold(path)?;
            rustix::fs::fcntl_setfl(&fifo, rustix::fs::OFlags::empty())
                .map_err(|errno| ShimError::file("read", path)(errno.into()))?;
            let stream = agent.open_stream()?;
            tokens.stdin = stream.token;
            spawn("stdin", move || copy_in(&fifo, &stream.stream))?;
        }
        tokens.stdout = self.output(agent, "stdout", &paths.stdout)?;
        if !paths.terminal {
            tokens.stderr = self.output(agent, "stderr", &paths.stderr)?;
        }
        Ok(tokens)
    }

    /// Keeps stdin open, unless the client has ended it already.
    fn hold(&self, path: &str) -> Result<(), ShimError> {
        let mut stdin = lock(&self.stdin);
        if !matches!(*stdin, Stdin::Closed) {
            *stdin = Stdin::Held(open_fifo(path, false, true)?);
        }
        Ok(())
    }

    fn output(&self, agent: &Agent, name: &str, path: &str) -> Result<u64, ShimError> {
        let output = match Target::of(path)? {
            Target::Nothing => return Ok(0),
            Target::Fifo(path) => {
                let fifo = open_fifo(path, true, true)?;
                rustix::fs::fcntl_setfl(&fifo, rustix::fs::OFlags::empty())
                    .map_err(|errno| ShimError::file("write", path)(errno.into()))?;
                fifo
            }
            Target::File(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(ShimError::file("open", path))?,
        };
        let stream = agent.open_stream()?;
        let outputs = Arc::clone(&self.outputs);
        *lock(&outputs.open) += 1;
        spawn(name, move || {
            copy_out(stream.stream, output);
            *lock(&outputs.open) -= 1;
            outputs.closed.notify_all();
        })?;
        Ok(stream.token)
    }

    /// Lets stdin end once the client has closed its side too.
    pub(super) fn close_stdin(&self) {
        *lock(&self.stdin) = Stdin::Closed;
    }

    /// Waits until all output has reached the FIFOs, at most for `bound`: a reader that has gone
    /// must not keep a container from ending.
    pub(super) fn wait_outputs(&self, bound: Duration) {
        let deadline = Instant::now() + bound;
        let mut open = lock(&self.outputs.open);
        while *open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            open = self
                .outputs
                .closed
                .wait_timeout(open, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        }
    }
}

/// From the FIFO to the guest until every writer is gone.
fn copy_in(fifo: &File, stream: &UnixStream) {
    // A guest that closed its end has had enough; what is left in the FIFO has no reader.
    let _ = pump::copy(fifo, stream);
    let _ = stream.shutdown(Shutdown::Write);
}

/// From the guest to the FIFO until the guest closes. The bytes of a FIFO that breaks are read and dropped,
/// so that the process in the guest is not stopped by it.
fn copy_out(mut stream: UnixStream, fifo: File) {
    if pump::copy(&stream, fifo).is_err() {
        let _ = io::copy(&mut stream, &mut io::sink());
    }
}

fn open_fifo(path: &str, read: bool, write: bool) -> Result<File, ShimError> {
    OpenOptions::new()
        .read(read)
        .write(write)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(ShimError::file("open", path))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ShimError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|source| ShimError::System {
            what: "start a stdio thread",
            source,
        })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The values are valid at every step; a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{StdioPaths, Target};

    #[test]
    fn addresses_name_fifos_and_logs() {
        for (address, target) in [
            ("", Target::Nothing),
            ("/run/f?o", Target::Fifo("/run/f?o")),
            ("fifo:///run/fifo", Target::Fifo("/run/fifo")),
            ("file:///var/log/c", Target::File("/var/log/c")),
        ] {
            assert_eq!(Target::of(address).unwrap(), target);
        }
    }

    #[test]
    fn what_cannot_be_written_to_is_refused_by_name() {
        for (address, word) in [
            ("binary:///bin/logger?id=1", "binary"),
            ("npipe://x", "npipe"),
            ("relative", "relative"),
            ("file://log", "file://log"),
            ("file:///a%20b", "a%20b"),
        ] {
            let paths = StdioPaths {
                stderr: address.to_owned(),
                ..Default::default()
            };
            let said = paths.check().expect_err(word).to_string();
            assert!(said.contains(word), "{said}");
        }
        let paths = StdioPaths {
            stdin: "file:///etc/passwd".to_owned(),
            ..Default::default()
        };
        assert!(paths.check().is_err());
    }
}

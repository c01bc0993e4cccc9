//! A process's stdio as containerd names it: FIFOs and logs.
//!
//! The shim holds both ends of every FIFO, as containerd's own shim does, so that a client may come and go
//! (`ctr task attach`); stdin ends when containerd says CloseIO. The pod moves the bytes.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::OciError;
use pod::{Broken, Ends};

use super::error::ShimError;

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
            Target::File(path) => Err(OciError::Unsupported {
                what: format!("stdin from the file {path}"),
            }
            .into()),
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
                return Err(OciError::Unsupported {
                    what: format!("stdio by {scheme}: ({address})"),
                }
                .into());
            }
        };
        match target {
            // A query or an escape would be part of the name.
            Self::Fifo(path) | Self::File(path)
                if !path.starts_with('/')
                    || address.contains("://") && path.contains(['?', '%']) =>
            {
                Err(OciError::Invalid {
                    what: format!("{address:?} does not name an absolute path for stdio"),
                }
                .into())
            }
            target => Ok(target),
        }
    }
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

/// One process's stdio, as containerd named it.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) paths: StdioPaths,
    stdin: Mutex<Stdin>,
}

impl Stdio {
    /// Nothing is opened yet.
    pub(super) fn new(paths: StdioPaths) -> Self {
        let stdin = Mutex::default();
        Self { paths, stdin }
    }

    /// Opens what the process will be started with.
    pub(super) fn open(&self) -> Result<Ends, ShimError> {
        let stdin = match Target::of(&self.paths.stdin)? {
            Target::Fifo(path) => {
                let fifo = open_fifo(path, true, false)?;
                self.hold(path)?;
                Some(blocking(fifo, path)?)
            }
            Target::Nothing | Target::File(_) => None,
        };
        let stderr = match self.paths.terminal {
            true => None,
            false => output(&self.paths.stderr)?,
        };
        Ok(Ends {
            stdin,
            stdout: output(&self.paths.stdout)?,
            stderr,
            // The process in the guest is not stopped by a log that breaks.
            broken: Broken::Drop,
            window: None,
        })
    }

    /// Keeps stdin open, unless the client has ended it already.
    fn hold(&self, path: &str) -> Result<(), ShimError> {
        let mut stdin = self.lock();
        if !matches!(*stdin, Stdin::Closed) {
            *stdin = Stdin::Held(open_fifo(path, false, true)?);
        }
        Ok(())
    }

    /// Lets stdin end once the client has closed its side too.
    pub(super) fn close_stdin(&self) {
        *self.lock() = Stdin::Closed;
    }

    fn lock(&self) -> MutexGuard<'_, Stdin> {
        // The value is valid at every step; a panic elsewhere does not spoil it.
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens an output, a FIFO for both directions: without a reader it neither waits nor breaks.
fn output(address: &str) -> Result<Option<OwnedFd>, ShimError> {
    match Target::of(address)? {
        Target::Nothing => Ok(None),
        Target::Fifo(path) => blocking(open_fifo(path, true, true)?, path).map(Some),
        Target::File(path) => {
            let log = OpenOptions::new().append(true).create(true).open(path);
            log.map(|log| Some(log.into()))
                .map_err(ShimError::file("open", path))
        }
    }
}

fn blocking(fifo: File, path: &str) -> Result<OwnedFd, ShimError> {
    rustix::fs::fcntl_setfl(&fifo, rustix::fs::OFlags::empty())
        .map_err(|errno| ShimError::file("use", path)(errno.into()))?;
    Ok(fifo.into())
}

fn open_fifo(path: &str, read: bool, write: bool) -> Result<File, ShimError> {
    OpenOptions::new()
        .read(read)
        .write(write)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(ShimError::file("open", path))
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

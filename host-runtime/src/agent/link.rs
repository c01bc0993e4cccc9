//! What leads to a guest: the seam between the agent's client and the machine it runs in.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, SandboxError};

/// Opens byte streams to the vsock ports of one guest.
pub trait GuestLink: Send + Sync {
    /// Connects to a port, waiting until the guest listens, at most for `bound`.
    ///
    /// # Errors
    /// When the guest ends or does not listen in time.
    fn connect(&self, port: u32, bound: Duration) -> Result<UnixStream, SandboxError>;
}

impl GuestLink for Sandbox {
    fn connect(&self, port: u32, bound: Duration) -> Result<UnixStream, SandboxError> {
        self.connect_within(port, bound)
    }
}

/// An agent on this host, listening on `DIR/PORT.sock`: the fake beside the trait, for tests.
#[derive(Debug)]
pub struct UnixLink {
    dir: PathBuf,
}

impl UnixLink {
    /// The agent that was started with `--listen DIR`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl GuestLink for UnixLink {
    fn connect(&self, port: u32, bound: Duration) -> Result<UnixStream, SandboxError> {
        let begun = Instant::now();
        let path = self.dir.join(format!("{port}.sock"));
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(stream),
                Err(error) if begun.elapsed() >= bound => {
                    return Err(SandboxError::Connect {
                        port,
                        waited: bound,
                        last: error.to_string(),
                    });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

//! An agent on this host in place of a microVM's: the double beside the trait, for tests.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use host_machine::{Attachment, ExitReason, Machine, MachineError, Stats, Timings};

/// The agent that was started with `--listen DIR`, which has a socket for each port there.
#[derive(Debug)]
pub struct LocalMachine {
    dir: PathBuf,
}

impl LocalMachine {
    /// The agent that listens in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl Machine for LocalMachine {
    fn connect(&self, port: u32, bound: Duration) -> Result<UnixStream, MachineError> {
        let begun = Instant::now();
        let path = self.dir.join(format!("{port}.sock"));
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(stream),
                Err(error) if begun.elapsed() >= bound => {
                    return Err(MachineError::Connect {
                        port,
                        waited: bound,
                        last: error.to_string(),
                    });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The agent is the test's, and so is its end: as a machine it goes on.
    fn wait(&self, _: Option<Duration>) -> Option<ExitReason> {
        None
    }

    fn kill(&self) -> ExitReason {
        ExitReason::Stopped
    }

    fn pause(&self) -> Result<(), MachineError> {
        Err(no("pause"))
    }

    fn resume(&self) -> Result<(), MachineError> {
        Err(no("resume"))
    }

    fn stats(&self) -> Result<Stats, MachineError> {
        Ok(Stats::default())
    }

    fn attach(&self, what: Attachment) -> Result<(), MachineError> {
        Err(no(&what.name()))
    }

    fn detach(&self, what: Attachment) -> Result<(), MachineError> {
        Err(no(&what.name()))
    }

    fn timings(&self) -> Timings {
        Timings::default()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }
}

fn no(what: &str) -> MachineError {
    MachineError::Refused {
        sentence: format!("an agent on this host is no machine: {what}"),
    }
}

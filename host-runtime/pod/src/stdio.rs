//! The host's ends of a process's standard streams, and the threads that move bytes between them and the guest.
//!
//! One thread a direction; each ends when either side does. Nothing here wakes while nothing moves.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_protocol::{StartProcessRequest, WindowSize, pump};
use rustix::io::Errno;

use crate::agent::{Agent, AgentError, StdioStream};
use crate::error::PodError;
use crate::log::{PodLog, Source};

/// Where a process's streams go on the host; what is `None` is `/dev/null` in the guest.
#[derive(Debug)]
pub struct Ends {
    /// Read by the process.
    pub stdin: Option<OwnedFd>,
    /// Written by it, terminal or not.
    pub stdout: Option<OwnedFd>,
    /// Written by a process without a terminal.
    pub stderr: Option<OwnedFd>,
    /// What an output means that takes no more.
    pub broken: Broken,
    /// Rows and columns of its terminal, if it has one.
    pub window: Option<(u32, u32)>,
}

/// What becomes of a process whose output takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It meets a broken pipe of its own, as it would without a microVM.
    HangUp,
    /// What it writes is dropped: who reads a log may come and go.
    Drop,
}

/// How long output is waited for once its process has ended.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// At most for so long without a byte.
    pub silence: Duration,
    /// At most for so long in all.
    pub most: Duration,
}

/// The streams of one process, as the agent was told of them.
#[derive(Debug)]
pub(crate) struct Streams {
    stdin: Option<StdioStream>,
    stdout: Option<StdioStream>,
    stderr: Option<StdioStream>,
}

impl Streams {
    /// Opens a stream for each end that there is, and names them in the request.
    pub(crate) fn open(
        agent: &Agent,
        ends: &Ends,
        request: &mut StartProcessRequest,
    ) -> Result<Self, AgentError> {
        let open = |end: &Option<OwnedFd>| end.as_ref().map(|_| agent.open_stream()).transpose();
        let streams = Self {
            stdin: open(&ends.stdin)?,
            stdout: open(&ends.stdout)?,
            stderr: match request.terminal {
                true => None,
                false => open(&ends.stderr)?,
            },
        };
        let token = |stream: &Option<StdioStream>| stream.as_ref().map_or(0, |open| open.token);
        request.stdin_token = token(&streams.stdin);
        request.stdout_token = token(&streams.stdout);
        request.stderr_token = token(&streams.stderr);
        if let Some((rows, columns)) = ends.window {
            let size = WindowSize {
                rows,
                columns,
                ..Default::default()
            };
            request.window_size = Some(size).into();
        }
        Ok(streams)
    }

    /// Starts moving bytes between the streams and their ends.
    pub(crate) fn connect(
        self,
        ends: Ends,
        outputs: &Outputs,
        log: Option<&Arc<PodLog>>,
    ) -> Result<(), PodError> {
        let kept = |source| log.map(|log| (Arc::clone(log), source));
        if let (Some(stream), Some(end)) = (self.stdin, ends.stdin) {
            thread("stdin", move || copy_in(&end, &stream.stream))?;
        }
        if let (Some(stream), Some(end)) = (self.stdout, ends.stdout) {
            let kept = kept(Source::Stdout);
            outputs.add_kept("stdout", stream.stream, end, ends.broken, kept)?;
        }
        if let (Some(stream), Some(end)) = (self.stderr, ends.stderr) {
            let kept = kept(Source::Stderr);
            outputs.add_kept("stderr", stream.stream, end, ends.broken, kept)?;
        }
        Ok(())
    }
}

/// Follows the outputs of one process.
#[derive(Debug, Default, Clone)]
pub struct Outputs {
    shared: Arc<(Mutex<Progress>, Condvar)>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Streams that may still bring bytes.
    open: usize,
    /// Pieces passed on so far.
    moved: u64,
    /// The first output that took no more, when that was no reader's leaving.
    failure: Option<Errno>,
    /// The guest's ends, to be hung up.
    streams: Vec<Arc<UnixStream>>,
}

impl Outputs {
    /// Moves one output's bytes from now on, on a thread.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn add(
        &self,
        name: &'static str,
        from: UnixStream,
        to: OwnedFd,
        broken: Broken,
    ) -> Result<(), PodError> {
        self.add_kept(name, from, to, broken, None)
    }

    /// The same, with a copy of it all for a log.
    fn add_kept(
        &self,
        name: &'static str,
        from: UnixStream,
        to: OwnedFd,
        broken: Broken,
        kept: Option<(Arc<PodLog>, Source)>,
    ) -> Result<(), PodError> {
        let from = Arc::new(from);
        {
            let mut progress = self.lock();
            progress.open += 1;
            progress.streams.push(Arc::clone(&from));
        }
        let outputs = self.clone();
        let moved = thread(name, move || {
            let copied = pump::copy(&*from, &to, |bytes| {
                if let Some((log, source)) = &kept {
                    log.append(*source, bytes);
                }
                outputs.note(|progress| progress.moved += 1);
            });
            let failure = copied.err().and_then(|errno| give_up(&from, broken, errno));
            drop(to);
            outputs.note(|progress| {
                progress
                    .streams
                    .retain(|stream| !Arc::ptr_eq(stream, &from));
                progress.open -= 1;
                progress.failure = progress.failure.or(failure);
            });
        });
        moved.inspect_err(|_| self.lock().open -= 1)
    }

    /// Takes no more: what the process writes meets a broken pipe, and its terminal hangs up.
    pub(crate) fn hang_up(&self) {
        for stream in &self.lock().streams {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until all has been passed on.
    ///
    /// # Errors
    /// [`PodError::OutputStuck`], [`PodError::Output`].
    pub fn wait(&self, patience: Patience) -> Result<(), PodError> {
        let begun = Instant::now();
        let (mut heard, mut moved) = (begun, self.lock().moved);
        let mut progress = self.lock();
        while progress.open > 0 {
            if progress.moved != moved {
                (heard, moved) = (Instant::now(), progress.moved);
            }
            let silence = patience.silence.saturating_sub(heard.elapsed());
            let left = silence.min(patience.most.saturating_sub(begun.elapsed()));
            if left.is_zero() {
                let waited = begun.elapsed();
                return Err(PodError::OutputStuck { waited });
            }
            let waited = self.shared.1.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match progress.failure {
            None => Ok(()),
            Some(errno) => Err(PodError::Output {
                source: errno.into(),
            }),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // The numbers are right at every step; a panic elsewhere does not spoil them.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the host's end to the guest until that ends; its end becomes the process's.
fn copy_in(from: &OwnedFd, to: &UnixStream) {
    // A guest that closed its end has had enough.
    let _ = pump::copy(from, to, |_| {});
    let _ = to.shutdown(Shutdown::Write);
}

/// Nobody takes this output any more. Says what was lost: a reader that has gone wants nothing, but anything else
/// loses what the process may think it has written.
fn give_up(from: &UnixStream, broken: Broken, errno: Errno) -> Option<Errno> {
    match broken {
        Broken::HangUp => {
            let _ = from.shutdown(Shutdown::Both);
        }
        Broken::Drop => {
            let mut from = from;
            let _ = io::copy(&mut from, &mut io::sink());
        }
    }
    (errno != Errno::PIPE).then_some(errno)
}

fn thread(what: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), PodError> {
    let thread = std::thread::Builder::new().name(what.to_owned());
    let spawned = thread.spawn(work).map(drop);
    spawned.map_err(|source| PodError::Thread { what, source })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SHORT: Patience = Patience {
        silence: Duration::from_millis(20),
        most: Duration::from_secs(60),
    };

    #[test]
    fn output_that_does_not_end_is_told_and_output_that_cannot_be_written_too() {
        let outputs = Outputs::default();
        let (mut guest, stream) = UnixStream::pair().expect("a socket pair");
        let (_reader, writer) = io::pipe().expect("a pipe");
        let end = OwnedFd::from(writer);
        outputs
            .add("stdout", stream, end, Broken::HangUp)
            .expect("a thread");
        guest.write_all(b"words").expect("room");
        let stuck = outputs.wait(SHORT).expect_err("it is silent");
        assert!(matches!(stuck, PodError::OutputStuck { .. }), "{stuck}");
        drop(guest);
        let long = Patience {
            silence: SHORT.most,
            ..SHORT
        };
        outputs.wait(long).expect("it has ended");

        let (mut guest, stream) = UnixStream::pair().expect("a socket pair");
        let full = std::fs::File::options().write(true).open("/dev/full");
        let full = full.expect("/dev/full").into();
        outputs
            .add("stdout", stream, full, Broken::Drop)
            .expect("a thread");
        guest.write_all(b"lost").expect("room");
        drop(guest);
        let lost = outputs.wait(long).expect_err("the words are lost");
        assert!(matches!(lost, PodError::Output { .. }), "{lost}");
    }
}

//! Stdio streams: taking them from the host, and moving bytes between them and a process.
//!
//! A process gets pipes or a terminal, never the stream itself, so that programs that look at
//! their descriptors see what they see under any other runtime. Each direction is one small
//! thread that ends when either side does.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_protocol::{FailureKind, TOKEN_LEN, pump};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

use crate::refusal::{Answer, Refusal};

/// How long a started process waits for a stream that the host opened before it asked.
const CLAIM_BOUND: Duration = Duration::from_secs(10);
/// How long an accepted stream may take to say its token.
const TOKEN_BOUND: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
/// How many streams may wait for their process.
const WAITING_MOST: usize = 256;
/// Stack of a thread that moves bytes: its buffer is on the heap.
const PUMP_STACK: usize = 64 * 1024;

/// The streams that the host has opened and no process has claimed yet.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    waiting: Mutex<HashMap<u64, OwnedFd>>,
    arrived: Condvar,
}

impl Streams {
    /// Takes streams off the listener for ever.
    pub(crate) fn accept_all(&self, listener: &OwnedFd) -> Errno {
        loop {
            match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(stream) => self.admit(stream),
                Err(Errno::INTR | Errno::CONNABORTED | Errno::AGAIN) => {}
                Err(errno) => return errno,
            }
        }
    }

    /// Reads a stream's token; a stream that has none is dropped, which the host sees.
    fn admit(&self, stream: OwnedFd) {
        let mut ready = [PollFd::new(&stream, PollFlags::IN)];
        if !matches!(rustix::event::poll(&mut ready, Some(&TOKEN_BOUND)), Ok(1)) {
            return;
        }
        let mut stream = std::fs::File::from(stream);
        let mut token = [0; TOKEN_LEN];
        if stream.read_exact(&mut token).is_err() {
            return;
        }
        let mut waiting = self.lock();
        if waiting.len() < WAITING_MOST {
            waiting.insert(u64::from_le_bytes(token), stream.into());
            self.arrived.notify_all();
        }
    }

    /// The stream of that token; `None` for token 0, which is `/dev/null`.
    pub(crate) fn claim(&self, token: u64, name: &str) -> Answer<Option<OwnedFd>> {
        if token == 0 {
            return Ok(None);
        }
        let deadline = Instant::now() + CLAIM_BOUND;
        let mut waiting = self.lock();
        loop {
            if let Some(stream) = waiting.remove(&token) {
                return Ok(Some(stream));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let sentence = format!(
                    "waited {} s for the host's stream for {name}",
                    CLAIM_BOUND.as_secs()
                );
                return Err(Refusal::new(FailureKind::FAILURE_KIND_TIMEOUT, sentence));
            }
            let waited = self.arrived.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, OwnedFd>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves bytes from the host to a process until either ends. A pipe then reads as ended; a
/// terminal stays as it is, as one does whose user types nothing more.
pub(crate) fn pump_in(from: Arc<OwnedFd>, to: impl AsFd + Send + 'static) -> Answer<()> {
    spawn("stdin", move || {
        // Whichever side ended it, the stream has ended.
        let _ = pump::copy(from.as_fd(), to.as_fd(), |_| {});
        // Told at once, the host need not send what nobody will read.
        let _ = rustix::net::shutdown(&*from, Shutdown::Both);
    })
}

/// Moves bytes from a process to the host until either ends. The host then reads the end; the
/// process, if it was the host that ended, meets a closed pipe or a terminal that hung up.
pub(crate) fn pump_out(
    name: &'static str,
    from: impl AsFd + Send + 'static,
    to: OwnedFd,
) -> Answer<()> {
    spawn(name, move || {
        // Whichever side ended it, the stream has ended.
        let _ = pump::copy(from.as_fd(), to.as_fd(), |_| {});
        drop(from);
        let _ = rustix::net::shutdown(&to, Shutdown::Both);
    })
}

/// As [`pump_out`], from a terminal: when the host ended it, `hang_up` is called, which lets go of the master, and so does
/// whoever reads `stdin`.
pub(crate) fn pump_terminal(
    master: Arc<OwnedFd>,
    to: OwnedFd,
    stdin: Option<Arc<OwnedFd>>,
    hang_up: impl FnOnce() + Send + 'static,
) -> Answer<()> {
    spawn("terminal", move || {
        let copied = pump::copy_while_read(master.as_fd(), to.as_fd());
        drop(master);
        if copied.is_err() {
            hang_up();
            if let Some(stdin) = &stdin {
                end_stdin(stdin);
            }
        }
        let _ = rustix::net::shutdown(&to, Shutdown::Both);
    })
}

/// Ends a process's stdin from this side.
pub(crate) fn end_stdin(stream: &OwnedFd) {
    // It may have ended by itself.
    let _ = rustix::net::shutdown(stream, Shutdown::Read);
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Answer<()> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(PUMP_STACK);
    thread.spawn(work).map(drop).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
        Refusal::system(format!("start a thread for {name}"), errno)
    })
}

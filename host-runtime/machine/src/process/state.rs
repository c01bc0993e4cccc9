//! What the owner's threads and the event reader share: one lock, one condition variable.
//!
//! The reader thread takes the VMM's events until the channel hangs up, reaps the process and then
//! settles the exit reason, so that whoever sees a reason also knows that the process is gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::bounds;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::ClockId;

use super::worker::Worker;
use crate::control::{self, Event, MAX_MESSAGE, Message, Reply};
use crate::printing::printable;
use crate::{CgroupLeaf, ExitReason, MachineError, Phase, Timings, cgroup};

/// How many bytes of the VMM's last words are read.
const SAID: usize = 4096;

/// How a bounded wait ended.
pub(super) enum Waited<T> {
    Done(T),
    Ended(ExitReason),
    TimedOut,
}

/// The state behind a machine.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// What the VMM says outside of the channel: its C library's last words, for one.
    said: OwnedFd,
    /// Who says it.
    program: &'static str,
    /// Where the host's out-of-memory killer is counted.
    oom: Option<PathBuf>,
    /// When the start was asked for, by `CLOCK_MONOTONIC`, which the VMM shares.
    started_ns: u64,
}

#[derive(Debug)]
struct State {
    worker: Worker,
    timings: Timings,
    next_call: u64,
    /// The answers to calls that someone still waits for.
    calls: HashMap<u64, Option<Result<Reply, String>>>,
    reported: Option<ExitReason>,
    exit: Option<ExitReason>,
    killed_by_owner: bool,
}

impl Shared {
    pub(super) fn new(
        started: Instant,
        program: &'static str,
        child: Child,
        said: OwnedFd,
        leaf: Option<&CgroupLeaf>,
    ) -> Self {
        let ago = u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
        let state = State {
            worker: Worker::new(child),
            timings: Timings::default(),
            next_call: 0,
            calls: HashMap::new(),
            reported: None,
            exit: None,
            killed_by_owner: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            said,
            program,
            oom: leaf.and_then(|leaf| leaf.oom.clone()),
            started_ns: monotonic_ns().saturating_sub(ago),
        }
    }

    pub(super) fn wait_phase(&self, phase: Phase, bound: Duration) -> Waited<()> {
        self.wait_for(bound, |state| state.timings.get(phase).map(|_| ()))
    }

    pub(super) fn new_call(&self) -> u64 {
        let mut state = self.lock();
        state.next_call += 1;
        let id = state.next_call;
        state.calls.insert(id, None);
        id
    }

    pub(super) fn wait_answer(&self, id: u64, bound: Duration) -> Waited<Result<Reply, String>> {
        let waited = self.wait_for(bound, |state| {
            state.calls.get_mut(&id).and_then(Option::take)
        });
        self.lock().calls.remove(&id);
        waited
    }

    /// How the microVM ended, waiting for that at most for `bound` if there is one.
    pub(super) fn wait_exit(&self, bound: Option<Duration>) -> Option<ExitReason> {
        let Some(bound) = bound else {
            return Some(self.wait_end());
        };
        match self.wait_for(bound, |_| None::<()>) {
            Waited::Ended(reason) => Some(reason),
            Waited::Done(()) | Waited::TimedOut => None,
        }
    }

    pub(super) fn wait_end(&self) -> ExitReason {
        let mut state = self.lock();
        loop {
            if let Some(reason) = &state.exit {
                return reason.clone();
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn timings(&self) -> Timings {
        self.lock().timings.clone()
    }

    /// How far the guest came, as the end of a sentence.
    pub(super) fn progress(&self) -> String {
        match self.lock().timings.iter().last() {
            Some((phase, _)) => format!(
                "PID 1 has not started, the last phase was `{}`",
                phase.name()
            ),
            None => "the VMM has not reported anything yet".to_owned(),
        }
    }

    /// Kills the VMM unless it has been reaped.
    pub(super) fn kill(&self) {
        let mut state = self.lock();
        if state.exit.is_none() {
            state.killed_by_owner = true;
            // It is reaped under this lock only, so the pid is still ours.
            let _ = state.worker.kill();
        }
    }

    /// The process that is the machine.
    pub(super) fn pid(&self) -> u32 {
        self.lock().worker.pid()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` gives something, the microVM ends or the bound is over.
    fn wait_for<T>(&self, bound: Duration, ready: impl Fn(&mut State) -> Option<T>) -> Waited<T> {
        let deadline = Instant::now() + bound;
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&mut state) {
                return Waited::Done(value);
            }
            if let Some(reason) = &state.exit {
                return Waited::Ended(reason.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn apply(&self, message: Message) {
        let mut state = self.lock();
        match message {
            Message::Answer { id, reply } => {
                // Nobody waits any more for an answer that came too late.
                if let Some(slot) = state.calls.get_mut(&id) {
                    *slot = Some(reply);
                }
            }
            Message::Event(Event::Phase { phase, ns }) => {
                let at = Duration::from_nanos(ns.saturating_sub(self.started_ns));
                state.timings.note(phase, at);
            }
            Message::Event(Event::Moved { pid }) => state.worker.moved(pid),
            Message::Event(Event::Exit { reason }) => state.reported = Some(reason),
        }
        self.changed.notify_all();
    }

    /// Reaps the VMM and settles how the microVM ended.
    fn settle(&self) {
        let status = self.reap();
        wait_hang_up(&self.said);
        let said = last_words(&self.said);
        if !said.is_empty() {
            tracing::warn!("{}: {said}", self.program);
        }
        let mut state = self.lock();
        let since_start = monotonic_ns().saturating_sub(self.started_ns);
        state
            .timings
            .note(Phase::Exit, Duration::from_nanos(since_start));
        let reason = match state.reported.take() {
            Some(reason) => reason,
            None if state.killed_by_owner => ExitReason::Stopped,
            None => reason_of(status, &said),
        };
        let has_oom_kills = || self.oom.as_deref().is_some_and(cgroup::has_oom_kills);
        let reason = reason.knowing(has_oom_kills);
        tracing::debug!("the microVM has ended: {reason}");
        state.exit = Some(reason);
        self.changed.notify_all();
    }

    /// Waits for the child without holding the lock while it still runs.
    fn reap(&self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + bounds::MACHINE_REAP.get();
        loop {
            let mut state = self.lock();
            if let Some(status) = state.worker.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                state.worker.kill()?;
            }
            drop(state);
            // The channel has hung up: the process is on its way out.
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Starts the thread that follows the VMM's events to its end.
pub(super) fn spawn_reader(
    shared: &Arc<Shared>,
    control: OwnedFd,
) -> Result<JoinHandle<()>, MachineError> {
    let for_reader = Arc::clone(shared);
    let spawned = std::thread::Builder::new()
        .name("vmm-events".to_owned())
        .spawn(move || read_events(&for_reader, &control));
    spawned.map_err(|source| {
        shared.kill();
        // Nobody else is there to reap it.
        let _ = shared.reap();
        MachineError::Channel { source }
    })
}

fn read_events(shared: &Shared, control: &OwnedFd) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        match control::receive::<Message>(control.as_fd(), &mut buffer) {
            Ok(Some((message, _fds))) => shared.apply(message),
            Ok(None) => break,
            Err(_) => {
                // A VMM that speaks nonsense is not to be trusted any further.
                shared.kill();
                break;
            }
        }
    }
    shared.settle();
}

fn reason_of(status: io::Result<ExitStatus>, said: &str) -> ExitReason {
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => ExitReason::VmmKilled { signal },
            (None, code) => ExitReason::VmmFailed {
                message: match (code.unwrap_or(0), said) {
                    (code, "") => format!("it ended with code {code} and gave no reason"),
                    (code, said) => format!("it ended with code {code} and said: {said}"),
                },
            },
        },
        Err(error) => ExitReason::VmmFailed {
            message: format!("it could not be waited for: {error}"),
        },
    }
}

/// Waits until nobody has the pipe's other end: what the VMM started has it, too, and ends with it, but not in the
/// same moment.
fn wait_hang_up(said: &OwnedFd) {
    let bound = Timespec::try_from(bounds::MACHINE_REAP.get()).ok();
    let mut polled = [PollFd::new(said, PollFlags::empty())];
    // Without a hang-up in time there is nothing that could be done but go on.
    let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, bound.as_ref()));
}

/// What is in the pipe, which does not block, as one line.
fn last_words(said: &OwnedFd) -> String {
    let mut bytes = vec![0; SAID];
    let length = rustix::io::read(said, &mut bytes[..]).unwrap_or(0);
    let words = String::from_utf8_lossy(&bytes[..length]).into_owned();
    printable(words.trim_end())
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

//! Tells the parent what happens; shared by all threads of the VMM.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use devices::vsock::Attempts;
use rustix::time::ClockId;

use host_machine::Phase;
use host_machine::control::{self, Event, Message, Reply};

/// The VMM's side of the control channel, for events.
#[derive(Debug)]
pub struct Reporter {
    control: OwnedFd,
    /// One bit a phase that was reported: a guest cannot flood the parent.
    reported: AtomicU32,
}

impl Reporter {
    /// Reports over `control`.
    #[must_use]
    pub fn new(control: OwnedFd) -> Self {
        Self {
            control,
            reported: AtomicU32::new(0),
        }
    }

    /// Reports a phase, the first time only.
    pub fn phase(&self, phase: Phase) {
        let bit = 1 << (phase as u32);
        if self.reported.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let ns = now_ns();
            self.event(Event::Phase { phase, ns });
        }
    }

    /// Tells something unasked.
    pub fn event(&self, event: Event) {
        self.send(&Message::Event(event));
    }

    /// Answers the call of this number.
    pub fn answer(&self, id: u64, reply: Result<Reply, String>) {
        self.send(&Message::Answer { id, reply });
    }

    /// A parent that is gone is seen by the event loop, not here.
    fn send(&self, message: &Message) {
        let _ = control::send(self.control.as_fd(), message, &[]);
    }
}

impl Attempts for Reporter {
    fn connected(&self, attempt: u64) {
        self.phase(Phase::FirstConnection);
        self.answer(attempt, Ok(Reply::Done));
    }

    fn refused(&self, attempt: u64, why: &str) {
        self.answer(attempt, Err(why.to_owned()));
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, which the parent shares.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

//! Places for requests in flight: [`Slot`]s, which are used again and again, and the [`Reserve`], one that is never
//! given to others, for what must be said whether there is memory or not.
//!
//! Locking: `Slots` and `Call::state` are leaf spin locks.

use alloc::sync::Arc;
use core::mem;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::Frame;
use machine::sync::SpinLock;
use machine::virtio::Segment;

use super::message::Own;

/// The server's end of a request: shared by the queue and the thread that waits.
#[derive(Debug, Default)]
pub(super) struct Call {
    state: SpinLock<State>,
}

#[derive(Debug, Default)]
enum State {
    /// A thread waits for the answer, or nothing is asked.
    #[default]
    Attended,
    /// Nobody waits; these segments are the connection's.
    Unattended(Own),
    Answered(Answered),
}

/// A request's buffers as the device gave them back.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) readable: Vec<Segment>,
    pub(super) writable: Vec<Segment>,
    pub(super) written: usize,
}

impl Call {
    /// The answer, if it has come.
    pub(super) fn take_answer(&self) -> Option<Answered> {
        let mut state = self.state.lock();
        match mem::take(&mut *state) {
            State::Answered(answered) => Some(answered),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Nobody will take the answer. To be said before it is sent.
    pub(super) fn leave_unattended(&self, own: Own) {
        *self.state.lock() = State::Unattended(own);
    }

    /// Leaves the answer to who waits; given back, with what of it is the connection's, if nobody does.
    pub(super) fn answer(&self, answered: Answered) -> Option<(Answered, Own)> {
        let mut state = self.state.lock();
        match mem::take(&mut *state) {
            State::Unattended(own) => Some((answered, own)),
            State::Attended | State::Answered(_) => {
                *state = State::Answered(answered);
                None
            }
        }
    }
}

/// What a request needs beside its frames.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) call: Arc<Call>,
    pub(super) readable: Vec<Segment>,
    pub(super) writable: Vec<Segment>,
}

impl Slot {
    fn new() -> Result<Slot> {
        Ok(Slot {
            call: try_arc(Call::default())?,
            readable: Vec::try_with_capacity(1)?,
            writable: Vec::try_with_capacity(1)?,
        })
    }
}

/// Slots that are not in use.
#[derive(Debug)]
pub(super) struct Slots(SpinLock<Vec<Slot>>);

impl Slots {
    /// `most` slots are kept.
    pub(super) fn new(most: usize) -> Result<Self> {
        Ok(Self(SpinLock::new(Vec::try_with_capacity(most)?)))
    }

    /// One without segments, made if none is kept.
    pub(super) fn take(&self) -> Result<Slot> {
        let kept = self.0.lock().pop();
        kept.map_or_else(Slot::new, Ok)
    }

    /// Keeps `slot`, which has no segments and is not in flight, if there is room.
    pub(super) fn put(&self, slot: Slot) {
        let unfit = self.0.lock().push_within_capacity(slot);
        drop(unfit);
    }
}

/// All that a request without data needs, its frame included.
#[derive(Debug)]
pub(super) struct Reserve {
    pub(super) frame: Frame,
    pub(super) slot: Slot,
}

impl Reserve {
    pub(super) fn new() -> Result<Reserve> {
        Ok(Reserve {
            frame: Frame::alloc_zeroed().map_err(|_| Errno::ENOMEM)?,
            slot: Slot::new()?,
        })
    }
}

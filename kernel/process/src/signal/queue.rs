//! Signals that wait for delivery.

use collections::VecDeque;

use super::info::SigInfo;
use super::number::{Signal, SignalSet};

/// Room for so many entries is kept when there are none.
const KEPT: usize = 16;

/// Pending signals of a thread or a process: which, and what they carry, in order of arrival.
#[derive(Debug, Default)]
pub struct Queue {
    set: SignalSet,
    entries: VecDeque<SigInfo>,
}

/// Whether a signal was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It is now pending.
    Yes,
    /// A standard signal was pending already.
    Merged,
    /// It is pending, but there was no room for what it carries.
    WithoutInfo,
    /// It is not pending: there was no room, and the sender wants each one to count (sigqueue).
    Refused,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            set: SignalSet::EMPTY,
            entries: VecDeque::new(),
        }
    }

    /// Which signals are pending.
    #[must_use]
    pub fn set(&self) -> SignalSet {
        self.set
    }

    /// How many entries there are (`SigQ` in /proc/PID/status).
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Adds a signal. `is_full`: there may be no more entries (RLIMIT_SIGPENDING, memory).
    pub fn push(&mut self, info: SigInfo, is_full: bool) -> Queued {
        if !info.signal.is_realtime() && self.set.contains(info.signal) {
            return Queued::Merged;
        }
        // Standard signals are at most one each: they always fit within reason.
        let is_realtime = info.signal.is_realtime();
        let has_room = !(is_full && is_realtime) && self.entries.try_push_back(info).is_ok();
        if !has_room && is_realtime && info.code < 0 {
            return Queued::Refused;
        }
        self.set = self.set.with(info.signal);
        if has_room {
            Queued::Yes
        } else {
            Queued::WithoutInfo
        }
    }

    /// Takes the next signal of `wanted`: synchronous ones first, then the lowest number, and of one
    /// number the oldest.
    pub fn take(&mut self, wanted: SignalSet) -> Option<SigInfo> {
        let ready = self.set.intersection(wanted);
        let signal = ready
            .intersection(SignalSet::SYNCHRONOUS)
            .first()
            .or_else(|| ready.first())?;
        let found = self.entries.iter().position(|info| info.signal == signal);
        let info = match found {
            Some(index) => self.entries.remove(index),
            None => None,
        };
        let info = info.unwrap_or_else(|| SigInfo::user(signal, 0, 0));
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            // A flood of signals leaves no memory behind.
            self.entries.release();
        }
        if !self.entries.iter().any(|info| info.signal == signal) {
            self.set = self.set.without(SignalSet::of(signal));
        }
        Some(info)
    }

    /// Drops every pending signal of `set`.
    pub fn discard(&mut self, set: SignalSet) {
        if self.set.intersection(set).is_empty() {
            return;
        }
        self.set = self.set.without(set);
        self.entries.retain(|info| !set.contains(info.signal));
    }

    /// Whether an entry satisfies `test` (a POSIX timer's signal still waits).
    #[must_use]
    pub fn any(&self, test: impl FnMut(&SigInfo) -> bool) -> bool {
        self.entries.iter().any(test)
    }

    /// The entry behind `index` others, left there.
    #[must_use]
    pub fn nth(&self, index: usize) -> Option<SigInfo> {
        self.entries.iter().nth(index).copied()
    }

    /// The first entry of `signal` that is pending, left there.
    #[must_use]
    pub fn peek(&self, signal: Signal) -> Option<&SigInfo> {
        self.entries.iter().find(|info| info.signal == signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: i32, pid: i32) -> SigInfo {
        SigInfo::user(Signal::new(number).unwrap(), pid, 0)
    }

    #[test]
    fn a_standard_signal_is_pending_once() {
        let mut queue = Queue::new();
        assert_eq!(queue.push(user(10, 1), false), Queued::Yes);
        assert_eq!(queue.push(user(10, 2), false), Queued::Merged);
        assert_eq!(queue.take(SignalSet::ALL).unwrap().sender(), Some((1, 0)));
        assert!(queue.take(SignalSet::ALL).is_none() && queue.is_empty());
    }

    #[test]
    fn realtime_signals_queue_in_order_of_arrival_lowest_number_first() {
        let mut queue = Queue::new();
        for (number, pid) in [(40, 1), (34, 2), (40, 3), (34, 4)] {
            queue.push(user(number, pid), false);
        }
        let order: Vec<_> = core::iter::from_fn(|| queue.take(SignalSet::ALL))
            .map(|info| (info.signal.number(), info.sender().unwrap().0))
            .collect();
        assert_eq!(order, [(34, 2), (34, 4), (40, 1), (40, 3)]);
    }

    #[test]
    fn synchronous_signals_overtake() {
        let mut queue = Queue::new();
        queue.push(user(1, 0), false);
        queue.push(user(11, 0), false);
        assert_eq!(queue.take(SignalSet::ALL).unwrap().signal, Signal::SEGV);
    }

    #[test]
    fn blocked_signals_stay() {
        let mut queue = Queue::new();
        queue.push(user(10, 0), false);
        let mask = SignalSet::of(Signal::USR1);
        assert!(queue.take(SignalSet::ALL.without(mask)).is_none());
        assert!(queue.set().contains(Signal::USR1));
    }

    #[test]
    fn a_full_queue_still_notes_the_number() {
        let mut queue = Queue::new();
        assert_eq!(queue.push(user(40, 1), false), Queued::Yes);
        assert_eq!(queue.push(user(41, 1), true), Queued::WithoutInfo);
        assert!(queue.set().contains(Signal::new(41).unwrap()));
    }

    #[test]
    fn a_full_queue_refuses_what_has_to_count() {
        let mut queue = Queue::new();
        let info = SigInfo {
            code: super::super::info::code::SI_QUEUE,
            ..user(40, 1)
        };
        assert_eq!(queue.push(info, true), Queued::Refused);
        assert!(queue.is_empty());
    }

    #[test]
    fn discarding_takes_entries_along() {
        let mut queue = Queue::new();
        queue.push(user(20, 0), false);
        queue.push(user(18, 0), false);
        queue.discard(SignalSet::STOPS);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.set(), SignalSet::of(Signal::CONT));
    }
}

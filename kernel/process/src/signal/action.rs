//! What a process wants done with each signal: `sigaction`.

use super::number::{self, Signal, SignalSet};

bitflags::bitflags! {
    /// `sa_flags`. Unknown bits are dropped: programs find out by reading back what there is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Flags: u64 {
        /// No SIGCHLD when children stop.
        const NOCLDSTOP = 0x1;
        /// Children do not become zombies.
        const NOCLDWAIT = 0x2;
        /// The handler takes three arguments.
        const SIGINFO = 0x4;
        /// `restorer` is set.
        const RESTORER = 0x0400_0000;
        /// On the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Interrupted calls are made again.
        const RESTART = 0x1000_0000;
        /// The signal itself is not blocked in its handler.
        const NODEFER = 0x4000_0000;
        /// Back to the default once the handler runs.
        const RESETHAND = 0x8000_0000;
    }
}

/// What is to be done on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disposition {
    /// The signal's default.
    #[default]
    Default,
    /// Nothing.
    Ignore,
    /// Call the function at this user address.
    Handler(u64),
}

/// One signal's `sigaction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Action {
    /// What to do.
    pub disposition: Disposition,
    /// How.
    pub flags: Flags,
    /// Where the handler returns to.
    pub restorer: u64,
    /// What is blocked beside the signal while the handler runs.
    pub mask: SignalSet,
}

impl Action {
    /// Whether `signal` has no effect at all under this action.
    #[must_use]
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.disposition {
            Disposition::Ignore => true,
            Disposition::Handler(_) => false,
            Disposition::Default => matches!(
                signal.default_action(),
                number::Default::Ignore | number::Default::Continue
            ),
        }
    }
}

/// All 64 actions.
#[derive(Debug, Clone)]
pub struct Actions([Action; Signal::MAX as usize]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action::default(); Signal::MAX as usize])
    }
}

impl Actions {
    /// The action for `signal`.
    #[must_use]
    pub fn get(&self, signal: Signal) -> Action {
        self.0[signal.index()]
    }

    /// Sets the action for `signal`; the one before.
    pub fn set(&mut self, signal: Signal, action: Action) -> Action {
        core::mem::replace(&mut self.0[signal.index()], action)
    }

    /// What exec keeps: handlers become defaults, ignored stays ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.0 {
            let disposition = match action.disposition {
                Disposition::Handler(_) => Disposition::Default,
                kept => kept,
            };
            *action = Action {
                disposition,
                ..Action::default()
            };
        }
    }

    /// The signals that are ignored by an explicit SIG_IGN, and those that are caught.
    #[must_use]
    pub fn ignored_and_caught(&self) -> (SignalSet, SignalSet) {
        let mut sets = (SignalSet::EMPTY, SignalSet::EMPTY);
        for signal in SignalSet::ALL.iter() {
            match self.get(signal).disposition {
                Disposition::Ignore => sets.0 = sets.0.with(signal),
                Disposition::Handler(_) => sets.1 = sets.1.with(signal),
                Disposition::Default => {}
            }
        }
        sets
    }
}

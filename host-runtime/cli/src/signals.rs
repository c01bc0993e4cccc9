//! Signals to this process: the end while it starts, the program's afterwards.

use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_machine::Machine;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::RunError;
use super::session::Signal;

/// A signal as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SignalNumber(pub(super) u32);

impl FromStr for SignalNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let is_named = |number: &i32| {
            let known = signal_name(*number).and_then(|name| name.strip_prefix("SIG"));
            known == Some(name)
        };
        let number = name.parse().ok().or_else(|| (1..=31).find(is_named));
        let number = number.filter(|number| (1..=64).contains(number));
        number
            .map(|number| Self(number.cast_unsigned()))
            .ok_or_else(|| format!("{text:?} is no signal; write TERM, SIGTERM or 15"))
    }
}

/// What is passed on. A stop (Ctrl-Z without a terminal) is this process's own.
const FORWARDED: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

/// What ends a run that has not come to its program.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// What a signal does depends on how far the run has come.
#[derive(Debug, Default)]
struct State {
    /// The microVM that a signal ends while no program runs in it.
    starting: Option<Arc<dyn Machine>>,
    /// The signal that ended it, or that is to.
    aborted: Option<u8>,
    /// Where signals go once the program runs.
    program: Option<Sender<Signal>>,
}

/// The signals of this process, caught from now on.
#[derive(Debug)]
pub(super) struct Caught {
    state: Arc<Mutex<State>>,
}

impl Caught {
    /// Starts catching.
    pub(super) fn start() -> Result<Self, RunError> {
        let host = |source| RunError::Host {
            what: "catch signals",
            source,
        };
        let mut signals = Signals::new(FORWARDED).map_err(host)?;
        let state = Arc::<Mutex<State>>::default();
        let for_thread = Arc::clone(&state);
        let take_all = move || {
            for number in signals.forever() {
                lock(&for_thread).take(u8::try_from(number).unwrap_or_default());
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(take_all).map_err(|source| RunError::Host {
            what: "start a thread",
            source,
        })?;
        Ok(Self { state })
    }

    /// From now on a signal that asks for the end ends this microVM; one may have come already.
    pub(super) fn ends(&self, machine: &Arc<dyn Machine>) {
        let mut state = lock(&self.state);
        state.starting = Some(Arc::clone(machine));
        if state.aborted.is_some() {
            machine.kill();
        }
    }

    /// From now on signals are the program's.
    pub(super) fn forward(&self) -> Receiver<Signal> {
        let (sender, receiver) = channel();
        let mut state = lock(&self.state);
        state.starting = None;
        state.program = Some(sender);
        receiver
    }

    /// The signal that ended the run before the program ran.
    pub(super) fn aborted(&self) -> Option<u8> {
        lock(&self.state).aborted
    }
}

impl State {
    fn take(&mut self, number: u8) {
        let signal = if i32::from(number) == SIGWINCH {
            Signal::WindowChanged
        } else {
            Signal::Send(number)
        };
        if let Some(program) = &self.program {
            // A session that is over needs no signals.
            let _ = program.send(signal);
        } else if ENDING.contains(&i32::from(number)) {
            self.aborted = Some(number);
            if let Some(machine) = &self.starting {
                machine.kill();
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::SignalNumber;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("SIGTERM", 15),
            ("hup", 1),
            ("sigUSR1", 10),
            ("64", 64),
        ] {
            assert_eq!(text.parse(), Ok(SignalNumber(number)), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "SIGSIGTERM", "NOPE"] {
            assert!(text.parse::<SignalNumber>().is_err(), "{text}");
        }
    }
}

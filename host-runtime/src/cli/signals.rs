//! Signals to this process: the end while it starts, the program's afterwards.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::RunError;
use super::session::Signal;

/// What is passed on. A stop (Ctrl-Z without a terminal) is this process's own.
const FORWARDED: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

/// Where signals go; `None` until the program runs.
type Target = Arc<Mutex<Option<Sender<Signal>>>>;

/// The signals of this process, caught from now on.
#[derive(Debug)]
pub(super) struct Caught {
    target: Target,
}

impl Caught {
    /// Starts catching. Until [`forward`](Self::forward), a signal that asks for the end is one:
    /// the VMM ends with this process.
    pub(super) fn start() -> Result<Self, RunError> {
        let host = |source| RunError::Host {
            what: "catch signals",
            source,
        };
        let mut signals = Signals::new(FORWARDED).map_err(host)?;
        let target = Target::default();
        let for_thread = Arc::clone(&target);
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread
            .spawn(move || {
                for number in signals.forever() {
                    take(&for_thread, number);
                }
            })
            .map_err(|source| RunError::Host {
                what: "start a thread",
                source,
            })?;
        Ok(Self { target })
    }

    /// From now on signals are the program's.
    pub(super) fn forward(&self) -> std::sync::mpsc::Receiver<Signal> {
        let (sender, receiver) = channel();
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }
}

fn take(target: &Target, number: i32) {
    let number = u8::try_from(number).unwrap_or_default();
    let signal = if i32::from(number) == SIGWINCH {
        Signal::WindowChanged
    } else {
        Signal::Send(number)
    };
    match &*target.lock().unwrap_or_else(PoisonError::into_inner) {
        // A session that is over needs no signals.
        Some(sender) => drop(sender.send(signal)),
        None if matches!(i32::from(number), SIGHUP | SIGINT | SIGQUIT | SIGTERM) => {
            eprintln!("nacre: ended by signal {number} before the program was started");
            std::process::exit(128 + i32::from(number));
        }
        None => {}
    }
}

//! A terminal: a line discipline, who it belongs to ([`session`]), and the line its output goes to ([`transfer`]).
//!
//! Locking: `state` is above the line's own lock. Signals are sent and threads woken with it released,
//! processes are asked about with it released.

use alloc::sync::Arc;

use abi::Result;
use abi::raw::general as raw;
use collections::{VecDeque, try_arc};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::discipline::Discipline;
use super::output::Output;
use super::termios::Termios;
use crate::job_control::{PidRef, job_control};
use crate::metadata::DeviceId;
use crate::poll::{Events, PollTable};

mod session;
mod transfer;

const SIGWINCH: u8 = 28;
/// Output processed at a time.
const CHUNK: usize = 512;
/// Bytes that one byte of output becomes at most: a tab of spaces.
const WIDEST: usize = 8;
/// Processed output and echo kept while the line takes nothing.
const PENDING_MAX: usize = CHUNK * WIDEST;

/// Where output goes: the master's side of a pseudo-terminal, or a device.
pub trait Line: Send + Sync {
    /// Takes as much of `bytes` as there is room for, in order; how much. Must not block.
    fn send(&self, bytes: &[u8]) -> usize;

    /// Bytes that `send` would take.
    fn room(&self) -> usize;

    /// Throws away what was taken and not yet passed on.
    fn flush(&self) {}

    /// Tells the other end of a change of state: `TIOCPKT_*` bits.
    fn note(&self, bits: u8) {
        let _ = bits;
    }
}

/// Bits of a packet that tells a pseudo-terminal's master of a change (ioctl_tty(2), TIOCPKT).
pub(super) mod packet {
    /// `TIOCPKT_FLUSHREAD`.
    pub(in crate::tty) const FLUSH_READ: u8 = 1;
    /// `TIOCPKT_FLUSHWRITE`.
    pub(in crate::tty) const FLUSH_WRITE: u8 = 2;
    /// `TIOCPKT_STOP`.
    pub(in crate::tty) const STOP: u8 = 4;
    /// `TIOCPKT_START`.
    pub(in crate::tty) const START: u8 = 8;
    /// `TIOCPKT_NOSTOP`.
    pub(in crate::tty) const NO_STOP: u8 = 16;
    /// `TIOCPKT_DOSTOP`.
    pub(in crate::tty) const DO_STOP: u8 = 32;
    /// `TIOCPKT_IOCTL`.
    pub(in crate::tty) const IOCTL: u8 = 64;
}

/// `struct winsize`: rows, columns, and two unused sizes in pixels.
pub type WindowSize = [u16; 4];

/// A terminal.
pub struct Terminal {
    device: DeviceId,
    line: Arc<dyn Line>,
    state: SpinLock<State>,
    /// Woken when input can be read, or never will be.
    pub(super) input: Arc<WaitQueue>,
    /// Woken when output can be written, or never will be.
    pub(super) output: Arc<WaitQueue>,
}

struct State {
    discipline: Discipline,
    window: WindowSize,
    /// The session it controls, if there is one.
    session: Option<PidRef>,
    /// The foreground process group, if there is one.
    foreground: Option<PidRef>,
    hung_up: bool,
    /// Only root may open it (TIOCEXCL).
    is_exclusive: bool,
    /// What was typed and has no room in the discipline's queue.
    typed: VecDeque<u8>,
    /// Processed output and echo that the line has not taken.
    pending: Output,
}

impl core::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Terminal")
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// A terminal whose output goes to `line`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(device: DeviceId, line: Arc<dyn Line>) -> Result<Arc<Terminal>> {
        Ok(try_arc(Terminal {
            device,
            line,
            state: SpinLock::new(State {
                discipline: Discipline::new(),
                window: [0; 4],
                session: None,
                foreground: None,
                hung_up: false,
                is_exclusive: false,
                typed: VecDeque::new(),
                pending: Output::new(PENDING_MAX),
            }),
            input: try_arc(WaitQueue::new())?,
            output: try_arc(WaitQueue::new())?,
        })?)
    }

    /// Its device number.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.device
    }

    /// The settings.
    #[must_use]
    pub fn termios(&self) -> Termios {
        self.state.lock().discipline.termios
    }

    /// Changes the settings; `flush` throws away input first.
    pub fn set_termios(&self, new: &Termios, flush: bool) {
        let mut state = self.state.lock();
        let old = state.discipline.termios;
        if flush {
            state.discipline.flush_input();
        }
        // Bytes are whole, and there is no parity, whatever is asked for.
        let new = &new.with_whole_bytes();
        state.discipline.set_termios(new);
        // What a read waits for may have changed.
        self.input_taken(state);
        self.input.wake_all();
        let mut note = if flush { packet::FLUSH_READ } else { 0 };
        if old.stops_by_usual_characters() != new.stops_by_usual_characters() {
            note |= if new.stops_by_usual_characters() {
                packet::DO_STOP
            } else {
                packet::NO_STOP
            };
        }
        if old.has_local(raw::EXTPROC) || new.has_local(raw::EXTPROC) {
            note |= packet::IOCTL;
        }
        if note != 0 {
            self.line.note(note);
        }
    }

    /// Rows and columns.
    #[must_use]
    pub fn window_size(&self) -> WindowSize {
        self.state.lock().window
    }

    /// Sets rows and columns; the foreground group hears of a change (SIGWINCH).
    pub fn set_window_size(&self, size: WindowSize) {
        let mut state = self.state.lock();
        let changed = state.window != size;
        state.window = size;
        let foreground = state.foreground.clone();
        drop(state);
        if changed && let Some(foreground) = foreground {
            job_control().signal_group(&foreground, SIGWINCH);
        }
    }

    /// Bytes that a read could take now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.state.lock().discipline.available()
    }

    /// Output that the line has not taken yet.
    #[must_use]
    pub fn pending_output(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Throws away input, output or both (TCFLSH).
    pub fn flush(&self, input: bool, output: bool) {
        let mut state = self.state.lock();
        let mut note = 0;
        if input {
            state.discipline.flush_input();
            note |= packet::FLUSH_READ;
        }
        if output {
            state.pending.clear();
            self.line.flush();
            note |= packet::FLUSH_WRITE;
        }
        // Both who writes and who types have room now.
        self.input_taken(state);
        self.line.note(note);
    }

    /// Stops or continues output (TCXONC).
    pub fn set_stopped(&self, stopped: bool) {
        let mut state = self.state.lock();
        let changed = state.discipline.is_stopped != stopped;
        state.discipline.is_stopped = stopped;
        state.pass_on(self.line.as_ref());
        drop(state);
        if changed {
            let note = if stopped { packet::STOP } else { packet::START };
            self.line.note(note);
        }
        self.output.wake_all();
    }

    /// Refuses (or allows) further opens (TIOCEXCL, TIOCNXCL).
    pub fn set_exclusive(&self, exclusive: bool) {
        self.state.lock().is_exclusive = exclusive;
    }

    /// Whether further opens are refused (TIOCGEXCL).
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.state.lock().is_exclusive
    }

    /// What is ready now.
    pub fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.input);
            table.add(&self.output);
        }
        let state = self.state.lock();
        let mut events = Events::empty();
        if state.hung_up {
            return Events::READABLE | Events::WRITABLE | Events::HUP | Events::ERR;
        }
        events.set(Events::READABLE, state.discipline.is_readable());
        let has_room = state.pending.is_empty() && self.line.room() > 0;
        events.set(Events::WRITABLE, has_room && !state.discipline.is_stopped);
        events
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.state.lock().hung_up
    }
}

//! A terminal: a line discipline, who it belongs to, and the line its output goes to.
//!
//! Locking: `state` is above the line's own lock. Signals are sent and threads woken with it released,
//! processes are asked about with it released.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::{Vec, VecDeque, try_arc};
use machine::sync::{SpinGuard, SpinLock};
use sched::WaitQueue;

use super::discipline::{Discipline, Outcome, SIGINT, SIGQUIT, SIGTSTP};
use super::output::Output;
use super::termios::{Cc, Termios};
use crate::job_control::{PidRef, job_control};
use crate::metadata::DeviceId;
use crate::poll::{Events, PollTable};

mod session;

const SIGWINCH: u8 = 28;
/// Bytes between the keyboard and the discipline's queue; a pseudo-terminal's on Linux hold as many.
const TYPED_MAX: usize = 8192;
/// Output processed at a time.
const CHUNK: usize = 512;
/// Bytes that one byte of output becomes at most: a tab of spaces.
const WIDEST: usize = 8;
/// Processed output and echo kept while the line takes nothing.
const PENDING_MAX: usize = CHUNK * WIDEST;
/// Bytes one read gives at most.
const READ_MAX: usize = 4096;

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

/// What is to be told, once the state is released, of input that was taken in.
#[derive(Debug, Default)]
struct Effects {
    readable: bool,
    /// The foreground group at the time.
    foreground: Option<PidRef>,
    /// Signals for it; bit n is signal n.
    signals: u32,
    /// `TIOCPKT_*`.
    packet: u8,
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

    /// Takes bytes from the keyboard, as many as there is room for; how many.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn receive(&self, bytes: &[u8]) -> Result<usize> {
        let mut state = self.state.lock();
        let room = TYPED_MAX.saturating_sub(state.typed.len());
        let count = bytes.len().min(room);
        state.typed.try_reserve(count)?;
        state.typed.try_extend(bytes[..count].iter().copied())?;
        let effects = state.take_in(self.line.as_ref());
        drop(state);
        self.tell(&effects);
        Ok(count)
    }

    /// Bytes that [`Terminal::receive`] would take now.
    #[must_use]
    pub fn receive_room(&self) -> usize {
        TYPED_MAX.saturating_sub(self.state.lock().typed.len())
    }

    /// There may be room for input again: takes in what waits for it, and lets who types go on.
    fn input_taken(&self, mut state: SpinGuard<'_, State>) {
        let effects = state.take_in(self.line.as_ref());
        drop(state);
        self.tell(&effects);
        self.output.wake_all();
    }

    fn tell(&self, effects: &Effects) {
        if effects.packet != 0 {
            self.line.note(effects.packet);
        }
        if effects.packet & packet::START != 0 {
            self.output.wake_all();
        }
        if effects.readable || effects.signals != 0 {
            self.input.wake_all();
        }
        for signal in [SIGINT, SIGQUIT, SIGTSTP] {
            if effects.signals & 1 << signal != 0
                && let Some(foreground) = &effects.foreground
            {
                job_control().signal_group(foreground, signal);
            }
        }
    }

    /// The line can take more: passes on what waits for that.
    pub fn line_ready(&self) {
        self.state.lock().pass_on(self.line.as_ref());
        self.output.wake_all();
    }

    /// Reads up to `max` bytes, as VMIN, VTIME and the canonical mode say.
    ///
    /// # Errors
    /// `EAGAIN`, `ERESTARTSYS`; `EIO` in the background of an orphaned group.
    pub fn read(&self, max: usize, nonblocking: bool) -> Result<Vec<u8>> {
        let max = max.min(READ_MAX);
        let mut taken = Vec::new();
        taken.try_reserve_exact(max)?;
        let mut deadline = None;
        loop {
            self.check_background_read()?;
            if max == 0 {
                return Ok(taken);
            }
            let termios = self.termios();
            let (min, time) = match termios.is_canonical() {
                true => (1, 0),
                false => (
                    usize::from(termios.value(Cc::Min)),
                    u64::from(termios.value(Cc::Time)),
                ),
            };
            // Time counts from the start without a minimum, between bytes with one.
            let span_ns = time * 100_000_000;
            if time > 0 && deadline.is_none() && (min == 0 || !taken.is_empty()) {
                deadline = Some(sched::clock::monotonic_ns() + span_ns);
            }
            let wanted = if termios.is_canonical() {
                1
            } else {
                min.clamp(1, max.max(1))
            };
            let may_wait = !nonblocking && (min > 0 || time > 0);
            let got = self.wait_for_input(may_wait, deadline, max - taken.len(), &mut taken);
            match got {
                Ok(Some(count)) => {
                    let ends_read = termios.is_canonical() || count == 0;
                    deadline = None;
                    if ends_read || taken.len() >= wanted {
                        return Ok(taken);
                    }
                }
                Ok(None) if min == 0 || self.is_hung_up() => return Ok(taken),
                Ok(None) if taken.is_empty() => return Err(Errno::EAGAIN),
                Err(Errno::ETIMEDOUT) | Ok(None) => return Ok(taken),
                Err(errno) => {
                    return if taken.is_empty() {
                        Err(errno)
                    } else {
                        Ok(taken)
                    };
                }
            }
        }
    }

    /// Appends bytes to `taken`, which has room for `max`; how many, 0 at end of file. `None` when there are
    /// none and waiting is not wanted, or hung up.
    fn wait_for_input(
        &self,
        may_wait: bool,
        deadline: Option<u64>,
        max: usize,
        taken: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        loop {
            let mut state = self.state.lock();
            if state.discipline.has_input() {
                let count = state.discipline.take(max, taken);
                self.input_taken(state);
                return Ok(Some(count));
            }
            if state.hung_up || !may_wait {
                return Ok(None);
            }
            drop(state);
            self.input.wait_interruptible_deadline(deadline, || {
                let state = self.state.lock();
                (state.hung_up || state.discipline.has_input()).then_some(())
            })?;
        }
    }

    /// Writes bytes through output processing; how many went, all of them unless nonblocking.
    ///
    /// # Errors
    /// `EIO` when hung up, `EAGAIN`, `ERESTARTSYS`.
    pub fn write(&self, bytes: &[u8], nonblocking: bool) -> Result<usize> {
        let mut written = 0;
        self.check_background_write()?;
        while written < bytes.len() {
            let step = || {
                let mut state = self.state.lock();
                if state.hung_up {
                    return Some(Err(Errno::EIO));
                }
                match state.write(&bytes[written..], self.line.as_ref()) {
                    Ok(0) if nonblocking => Some(Err(Errno::EAGAIN)),
                    Ok(0) => None,
                    result => Some(result),
                }
            };
            match self.output.wait_interruptible(step).and_then(|step| step) {
                Ok(count) => written += count,
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(written)
    }

    /// Waits until all output has gone to the line (TCSBRK, TCSETSW).
    ///
    /// # Errors
    /// `ERESTARTSYS`.
    pub fn drain(&self) -> Result<()> {
        self.output.wait_interruptible(|| {
            let mut state = self.state.lock();
            state.pass_on(self.line.as_ref());
            (state.hung_up || state.pending.is_empty()).then_some(())
        })
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

impl State {
    /// Gives the discipline as much of what was typed as it has room for.
    fn take_in(&mut self, line: &dyn Line) -> Effects {
        let mut effects = Effects {
            foreground: self.foreground.clone(),
            ..Effects::default()
        };
        while self.discipline.accepts() {
            let Some(byte) = self.typed.pop_front() else {
                break;
            };
            match self.discipline.receive(byte, &mut self.pending) {
                Outcome::Nothing => {}
                Outcome::Readable => effects.readable = true,
                Outcome::Stop => effects.packet |= packet::STOP,
                Outcome::Start => effects.packet |= packet::START,
                Outcome::Signal(signal) => {
                    effects.signals |= 1 << signal;
                    if !self.discipline.termios.has_local(raw::NOFLSH) {
                        // Output goes too; what is pending is the signal's own echo.
                        line.flush();
                        effects.packet |= packet::FLUSH_READ;
                    }
                }
            }
        }
        self.pass_on(line);
        effects
    }

    /// Passes pending output on to the line.
    fn pass_on(&mut self, line: &dyn Line) {
        if !self.discipline.is_stopped {
            self.pending.pass_to(|bytes| line.send(bytes));
        }
    }

    /// Processes and sends some of `bytes`; how many. 0 when the line takes nothing now.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn write(&mut self, bytes: &[u8], line: &dyn Line) -> Result<usize> {
        self.pass_on(line);
        if !self.pending.is_empty() || self.discipline.is_stopped || line.room() == 0 {
            return Ok(0);
        }
        let count = bytes.len().min(CHUNK);
        self.pending.reserve(count * WIDEST)?;
        for byte in &bytes[..count] {
            self.discipline.process_output(*byte, &mut self.pending);
        }
        self.pass_on(line);
        Ok(count)
    }
}

//! Bytes through a terminal: from the keyboard to the discipline and on to readers, from writers to the line.
//!
//! What input calls for beside bytes, signals and wake-ups, is gathered as [`Effects`] with the state locked and told
//! with it released.

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::Vec;
use machine::sync::SpinGuard;

use super::{CHUNK, Line, State, Terminal, WIDEST, packet};
use crate::job_control::{PidRef, job_control};
use crate::tty::discipline::{Outcome, SIGINT, SIGQUIT, SIGTSTP};
use crate::tty::termios::Cc;

/// Bytes between the keyboard and the discipline's queue; a pseudo-terminal's on Linux hold as many.
const TYPED_MAX: usize = 8192;
/// Bytes one read gives at most.
const READ_MAX: usize = 4096;

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

impl Terminal {
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

    /// What was typed and not taken in is lost.
    pub(in crate::tty) fn forget_typed(&self) {
        self.state.lock().typed.clear();
        self.output.wake_all();
    }

    /// There may be room for input again: takes in what waits for it, and lets who types go on.
    pub(super) fn input_taken(&self, mut state: SpinGuard<'_, State>) {
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
                        effects.packet |= packet::FLUSH_READ | packet::FLUSH_WRITE;
                    }
                }
            }
        }
        self.pass_on(line);
        effects
    }

    /// Passes pending output on to the line.
    pub(super) fn pass_on(&mut self, line: &dyn Line) {
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

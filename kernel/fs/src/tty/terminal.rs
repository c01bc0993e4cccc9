//! A terminal: a line discipline, who it belongs to, and the line its output goes to.
//!
//! Locking: `state` is above the line's own lock. Signals are sent and threads woken with it released,
//! processes are asked about with it released.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::raw::general as raw;
use abi::{Errno, Result};
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::discipline::{Discipline, Outcome};
use super::termios::{Cc, Termios};
use crate::job_control::job_control;
use crate::metadata::DeviceId;
use crate::poll::{Events, PollTable};

mod session;

const SIGWINCH: u8 = 28;
/// Echo kept while the line takes nothing.
const ECHO_MAX: usize = 4096;
/// Output processed at a time.
const CHUNK: usize = 512;

/// Where output goes: the master's side of a pseudo-terminal, or a device.
pub trait Line: Send + Sync {
    /// Takes as much of `bytes` as there is room for, in order; how much. Must not block.
    fn send(&self, bytes: &[u8]) -> usize;

    /// Bytes that `send` would take.
    fn room(&self) -> usize;

    /// Throws away what was taken and not yet passed on.
    fn flush(&self) {}
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
    /// The session it controls; 0 for none.
    session: i32,
    /// The foreground process group; 0 for none.
    foreground: i32,
    hung_up: bool,
    /// Processed output and echo that the line has not taken.
    pending: Vec<u8>,
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
    #[must_use]
    pub fn new(device: DeviceId, line: Arc<dyn Line>) -> Arc<Terminal> {
        Arc::new(Terminal {
            device,
            line,
            state: SpinLock::new(State {
                discipline: Discipline::new(),
                window: [0; 4],
                session: 0,
                foreground: 0,
                hung_up: false,
                pending: Vec::new(),
            }),
            input: Arc::new(WaitQueue::new()),
            output: Arc::new(WaitQueue::new()),
        })
    }

    /// Its device number.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.device
    }

    /// Takes bytes from the keyboard, as many as there is room for; how many.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        let mut readable = false;
        let mut signals = Vec::new();
        let mut state = self.state.lock();
        for byte in bytes {
            if state.discipline.room() == 0 && !state.is_control(*byte) {
                break;
            }
            taken += 1;
            let mut echo = Vec::new();
            match state.discipline.receive(*byte, &mut echo) {
                Outcome::Nothing | Outcome::Flow => {}
                Outcome::Readable => readable = true,
                Outcome::Signal(signal) => signals.push((state.foreground, signal)),
            }
            let room = ECHO_MAX.saturating_sub(state.pending.len());
            echo.truncate(room);
            state.pending.extend(echo);
        }
        state.pass_on(self.line.as_ref());
        drop(state);
        if readable || !signals.is_empty() {
            self.input.wake_all();
        }
        self.output.wake_all();
        for (group, signal) in signals {
            if group > 0 {
                job_control().signal_group(group, signal);
            }
        }
        taken
    }

    /// Bytes that [`Terminal::receive`] would take now.
    #[must_use]
    pub fn receive_room(&self) -> usize {
        self.state.lock().discipline.room()
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
        let mut taken = Vec::new();
        let mut deadline = None;
        loop {
            self.check_background_read()?;
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
            let got = self.wait_for_input(may_wait, deadline, max - taken.len());
            match got {
                Ok(Some(bytes)) => {
                    let ends_read = termios.is_canonical() || bytes.is_empty();
                    taken.extend(bytes);
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

    /// Bytes, an empty read at end of file; `None` when there are none and waiting is not wanted, or
    /// hung up.
    fn wait_for_input(
        &self,
        may_wait: bool,
        deadline: Option<u64>,
        max: usize,
    ) -> Result<Option<Vec<u8>>> {
        let look = || {
            let mut state = self.state.lock();
            if state.discipline.has_input() {
                return Some(Some(state.discipline.take(max)));
            }
            (state.hung_up || !may_wait).then_some(None)
        };
        let got = self.input.wait_interruptible_deadline(deadline, look)?;
        if got.is_some() {
            // A master that waits for room can go on.
            self.output.wake_all();
        }
        Ok(got)
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
                let count = state.write(&bytes[written..], self.line.as_ref());
                match count {
                    0 if nonblocking => Some(Err(Errno::EAGAIN)),
                    0 => None,
                    count => Some(Ok(count)),
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
        if flush {
            state.discipline.flush_input();
        }
        state.discipline.set_termios(new);
        state.pass_on(self.line.as_ref());
        drop(state);
        // What a read waits for may have changed.
        self.input.wake_all();
        self.output.wake_all();
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
        let foreground = state.foreground;
        drop(state);
        if changed && foreground > 0 {
            job_control().signal_group(foreground, SIGWINCH);
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
        if input {
            state.discipline.flush_input();
        }
        if output {
            state.pending.clear();
            self.line.flush();
        }
        drop(state);
        self.output.wake_all();
    }

    /// Stops or continues output (TCXONC).
    pub fn set_stopped(&self, stopped: bool) {
        let mut state = self.state.lock();
        state.discipline.is_stopped = stopped;
        state.pass_on(self.line.as_ref());
        drop(state);
        self.output.wake_all();
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
        events.set(Events::READABLE, state.discipline.has_input());
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
    /// Whether a full input buffer takes `byte` nevertheless: it is acted on, not stored.
    fn is_control(&self, byte: u8) -> bool {
        let termios = &self.discipline.termios;
        let signals = termios.has_local(raw::ISIG)
            && [Cc::Intr, Cc::Quit, Cc::Susp]
                .iter()
                .any(|cc| termios.is(*cc, byte));
        let flow = termios.has_input(raw::IXON)
            && [Cc::Start, Cc::Stop].iter().any(|cc| termios.is(*cc, byte));
        signals || flow
    }

    /// Passes pending output on to the line.
    fn pass_on(&mut self, line: &dyn Line) {
        if !self.pending.is_empty() && !self.discipline.is_stopped {
            let sent = line.send(&self.pending);
            self.pending.drain(..sent.min(self.pending.len()));
        }
    }

    /// Processes and sends some of `bytes`; how many. 0 when the line takes nothing now.
    fn write(&mut self, bytes: &[u8], line: &dyn Line) -> usize {
        self.pass_on(line);
        if !self.pending.is_empty() || self.discipline.is_stopped || line.room() == 0 {
            return 0;
        }
        let count = bytes.len().min(CHUNK);
        let mut processed = core::mem::take(&mut self.pending);
        for byte in &bytes[..count] {
            self.discipline.process_output(*byte, &mut processed);
        }
        self.pending = processed;
        self.pass_on(line);
        count
    }
}

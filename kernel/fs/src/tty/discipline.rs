//! The line discipline N_TTY: what becomes of bytes between a keyboard and a reader, as data alone.
//!
//! [`Discipline::receive`] takes what was typed: control characters become [`Outcome`]s, lines are
//! edited and echoed. [`Discipline::take`] is read(2), [`Discipline::process_output`] is what
//! `c_oflag` makes of output; [`editing`] rubs out. No locks, no waiting: [`super::terminal`] has those.

use abi::raw::general as raw;
use collections::{Vec, VecDeque};

use super::echo::Screen;
use super::output::Output;
use super::termios::{Cc, Termios};

/// Bytes of input kept (`N_TTY_BUF_SIZE`).
pub(super) const INPUT_MAX: usize = 4096;

/// A byte of input that can be read, or a mark between such bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Byte(u8),
    /// The byte that ends a line.
    LineEnd(u8),
    /// The end-of-file character: ends a read, is not read itself.
    EndOfFile,
}

impl Input {
    /// What stands for it where marks mean nothing.
    fn byte(self) -> u8 {
        match self {
            Input::Byte(byte) | Input::LineEnd(byte) => byte,
            Input::EndOfFile => 0,
        }
    }
}

/// What a received byte calls for beside echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing more.
    Nothing,
    /// Something can be read that could not before.
    Readable,
    /// This signal goes to the foreground process group; input was flushed unless NOFLSH.
    Signal(u8),
    /// Output is to stop.
    Stop,
    /// Output is to go on.
    Start,
}

pub(super) const SIGINT: u8 = 2;
pub(super) const SIGQUIT: u8 = 3;
pub(super) const SIGTSTP: u8 = 20;

/// The state of a terminal's line discipline.
#[derive(Debug)]
pub(super) struct Discipline {
    pub(super) termios: Termios,
    /// What can be read.
    ready: VecDeque<Input>,
    /// Complete lines (and end-of-file marks) in `ready`.
    lines: usize,
    /// The line being edited, in canonical mode.
    edit: Vec<u8>,
    /// The next byte is taken as it is (VLNEXT).
    literal_next: bool,
    /// Output was stopped by the stop character.
    pub(super) is_stopped: bool,
    screen: Screen,
}

impl Discipline {
    pub(super) fn new() -> Discipline {
        Discipline {
            termios: Termios::default(),
            ready: VecDeque::new(),
            lines: 0,
            edit: Vec::new(),
            literal_next: false,
            is_stopped: false,
            screen: Screen::default(),
        }
    }

    /// Takes one byte from the keyboard; what it echoes is appended to `echo`.
    pub(super) fn receive(&mut self, byte: u8, echo: &mut Output) -> Outcome {
        let mut byte = byte;
        if self.held() >= INPUT_MAX {
            // A line without end: the byte takes the place of the last one, so that it can end the line.
            self.edit.pop();
        }
        if self.termios.has_input(raw::ISTRIP) {
            byte &= 0x7f;
        }
        if self.termios.has_input(raw::IUCLC) && self.termios.has_local(raw::IEXTEN) {
            byte.make_ascii_lowercase();
        }
        if core::mem::take(&mut self.literal_next) {
            return self.insert(byte, echo);
        }
        if let Some(outcome) = self.flow_control(byte) {
            return outcome;
        }
        if let Some(signal) = self.signal_of(byte) {
            if !self.termios.has_local(raw::NOFLSH) {
                self.flush_input();
                echo.clear();
            }
            if self.termios.has_input(raw::IXON) {
                self.is_stopped = false;
            }
            self.echo(byte, echo);
            return Outcome::Signal(signal);
        }
        match byte {
            b'\r' if self.termios.has_input(raw::IGNCR) => return Outcome::Nothing,
            b'\r' if self.termios.has_input(raw::ICRNL) => byte = b'\n',
            b'\n' if self.termios.has_input(raw::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.termios.is_canonical() {
            return self.receive_canonical(byte, echo);
        }
        if byte == b'\n' && self.termios.has_local(raw::ECHO) {
            // Shown as what it does, unlike one that was taken literally.
            self.screen.output(byte, &self.termios, echo);
            return self.keep(byte);
        }
        self.insert(byte, echo)
    }

    fn flow_control(&mut self, byte: u8) -> Option<Outcome> {
        let termios = &self.termios;
        if !termios.has_input(raw::IXON) {
            return None;
        }
        if termios.is(Cc::Start, byte) {
            self.is_stopped = false;
            return Some(Outcome::Start);
        }
        if termios.is(Cc::Stop, byte) {
            self.is_stopped = true;
            return Some(Outcome::Stop);
        }
        if self.is_stopped && termios.has_input(raw::IXANY) {
            self.is_stopped = false;
        }
        None
    }

    fn signal_of(&self, byte: u8) -> Option<u8> {
        if !self.termios.has_local(raw::ISIG) {
            return None;
        }
        let signals = [(Cc::Intr, SIGINT), (Cc::Quit, SIGQUIT), (Cc::Susp, SIGTSTP)];
        signals
            .iter()
            .find(|(cc, _)| self.termios.is(*cc, byte))
            .map(|(_, signal)| *signal)
    }

    fn receive_canonical(&mut self, byte: u8, echo: &mut Output) -> Outcome {
        let termios = self.termios;
        let is_extended = termios.has_local(raw::IEXTEN);
        if termios.is(Cc::Erase, byte) {
            if termios.has_local(raw::ECHO) && !termios.has_local(raw::ECHOE) {
                if let Some(last) = self.last_character() {
                    self.edit.truncate(last);
                    self.screen.echo(byte, &termios, echo);
                }
            } else {
                self.erase_character(echo);
            }
        } else if is_extended && termios.is(Cc::WErase, byte) {
            self.erase_word(echo);
        } else if termios.is(Cc::Kill, byte) {
            self.kill_line(byte, echo);
        } else if is_extended && termios.is(Cc::LNext, byte) {
            self.literal_next = true;
            if termios.has_local(raw::ECHO) && termios.has_local(raw::ECHOCTL) {
                echo.extend(b"^\x08");
            }
        } else if is_extended && termios.has_local(raw::ECHO) && termios.is(Cc::Reprint, byte) {
            self.reprint(byte, echo);
        } else if byte == b'\n' {
            if termios.has_local(raw::ECHO) || termios.has_local(raw::ECHONL) {
                self.screen.output(byte, &termios, echo);
            }
            return self.end_line(Input::LineEnd(byte));
        } else if termios.is(Cc::Eof, byte) {
            return self.end_line(Input::EndOfFile);
        } else if termios.is(Cc::Eol, byte) || is_extended && termios.is(Cc::Eol2, byte) {
            self.echo(byte, echo);
            return self.end_line(Input::LineEnd(byte));
        } else {
            return self.insert(byte, echo);
        }
        Outcome::Nothing
    }

    /// Echoes and keeps a byte that has no meaning of its own.
    fn insert(&mut self, byte: u8, echo: &mut Output) -> Outcome {
        self.echo(byte, echo);
        // A byte that would begin a mark of what the line did is doubled, so that it can be told from one.
        if byte == 0xff && self.termios.has_input(raw::PARMRK) {
            self.keep(byte);
        }
        self.keep(byte)
    }

    /// Keeps a byte; without memory it is lost, as on an overrun.
    fn keep(&mut self, byte: u8) -> Outcome {
        if self.termios.is_canonical() {
            // The loss is what the comment above says.
            let _ = self.edit.try_push(byte);
            return Outcome::Nothing;
        }
        match self.ready.try_push_back(Input::Byte(byte)) {
            Ok(()) => Outcome::Readable,
            Err(_) => Outcome::Nothing,
        }
    }

    fn end_line(&mut self, end: Input) -> Outcome {
        let line = self.edit.iter().copied().map(Input::Byte);
        if self.ready.try_reserve(line.len() + 1).is_err()
            || self.ready.try_extend(line.chain([end])).is_err()
        {
            // The line stays as it is: its end can be typed again.
            return Outcome::Nothing;
        }
        self.edit.clear();
        self.lines += 1;
        self.screen.start_line();
        Outcome::Readable
    }

    fn echo(&mut self, byte: u8, echo: &mut Output) {
        if self.termios.has_local(raw::ECHO) {
            self.screen.echo(byte, &self.termios, echo);
        }
    }

    /// Whether a read has something to take: a line, or a byte.
    pub(super) fn has_input(&self) -> bool {
        if self.termios.is_canonical() {
            self.lines > 0
        } else {
            !self.ready.is_empty()
        }
    }

    /// Whether poll says so: in raw mode without a time it takes as many bytes as a read waits for (VMIN).
    pub(super) fn is_readable(&self) -> bool {
        let termios = &self.termios;
        let waits_for_more = !termios.is_canonical() && termios.value(Cc::Time) == 0;
        let fewest = if waits_for_more {
            usize::from(termios.value(Cc::Min))
        } else {
            1
        };
        self.has_input() && self.ready.len() >= fewest
    }

    /// Bytes that a read could take now (FIONREAD).
    pub(super) fn available(&self) -> usize {
        if self.termios.is_canonical() && self.lines == 0 {
            return 0;
        }
        self.ready
            .iter()
            .filter(|input| **input != Input::EndOfFile)
            .count()
    }

    /// Appends up to `max` bytes to `taken`, which has room for them; in canonical mode, no further than the
    /// end of a line. How many.
    pub(super) fn take(&mut self, max: usize, taken: &mut Vec<u8>) -> usize {
        let before = taken.len();
        while taken.len() - before < max {
            let Some(input) = self.ready.pop_front() else {
                break;
            };
            if let Input::Byte(byte) | Input::LineEnd(byte) = input {
                // There is room.
                let _ = taken.push_within_capacity(byte);
            }
            if !matches!(input, Input::Byte(_)) {
                self.lines -= 1;
                if self.termios.is_canonical() {
                    break;
                }
            }
        }
        // A line that was read just up to its end-of-file mark is used up with it.
        if self.termios.is_canonical()
            && taken.len() - before == max
            && taken.last().is_some_and(|byte| *byte != b'\n')
            && self.ready.front() == Some(&Input::EndOfFile)
        {
            self.ready.pop_front();
            self.lines -= 1;
        }
        taken.len() - before
    }

    /// Throws away all input.
    pub(super) fn flush_input(&mut self) {
        self.ready.clear();
        self.lines = 0;
        self.edit.clear();
        self.literal_next = false;
    }

    /// Bytes and marks that are kept.
    fn held(&self) -> usize {
        self.ready.len() + self.edit.len()
    }

    /// Whether a byte can be received now. A line that fills the queue alone can always be added to: its last
    /// byte is given up for the next one.
    pub(super) fn accepts(&self) -> bool {
        self.held() < INPUT_MAX - 1 || (self.termios.is_canonical() && self.ready.is_empty())
    }

    /// New settings. What was typed under the old ones stays and can be read under the new; where it was cut into lines
    /// is forgotten with the mode. What is there as the canonical mode begins is one line.
    pub(super) fn set_termios(&mut self, new: &Termios) {
        let was_canonical = self.termios.is_canonical();
        self.termios = *new;
        if was_canonical != new.is_canonical() {
            self.forget_lines();
        }
        if !new.has_input(raw::IXON) {
            self.is_stopped = false;
        }
    }

    fn forget_lines(&mut self) {
        let line = self.edit.iter().copied().map(Input::Byte);
        if self.ready.try_reserve(line.len()).is_ok() && self.ready.try_extend(line).is_ok() {
            self.edit.clear();
        }
        for input in self.ready.iter_mut() {
            *input = Input::Byte(input.byte());
        }
        self.lines = 0;
        self.literal_next = false;
        if self.termios.is_canonical()
            && let Some(last) = self.ready.back_mut()
        {
            *last = match last.byte() {
                // What stands for an end-of-file character.
                0 => Input::EndOfFile,
                byte => Input::LineEnd(byte),
            };
            self.lines = 1;
        }
    }

    /// Appends what `c_oflag` makes of `byte` to `output`.
    pub(super) fn process_output(&mut self, byte: u8, output: &mut Output) {
        self.screen.output(byte, &self.termios, output);
    }
}

mod editing;

#[cfg(test)]
mod tests;

//! An open terminal: read, write, poll and the ioctls of ioctl_tty(2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use abi::raw::ioctl as raw;
use abi::{Errno, Result};
use collections::try_arc;
use memory::io::{IoReader, IoWriter};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::terminal::Terminal;
use super::termios::Termios;
use crate::cred::{Capabilities, Credentials};
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::ioctl::{get_bytes, get_int, put_bytes, put_int};
use crate::job_control::{ControllingTerminal, job_control};
use crate::poll::{Events, PollTable};

/// Bytes read or written at a time.
const CHUNK: usize = 1024;
/// Commands whose numbers carry the size of `struct termios2`.
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;
/// N_TTY, the one line discipline.
const N_TTY: i32 = 0;

/// `struct termios2`: the speeds follow.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Termios2 {
    termios: Termios,
    input_speed: u32,
    output_speed: u32,
}

const SPEED: u32 = 38_400;

/// An open terminal.
pub(super) struct TerminalFile {
    terminal: Arc<Terminal>,
    /// Dropped when the file is closed.
    _on_close: Option<Box<dyn Any + Send + Sync>>,
}

/// Whether `credentials` may open a terminal that another open file has for itself (TIOCEXCL).
///
/// # Errors
/// `EBUSY`.
pub(super) fn check_exclusive(terminal: &Terminal, credentials: &Credentials) -> Result<()> {
    if terminal.is_exclusive() && !credentials.capable(Capabilities::SYS_ADMIN) {
        Err(Errno::EBUSY)
    } else {
        Ok(())
    }
}

/// Opens a terminal; it becomes the controlling one of a session leader that has none, unless `O_NOCTTY`.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn open(
    terminal: &Arc<Terminal>,
    flags: OpenFlags,
    on_close: Option<Box<dyn Any + Send + Sync>>,
) -> Result<Arc<dyn FileOps>> {
    let file = try_arc(TerminalFile {
        terminal: terminal.clone(),
        _on_close: on_close,
    })?;
    let processes = job_control();
    if !flags.contains(OpenFlags::NOCTTY) && processes.session().is_some() {
        // Whoever cannot have it has it open nevertheless.
        let _ = terminal.acquire();
    }
    Ok(file)
}

impl FileOps for TerminalFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let bytes = self
            .terminal
            .read(to.remaining().min(CHUNK * 4), io.nonblocking)?;
        if bytes.is_empty() {
            Ok(0)
        } else {
            to.write(&bytes)
        }
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let mut done = 0;
        while from.remaining() > 0 {
            let mut chunk = [0; CHUNK];
            let len = from.remaining().min(CHUNK);
            let step = from.read(&mut chunk[..len]).and_then(|count| {
                Ok((count, self.terminal.write(&chunk[..count], io.nonblocking)?))
            });
            match step {
                Ok((count, written)) => {
                    done += written;
                    if written < count || sched::is_to_stop() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        self.terminal.poll(table)
    }

    fn signals_io(&self) -> bool {
        true
    }

    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        if self.terminal.is_hung_up() {
            return Err(if command == raw::TIOCSPGRP {
                Errno::ENOTTY
            } else {
                Errno::EIO
            });
        }
        match command {
            raw::TIOCSCTTY => self.terminal.acquire().map(|()| 0),
            raw::TIOCNOTTY => self.terminal.release().map(|()| 0),
            raw::FIONREAD => put_int(arg, self.terminal.available()),
            raw::TIOCOUTQ => put_int(arg, self.terminal.pending_output()),
            _ => ioctl(&self.terminal, command, arg, false),
        }
    }
}

/// The commands that both ends of a pseudo-terminal have.
pub(super) fn ioctl(terminal: &Terminal, command: u32, arg: u64, is_master: bool) -> Result<u64> {
    match command {
        raw::TCGETS => put_bytes(arg, terminal.termios().as_bytes()),
        TCGETS2 => put_bytes(arg, termios2(terminal).as_bytes()),
        raw::TCSETS | TCSETS2 => set(terminal, arg, false, false, is_master),
        raw::TCSETSW | TCSETSW2 => set(terminal, arg, true, false, is_master),
        raw::TCSETSF | TCSETSF2 => set(terminal, arg, true, true, is_master),
        raw::TIOCGWINSZ => put_bytes(arg, terminal.window_size().as_bytes()),
        raw::TIOCSWINSZ => {
            let mut size = [0_u16; 4];
            get_bytes(arg, size.as_mut_bytes())?;
            terminal.set_window_size(size);
            Ok(0)
        }
        raw::TIOCGPGRP | raw::TIOCGSID => {
            if !is_master && !terminal.controls_caller() {
                return Err(Errno::ENOTTY);
            }
            let number = match command {
                raw::TIOCGPGRP => terminal
                    .foreground_group()
                    .map_or(0, |group| job_control().shown(&group)),
                _ => job_control().shown(&terminal.session().ok_or(Errno::ENOTTY)?),
            };
            put_bytes(arg, &number.to_ne_bytes())
        }
        raw::TIOCSPGRP => terminal.set_foreground(get_int(arg)?).map(|()| 0),
        raw::TCFLSH => {
            let (input, output) = flushed(arg)?;
            changing(terminal, is_master)?;
            terminal.flush(input, output);
            Ok(0)
        }
        raw::TCSBRK | raw::TCSBRKP => {
            changing(terminal, is_master)?;
            terminal.drain().map(|()| 0)
        }
        raw::TCXONC => {
            changing(terminal, is_master)?;
            match arg {
                0 => terminal.set_stopped(true),
                1 => terminal.set_stopped(false),
                // Sending stop and start characters to the other end: it has none to stop.
                2 | 3 => {}
                _ => return Err(Errno::EINVAL),
            }
            Ok(0)
        }
        raw::TIOCEXCL | raw::TIOCNXCL => {
            terminal.set_exclusive(command == raw::TIOCEXCL);
            Ok(0)
        }
        raw::TIOCGEXCL => put_int(arg, terminal.is_exclusive().into()),
        // There is no line that could be held in the break state.
        raw::TIOCSBRK | raw::TIOCCBRK if !is_master => changing(terminal, is_master).map(|()| 0),
        raw::TIOCGETD => put_bytes(arg, &N_TTY.to_ne_bytes()),
        raw::TIOCSETD => match get_int(arg)? {
            N_TTY => Ok(0),
            _ => Err(Errno::EINVAL),
        },
        // Typing for somebody else, as Linux answers since it can be turned off.
        raw::TIOCSTI => Err(Errno::EIO),
        _ => Err(Errno::ENOTTY),
    }
}

/// What TCFLSH's argument names: input, output.
///
/// # Errors
/// `EINVAL`.
pub(super) fn flushed(arg: u64) -> Result<(bool, bool)> {
    match arg {
        0 => Ok((true, false)),
        1 => Ok((false, true)),
        2 => Ok((true, true)),
        _ => Err(Errno::EINVAL),
    }
}

fn changing(terminal: &Terminal, is_master: bool) -> Result<()> {
    if is_master {
        Ok(())
    } else {
        terminal.check_change()
    }
}

fn set(terminal: &Terminal, arg: u64, drain: bool, flush: bool, is_master: bool) -> Result<u64> {
    let mut new = Termios::new_zeroed();
    get_bytes(arg, new.as_mut_bytes())?;
    changing(terminal, is_master)?;
    if drain {
        terminal.drain()?;
    }
    terminal.set_termios(&new, flush);
    Ok(0)
}

fn termios2(terminal: &Terminal) -> Termios2 {
    Termios2 {
        termios: terminal.termios(),
        input_speed: SPEED,
        output_speed: SPEED,
    }
}

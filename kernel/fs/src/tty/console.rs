//! The console: the terminal that `console=` names, `/dev/console`, and `/dev/tty`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result};
use machine::sync::SpinLock;
use sched::thread::ThreadBuilder;

use super::file;
use super::terminal::{Line, Terminal};
use crate::cred::Credentials;
use crate::device::{self, CharDriver};
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::job_control::job_control;
use crate::metadata::DeviceId;
use crate::path::Path;

const TTY: DeviceId = DeviceId::new(5, 0);
const CONSOLE: DeviceId = DeviceId::new(5, 1);
/// `/dev/ttyS0`.
const SERIAL: DeviceId = DeviceId::new(4, 64);
/// Bytes taken from the serial port at a time.
const CHUNK: usize = 64;

static CONSOLE_TERMINAL: SpinLock<Option<Arc<Terminal>>> = SpinLock::new(None);

/// The machine's serial port: it takes everything at once.
struct SerialLine;

impl Line for SerialLine {
    fn send(&self, bytes: &[u8]) -> usize {
        machine::power::log_bytes(bytes);
        bytes.len()
    }

    fn room(&self) -> usize {
        usize::MAX
    }
}

/// Opens one terminal.
struct Fixed(Arc<Terminal>);

impl CharDriver for Fixed {
    fn open(
        &self,
        _: DeviceId,
        _: &Path,
        flags: OpenFlags,
        _: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>> {
        Ok(file::open(&self.0, flags, None))
    }
}

/// `/dev/tty` and `/dev/console`.
struct Aliases;

impl CharDriver for Aliases {
    fn open(
        &self,
        id: DeviceId,
        _: &Path,
        flags: OpenFlags,
        _: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>> {
        let terminal = if id == TTY {
            let controlling: Arc<dyn Any + Send + Sync> =
                job_control().terminal().ok_or(Errno::ENXIO)?;
            controlling.downcast::<Terminal>().map_err(|_| Errno::ENXIO)?
        } else {
            CONSOLE_TERMINAL.lock().clone().ok_or(Errno::ENXIO)?
        };
        // Neither ever becomes a controlling terminal by being opened.
        Ok(file::open(&terminal, flags | OpenFlags::NOCTTY, None))
    }
}

/// Registers `/dev/tty`, `/dev/console` and the serial port, which is the console until another is
/// set. Its input is taken by a kernel thread.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn register() -> Result<()> {
    let aliases = Arc::new(Aliases);
    device::register_char(TTY, "tty", 0o666, aliases.clone());
    device::register_char(CONSOLE, "console", 0o600, aliases);
    let serial = Terminal::new(SERIAL, Arc::new(SerialLine));
    device::register_char(SERIAL, "ttyS0", 0o600, Arc::new(Fixed(serial.clone())));
    set_console(serial.clone());
    let arrived = Arc::new(sched::WaitQueue::new());
    let woken = arrived.clone();
    if !machine::serial::listen(Box::new(move || woken.wake_all())) {
        return Ok(());
    }
    let thread = ThreadBuilder::new(b"ttyS0", move || {
        loop {
            let mut bytes = [0; CHUNK];
            let count = arrived.wait_until(|| match machine::serial::read(&mut bytes) {
                0 => None,
                count => Some(count),
            });
            // Typed faster than it is read: the rest is lost, as on any serial line.
            serial.receive(&bytes[..count]);
        }
    });
    thread.spawn().map(drop)
}

/// Makes `terminal` the console.
pub fn set_console(terminal: Arc<Terminal>) {
    let old = CONSOLE_TERMINAL.lock().replace(terminal);
    drop(old);
}

/// Registers a terminal that is a device of its own, under `name` below /dev.
pub fn register_terminal(terminal: &Arc<Terminal>, name: &str) {
    device::register_char(terminal.id(), name, 0o600, Arc::new(Fixed(terminal.clone())));
}

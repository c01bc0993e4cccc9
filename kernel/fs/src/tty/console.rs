//! The console: the terminal that `console=` names, `/dev/console`, and `/dev/tty`.

use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result};
use collections::{try_arc, try_box};
use machine::sync::{IrqLock, SpinLock};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;

use super::file;
use super::terminal::{Line, Terminal};
use crate::cred::Credentials;
use crate::device::{self, CharDriver, Reach};
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;
use crate::job_control::job_control;
use crate::metadata::DeviceId;
use crate::path::Path;

const TTY: DeviceId = DeviceId::new(5, 0);
const CONSOLE: DeviceId = DeviceId::new(5, 1);
/// `/dev/ttyS0`.
const SERIAL: DeviceId = DeviceId::new(4, 64);
/// Bytes kept between the interrupt and the thread that takes them.
const TYPED_MAX: usize = 256;

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
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>> {
        file::check_exclusive(&self.0, credentials)?;
        file::open(&self.0, flags, None)
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
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>> {
        let terminal = if id == TTY {
            let controlling: Arc<dyn Any + Send + Sync> =
                job_control().terminal().ok_or(Errno::ENXIO)?;
            controlling
                .downcast::<Terminal>()
                .map_err(|_| Errno::ENXIO)?
        } else {
            CONSOLE_TERMINAL.lock().clone().ok_or(Errno::ENXIO)?
        };
        file::check_exclusive(&terminal, credentials)?;
        // Neither ever becomes a controlling terminal by being opened.
        file::open(&terminal, flags | OpenFlags::NOCTTY, None)
    }
}

/// Registers `/dev/tty`, `/dev/console` and the serial port, which is the console until another is
/// set. Its input is taken by a kernel thread.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn register() -> Result<()> {
    let aliases = try_arc(Aliases)?;
    device::register_char(TTY, "tty", 0o666, Reach::Any, aliases.clone())?;
    device::register_char(CONSOLE, "console", 0o600, Reach::Machine, aliases)?;
    let serial = Terminal::new(SERIAL, try_arc(SerialLine)?)?;
    let driver = try_arc(Fixed(serial.clone()))?;
    device::register_char(SERIAL, "ttyS0", 0o600, Reach::Machine, driver)?;
    set_console(serial.clone());
    let typed = try_arc(Typed {
        bytes: IrqLock::new(([0; TYPED_MAX], 0)),
        arrived: WaitQueue::new(),
    })?;
    let port = typed.clone();
    machine::serial::start_input(try_box(move |bytes: &[u8]| port.put(bytes))?)?;
    let thread = ThreadBuilder::new(b"ttyS0", move || {
        loop {
            let (bytes, len) = typed.arrived.wait_until(|| typed.take());
            // Typed faster than it is read: the rest is lost, as on any serial line.
            let _ = serial.receive(&bytes[..len]);
        }
    });
    thread.spawn().map(drop)
}

/// Bytes from the serial port on their way from the interrupt to the terminal.
struct Typed {
    bytes: IrqLock<([u8; TYPED_MAX], usize)>,
    arrived: WaitQueue,
}

impl Typed {
    fn put(&self, from: &[u8]) {
        let mut guard = self.bytes.lock();
        let (bytes, len) = &mut *guard;
        let count = from.len().min(TYPED_MAX - *len);
        bytes[*len..*len + count].copy_from_slice(&from[..count]);
        *len += count;
        drop(guard);
        self.arrived.wake_all();
    }

    fn take(&self) -> Option<([u8; TYPED_MAX], usize)> {
        let mut guard = self.bytes.lock();
        let taken = *guard;
        guard.1 = 0;
        (taken.1 > 0).then_some(taken)
    }
}

/// Makes `terminal` the console.
pub fn set_console(terminal: Arc<Terminal>) {
    let old = CONSOLE_TERMINAL.lock().replace(terminal);
    drop(old);
}

/// Registers a terminal that is a device of its own, under `name` below /dev.
///
/// # Errors
/// `ENOMEM`.
pub fn register_terminal(terminal: &Arc<Terminal>, name: &str) -> Result<()> {
    let driver = try_arc(Fixed(terminal.clone()))?;
    device::register_char(terminal.id(), name, 0o600, Reach::Machine, driver)
}

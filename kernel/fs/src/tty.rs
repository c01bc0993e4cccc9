//! Terminals: the line discipline N_TTY, pseudo-terminals with devpts, the console.
//!
//! [`discipline`] is what becomes of typed bytes, as data; [`terminal`] adds waiting, sessions and
//! signals; [`file`] is an open terminal. [`pty`], [`console`] and [`virtio_console`] are the lines a
//! terminal can be on.

mod console;
mod devpts;
mod discipline;
mod echo;
mod file;
mod output;
mod pty;
mod terminal;
mod termios;
mod virtio_console;

#[cfg(test)]
mod tests;

use abi::Result;

pub use console::{register_terminal, set_console};
pub use devpts::{DevPtsType, open_peer};
pub use terminal::{Line, Terminal, WindowSize};
pub use termios::{Cc, Termios};
pub use virtio_console::add_console;

/// Registers devpts, the serial port, `/dev/tty` and `/dev/console`. Once, at start-up.
///
/// # Errors
/// `ENOMEM`.
pub fn register() -> Result<()> {
    devpts::register()?;
    console::register()
}

//! Terminals: the line discipline N_TTY, pseudo-terminals with devpts, the console.
//!
//! [`discipline`] is what becomes of typed bytes, as data; [`terminal`] adds waiting, sessions and
//! signals; [`pty`] and [`console`] are the two kinds of line a terminal can be on.

mod discipline;
mod echo;
mod terminal;
mod termios;

pub use terminal::{Line, Terminal, WindowSize};
pub use termios::{Cc, Termios};

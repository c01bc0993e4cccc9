//! The life of a user thread: run, act on why it stopped, deliver signals, give way.

use abi::Errno;

/// A system call that a signal interrupted and that wants to be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// Which of the restart codes it returned.
    pub kind: Restart,
    /// Its number, to put back.
    pub number: u64,
}

/// When an interrupted call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Unless a handler without SA_RESTART runs (`ERESTARTSYS`).
    UnlessHandlerRefuses,
    /// Always (`ERESTARTNOINTR`).
    Always,
    /// Only when no handler runs (`ERESTARTNOHAND`).
    WithoutHandler,
    /// Only when no handler runs, and through restart_syscall(2) (`ERESTART_RESTARTBLOCK`).
    Block,
}

impl Interrupted {
    /// The restart that `errno` asks for, if it is one of the kernel's own codes.
    #[must_use]
    pub fn from_errno(errno: Errno, number: u64) -> Option<Self> {
        let kind = match errno {
            Errno::ERESTARTSYS => Restart::UnlessHandlerRefuses,
            Errno::ERESTARTNOINTR => Restart::Always,
            Errno::ERESTARTNOHAND => Restart::WithoutHandler,
            Errno::ERESTART_RESTARTBLOCK => Restart::Block,
            _ => return None,
        };
        Some(Self { kind, number })
    }
}

//! What terminals and files need to know of processes: sessions, process groups, whom to signal, who asks.
//!
//! Processes are above this layer, so `process` implements [`JobControl`] and sets it at start-up;
//! terminals call [`job_control`]. In unit tests, and before it is set, there is one process in
//! session 0 that takes every signal and remembers nothing.

use alloc::sync::Arc;
use core::any::Any;

use abi::Result;
use machine::sync::SpinLock;

use crate::cred::Credentials;
use crate::sigio::IoSignal;

/// What goes by an id now, and never what goes by it later: ids of the dead are used again. By the kernel's own
/// numbers; what goes to or comes from a program is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Id {
    number: i32,
    serial: u64,
}

impl Id {
    /// Nothing.
    pub const NONE: Self = Self {
        number: 0,
        serial: 0,
    };

    /// What has `number` and, of all that ever had it, `serial`.
    #[must_use]
    pub const fn new(number: i32, serial: u64) -> Self {
        Self { number, serial }
    }

    /// The number that it had when it was remembered.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.number
    }

    /// Whether this is something.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// A terminal as its session knows it.
pub trait ControllingTerminal: Any + Send + Sync {
    /// Major and minor number (`tty_nr` in /proc/PID/stat).
    fn device(&self) -> (u32, u32);

    /// The foreground process group (`tpgid`), if there is one.
    fn foreground_group(&self) -> Id;

    /// The session's leader has exited: hang up the foreground group (SIGHUP and SIGCONT) and
    /// forget the session. The session has already let go of the terminal.
    fn session_ended(&self);
}

impl core::fmt::Debug for dyn ControllingTerminal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ControllingTerminal({:?})", self.device())
    }
}

/// A terminal as a session holds it; the tty layer gets its own type back by `downcast` of `Any`.
pub type Terminal = Arc<dyn ControllingTerminal>;

/// Sessions and process groups, as seen by the calling thread.
pub trait JobControl: Send + Sync {
    /// Who the calling thread is; `None` for the kernel's own threads.
    fn credentials(&self) -> Option<Arc<Credentials>>;

    /// What the caller's PID namespace calls `id`; 0 when it does not see it, or it is gone.
    fn shown(&self, id: Id) -> i32;

    /// What the caller's PID namespace calls `number`.
    fn find(&self, number: i32) -> Option<Id>;

    /// The caller's session; none for a thread of the kernel.
    fn session(&self) -> Id;

    /// The caller's process group; none for a thread of the kernel.
    fn group(&self) -> Id;

    /// Whether the caller is the leader of its session.
    fn is_session_leader(&self) -> bool;

    /// The session that process group `group` is in; `None` when there is no such group.
    fn session_of_group(&self, group: Id) -> Option<Id>;

    /// Whether no member of the caller's group has a parent in the same session but another group:
    /// nobody could continue it.
    fn group_is_orphaned(&self) -> bool;

    /// Whether the caller blocks or ignores `signal`.
    fn is_blocked_or_ignored(&self, signal: u8) -> bool;

    /// Sends `signal` from the kernel to every process of `group`.
    fn signal_group(&self, group: Id, signal: u8);

    /// Sends `signal` from the kernel to the leader of `session`.
    fn signal_session_leader(&self, session: Id, signal: u8);

    /// The controlling terminal of the caller's session.
    fn terminal(&self) -> Option<Terminal>;

    /// Makes `terminal` the controlling terminal of the caller's session (TIOCSCTTY), or with `None`
    /// takes it from that session (TIOCNOTTY, hang-up).
    ///
    /// # Errors
    /// `EPERM` when the caller is not the session's leader or the session has another terminal.
    fn set_terminal(&self, terminal: Option<Terminal>) -> Result<()>;

    /// Takes the controlling terminal from `session`, whoever calls (the terminal hung up).
    fn disassociate(&self, session: Id);

    /// Sends `signal` from the kernel to the calling thread.
    fn signal_caller(&self, signal: u8);

    /// Tells the owner of a file with `O_ASYNC` what became ready, if who set the owner may signal it.
    fn signal_io(&self, signal: &IoSignal);
}

static JOB_CONTROL: SpinLock<&'static dyn JobControl> = SpinLock::new(&Alone);

/// Sets who answers. Once, at start-up.
pub fn set_job_control(job_control: &'static dyn JobControl) {
    *JOB_CONTROL.lock() = job_control;
}

/// Who answers.
#[must_use]
pub fn job_control() -> &'static dyn JobControl {
    *JOB_CONTROL.lock()
}

struct Alone;

impl JobControl for Alone {
    fn credentials(&self) -> Option<Arc<Credentials>> {
        None
    }
    fn shown(&self, id: Id) -> i32 {
        id.number()
    }
    fn find(&self, number: i32) -> Option<Id> {
        Some(Id::new(number, 0))
    }
    fn session(&self) -> Id {
        Id::NONE
    }
    fn group(&self) -> Id {
        Id::NONE
    }
    fn is_session_leader(&self) -> bool {
        true
    }
    fn session_of_group(&self, group: Id) -> Option<Id> {
        (group == Id::NONE).then_some(Id::NONE)
    }
    fn group_is_orphaned(&self) -> bool {
        false
    }
    fn is_blocked_or_ignored(&self, _: u8) -> bool {
        false
    }
    fn signal_group(&self, _: Id, _: u8) {}
    fn signal_session_leader(&self, _: Id, _: u8) {}
    fn terminal(&self) -> Option<Terminal> {
        None
    }
    fn set_terminal(&self, _: Option<Terminal>) -> Result<()> {
        Ok(())
    }
    fn disassociate(&self, _: Id) {}
    fn signal_caller(&self, _: u8) {}
    fn signal_io(&self, _: &IoSignal) {}
}

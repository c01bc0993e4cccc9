//! What terminals and files need to know of processes: sessions, process groups, whom to signal, who asks.
//!
//! Processes are above this layer, so `process` implements [`JobControl`] and sets it at start-up;
//! terminals call [`job_control`]. In unit tests, and before it is set, there is one process, in no
//! session, that takes every signal and knows no other.

use alloc::sync::Arc;
use core::any::Any;

use abi::Result;
use machine::sync::SpinLock;

use crate::cred::Credentials;
use crate::sigio::IoSignal;

/// What an id stands for (`process::Pid`, which this layer does not know): a process, a thread, a group, a session.
/// Never what has its number later.
#[derive(Clone)]
pub struct PidRef(Arc<dyn Any + Send + Sync>);

impl PidRef {
    /// A reference to `pid`.
    #[must_use]
    pub fn new(pid: Arc<dyn Any + Send + Sync>) -> Self {
        Self(pid)
    }

    /// What it refers to, by its own type.
    #[must_use]
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl PartialEq for PidRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PidRef {}

impl core::fmt::Debug for PidRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PidRef({:p})", Arc::as_ptr(&self.0))
    }
}

/// A terminal as its session knows it.
pub trait ControllingTerminal: Any + Send + Sync {
    /// Major and minor number (`tty_nr` in /proc/PID/stat).
    fn device(&self) -> (u32, u32);

    /// The foreground process group (`tpgid`), if there is one.
    fn foreground_group(&self) -> Option<PidRef>;

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

    /// What the caller's PID namespace calls `pid`; 0 when it does not see it, or nothing goes by it any more.
    fn shown(&self, pid: &PidRef) -> i32;

    /// What the caller's PID namespace calls `number`.
    fn find(&self, number: i32) -> Option<PidRef>;

    /// The caller's session; none for a thread of the kernel.
    fn session(&self) -> Option<PidRef>;

    /// The caller's process group; none for a thread of the kernel.
    fn group(&self) -> Option<PidRef>;

    /// Whether the caller is the leader of its session.
    fn is_session_leader(&self) -> bool;

    /// The session that process group `group` is in; `None` when there is no such group.
    fn session_of_group(&self, group: &PidRef) -> Option<PidRef>;

    /// Whether no member of the caller's group has a parent in the same session but another group:
    /// nobody could continue it.
    fn group_is_orphaned(&self) -> bool;

    /// Whether the caller blocks or ignores `signal`.
    fn is_blocked_or_ignored(&self, signal: u8) -> bool;

    /// Sends `signal` from the kernel to every process of `group`.
    fn signal_group(&self, group: &PidRef, signal: u8);

    /// Sends `signal` from the kernel to the leader of `session`.
    fn signal_session_leader(&self, session: &PidRef, signal: u8);

    /// The controlling terminal of the caller's session.
    fn terminal(&self) -> Option<Terminal>;

    /// Makes `terminal` the controlling terminal of the caller's session (TIOCSCTTY), or with `None`
    /// takes it from that session (TIOCNOTTY, hang-up).
    ///
    /// # Errors
    /// `EPERM` when the caller is not the session's leader or the session has another terminal.
    fn set_terminal(&self, terminal: Option<Terminal>) -> Result<()>;

    /// Takes the controlling terminal from `session`, whoever calls (the terminal hung up).
    fn disassociate(&self, session: &PidRef);

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
    fn shown(&self, _: &PidRef) -> i32 {
        0
    }
    fn find(&self, _: i32) -> Option<PidRef> {
        None
    }
    fn session(&self) -> Option<PidRef> {
        None
    }
    fn group(&self) -> Option<PidRef> {
        None
    }
    fn is_session_leader(&self) -> bool {
        true
    }
    fn session_of_group(&self, _: &PidRef) -> Option<PidRef> {
        None
    }
    fn group_is_orphaned(&self) -> bool {
        false
    }
    fn is_blocked_or_ignored(&self, _: u8) -> bool {
        false
    }
    fn signal_group(&self, _: &PidRef, _: u8) {}
    fn signal_session_leader(&self, _: &PidRef, _: u8) {}
    fn terminal(&self) -> Option<Terminal> {
        None
    }
    fn set_terminal(&self, _: Option<Terminal>) -> Result<()> {
        Ok(())
    }
    fn disassociate(&self, _: &PidRef) {}
    fn signal_caller(&self, _: u8) {}
    fn signal_io(&self, _: &IoSignal) {}
}

//! ptrace(2): one thread watches and changes another.
//!
//! [`link`] has how that begins and ends, [`stop`] what the traced thread does, [`calls`] its stops around system calls,
//! [`request`] what its tracer asks for while it is stopped, [`registers`] the layouts of registers, [`report`] what
//! wait(2) tells. What a traced thread has is its [`Traced`](crate::task::traced::Traced).
//!
//! A stopped thread has put its registers where its tracer finds them, and waits with no lock held; a fatal signal ends
//! that as it ends a sleep. Who traces whom is under the tree's lock; lock order: the tree, a process's signal state, what
//! a traced thread has.

mod calls;
mod link;
pub mod registers;
pub(crate) mod report;
pub mod request;
mod stop;

pub use crate::task::traced::{Saved, TraceOptions};
pub use calls::seccomp_stop;
pub(crate) use calls::{around_call, exec_stop, exit_stop, new_child_stop, vfork_done_stop};
pub use link::{Attach, attach, detach, trace_me};
pub(crate) use link::{Inherited, end_of_tracer, inherit, is_unprivileged, thread_died};
pub(crate) use stop::debug_exception;
pub(crate) use stop::{TRAP_FLAG, on_handler, on_signal, stop_with_process, stops_stepping};

/// What a ptrace stop is for, beyond its signal (`PTRACE_EVENT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Event {
    Fork = 1,
    Vfork = 2,
    Clone = 3,
    Exec = 4,
    VforkDone = 5,
    Exit = 6,
    Seccomp = 7,
    Stop = 128,
}

impl Event {
    /// The option that asks for it; [`Event::Stop`] has none, it is always told.
    fn option(self) -> TraceOptions {
        match self {
            Event::Fork => TraceOptions::FORK,
            Event::Vfork => TraceOptions::VFORK,
            Event::Clone => TraceOptions::CLONE,
            Event::Exec => TraceOptions::EXEC,
            Event::VforkDone => TraceOptions::VFORK_DONE,
            Event::Exit => TraceOptions::EXIT,
            Event::Seccomp => TraceOptions::SECCOMP,
            Event::Stop => TraceOptions::empty(),
        }
    }

    /// What stands above the signal's number in a wait status.
    fn code(self, signal: crate::signal::Signal) -> i32 {
        (self as i32) << 8 | i32::from(signal.number())
    }
}

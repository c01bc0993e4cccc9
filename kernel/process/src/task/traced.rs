//! [`Traced`]: what a thread has while another traces it (ptrace(2)): by whom, with which options, and what of it stands
//! still for the tracer while it is stopped.
//!
//! A thread's [`Traced`] is put and taken with the tree locked; its tracer's process lists it in its
//! [`Node`](super::relations::node::Node). [`Traced::state`] is a lock of its own, a leaf below the tree's and the signal
//! state's. What is done with it is in [`crate::trace`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Result;
use collections::try_arc;
use fs::Credentials;
use machine::sync::SpinLock;
use machine::user_mode::{DebugRegisters, Registers};
use sched::WaitQueue;

use super::thread::Thread;
use crate::signal::info::SigInfo;
use crate::signal::number::Signal;

bitflags::bitflags! {
    /// What a thread's way into and out of the kernel depends on while it is traced; no bit is set when it is not.
    /// Changed with its process's signal state locked, `FORCED_TRAP` by the thread alone.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct TraceFlags: u32 {
        /// It is traced.
        const TRACED = 1;
        /// By PTRACE_SEIZE.
        const SEIZED = 1 << 1;
        /// It stops at the next entry to and exit from a system call.
        const SYSCALL = 1 << 2;
        /// It stops at the next entry, and the call is not made.
        const EMULATE = 1 << 3;
        /// It stops behind the next instruction.
        const STEP = 1 << 4;
        /// Its trap flag was set for that, not by itself.
        const FORCED_TRAP = 1 << 5;
        /// It is to stop (PTRACE_INTERRUPT, a new thread of a seized one's).
        const TRAP = 1 << 6;
        /// It is to stop because a group-stop has begun or ended.
        const NOTIFY = 1 << 7;
        /// Its tracer has it run although its process is stopped: it counts among those that have come to the stop.
        const LEFT_STOP = 1 << 8;
    }

    /// `PTRACE_O_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct TraceOptions: u32 {
        /// System-call stops are told from others.
        const TRACESYSGOOD = 1;
        /// A stop behind fork(2), whose child is traced, too.
        const FORK = 1 << 1;
        /// The same of vfork(2).
        const VFORK = 1 << 2;
        /// The same of clone(2).
        const CLONE = 1 << 3;
        /// A stop behind execve(2).
        const EXEC = 1 << 4;
        /// A stop when the child of vfork(2) has let go of the memory.
        const VFORK_DONE = 1 << 5;
        /// A stop before the end.
        const EXIT = 1 << 6;
        /// A stop where a filter says so (SECCOMP_RET_TRACE).
        const SECCOMP = 1 << 7;
        /// SIGKILL when the tracer ends.
        const EXIT_KILL = 1 << 20;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Traced {
    /// Who may make requests.
    pub(crate) tracer: Arc<Thread>,
    /// What it may do, as when it began.
    pub(crate) credentials: Arc<Credentials>,
    options: AtomicU32,
    /// Where the thread waits while it is stopped.
    pub(crate) queue: WaitQueue,
    pub(crate) state: SpinLock<TraceState>,
}

/// Where a traced thread stands.
#[derive(Debug, Default)]
pub(crate) struct TraceState {
    /// It is stopped, for the tracer to look at.
    pub(crate) stop: Option<Stop>,
    /// It stays stopped, but says when its group-stop ends (PTRACE_LISTEN).
    pub(crate) is_listening: bool,
    /// The stop is over.
    pub(crate) resumed: Option<Resumed>,
    /// What PTRACE_GETEVENTMSG answers.
    pub(crate) message: u64,
    /// Its registers, while it is stopped.
    pub(crate) saved: Saved,
    /// It has ended with this wait status, and its tracer was not told yet. Not of the first thread: of that, its
    /// process says so.
    pub(crate) dead: Option<i32>,
}

/// Why a thread is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// The second byte of the wait status, and the event above it.
    pub(crate) code: i32,
    /// What PTRACE_GETSIGINFO answers; a group-stop has none.
    pub(crate) info: Option<SigInfo>,
    /// wait(2) has told of it.
    pub(crate) is_told: bool,
}

/// How a thread goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumed {
    /// With this signal.
    pub(crate) signal: Option<Signal>,
    /// What the stop's information has become.
    pub(crate) info: Option<SigInfo>,
}

/// A stopped thread's registers: what the tracer changes is taken over when it goes on.
#[derive(Debug, Default)]
pub struct Saved {
    /// The registers. Of the trap flag only what the program has set itself is seen.
    pub regs: Registers,
    /// The number of the system call that it is in; negative outside of one.
    pub orig_rax: u64,
    /// The FPU state; empty when there was no memory for it.
    pub(crate) fpu: collections::Vec<u8>,
    /// The tracer has changed that.
    pub(crate) is_fpu_changed: bool,
    /// Breakpoints.
    pub debug: DebugRegisters,
    /// What the last debug exception was for (DR6).
    pub debug_status: u64,
}

impl Traced {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        tracer: &Arc<Thread>,
        credentials: Arc<Credentials>,
        options: TraceOptions,
    ) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            tracer: tracer.clone(),
            credentials,
            options: AtomicU32::new(options.bits()),
            queue: WaitQueue::new(),
            state: SpinLock::new(TraceState::default()),
        })?)
    }

    pub(crate) fn options(&self) -> TraceOptions {
        TraceOptions::from_bits_truncate(self.options.load(Ordering::Relaxed))
    }

    pub(crate) fn set_options(&self, options: TraceOptions) {
        self.options.store(options.bits(), Ordering::Relaxed);
    }

    /// Whether `thread` is in a stop that its tracer may look at.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stop.is_some()
    }

    /// Ends a stop; `signal` is what the thread goes on with. Whether there was one.
    pub(crate) fn resume(&self, signal: impl FnOnce(&Stop) -> Option<Signal>) -> bool {
        let mut state = self.state.lock();
        let Some(stop) = state.stop.take() else {
            return false;
        };
        state.is_listening = false;
        state.resumed = Some(Resumed {
            signal: signal(&stop),
            info: stop.info,
        });
        drop(state);
        self.queue.wake_all();
        true
    }
}

//! Processes and threads: ids, relations, signals, credentials, exec, futexes, timers, procfs.
//!
//! A user thread is a kernel thread of `sched` whose extension is a [`thread::Thread`]; it runs
//! [`user_loop`]. A [`Process`] is a thread group. Whatever goes by an id refers to a [`Pid`]; who is whose parent, and
//! which group and session a process is in, is the business of [`relations`], under the lock of the [`tree`].
//!
//! Lock order: the tree, a process's signal state, its timers. Each is a spin lock; nothing blocks
//! and no user memory is touched with one held.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod clone;
mod completion;
pub mod cred;
pub mod exec;
pub mod exit;
pub mod futex;
pub mod group;
mod init;
mod job_control;
pub mod load;
mod mem_stats;
pub mod namespace;
pub mod oom;
pub mod own;
pub mod pid;
pub mod pid_namespace;
pub mod pidfd;
pub mod procfs;
pub mod relations;
pub mod restart;
pub mod rlimit;
pub mod signal;
#[cfg(test)]
mod tests;
pub mod thread;
pub mod timer;
pub mod tree;
pub mod usage;
pub mod user_loop;
pub mod uts;
pub mod waiting;

pub use group::Process;
pub use init::{InitRequest, start_init};
pub use pid::{Pid, PidNumber};

use core::sync::atomic::Ordering;

/// Waits until `condition` returns something; `None` when `thread`, the calling one, is to exit. Other
/// signals do not end the wait.
pub(crate) fn wait_killable<R>(
    queue: &sched::WaitQueue,
    thread: &thread::Thread,
    mut condition: impl FnMut() -> Option<R>,
) -> Option<R> {
    loop {
        if let Ok(value) = queue.wait_interruptible(&mut condition) {
            return Some(value);
        }
        // First, so that what is sent after the look below interrupts the next wait. What is not fatal is
        // delivered once the wait is over: `attention` still says so.
        if let Some(kernel) = thread.kernel() {
            kernel.clear_interrupt();
        }
        let dying = thread.process().signals.lock().must_exit(thread);
        if dying || thread.exiting.load(Ordering::Relaxed) {
            return None;
        }
    }
}

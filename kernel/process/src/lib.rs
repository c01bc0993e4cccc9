//! Processes and threads: ids, relations, signals, credentials, exec, futexes, timers, procfs.
//!
//! A user thread is a kernel thread of `sched` whose extension is a [`thread::Thread`]; it runs
//! [`user_loop`]. A [`Process`] is a thread group. Who is whose parent, which group and session a
//! process is in and which ids are taken stands in [`tree`].
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod group;
pub mod thread;
pub mod user_loop;

pub use group::Process;

/// An id of a process, thread, process group or session. Positive, except where a system call
/// gives other numbers a meaning.
pub type Pid = i32;

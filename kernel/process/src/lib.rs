//! Processes and threads: ids, relations, signals, credentials, exec, futexes, timers, procfs.
//!
//! A user thread is a kernel thread of `sched` whose extension is a [`Thread`](task::thread::Thread); it runs
//! [`user_loop`]. A [`Process`] is a thread group. Whatever goes by an id refers to a [`Pid`]; who is whose parent, and
//! which group and session a process is in, is the business of [`relations`](task::relations), under the lock of the
//! [`tree`](task::tree). [`task`] has the types that refer to each other, all else stands above them.
//!
//! Lock order: the hierarchy of control groups, which sleeps; the tree, a process's signal state, its timers. Those are spin locks; nothing blocks
//! and no user memory is touched with one held.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod cgroup;
pub mod clone;
mod completion;
pub mod core_dump;
pub mod cred;
pub mod exec;
pub mod exit;
pub mod futex;
mod init;
pub mod ipc;
mod job_control;
pub mod load;
pub mod namespace;
pub mod oom;
pub mod own;
pub mod pidfd;
pub mod procfs;
pub mod restart;
pub mod rlimit;
pub mod seccomp;
pub mod signal;
pub mod task;
#[cfg(test)]
mod tests;
pub mod timer;
pub mod trace;
pub mod usage;
pub mod user_loop;
pub mod uts;
pub mod waiting;

pub use init::{InitRequest, start_init};
pub use task::numbers::PidNumber;
pub use task::pid::Pid;
pub use task::process::Process;

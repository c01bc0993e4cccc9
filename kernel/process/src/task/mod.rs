//! The objects that are there for each other: threads, processes, what goes by an id, and who is whose parent.
//!
//! A [`Thread`](thread::Thread) belongs to a [`Process`](process::Process), which has its threads in its
//! [`SignalState`](signals::SignalState); both go by a [`Pid`](pid::Pid), which has a number in its
//! [`PidNamespace`](pid_namespace::PidNamespace) and in those above; that knows what its numbers mean. So their types refer
//! to one another, and stand here together. What is done with them (signals, clone, exec, exit, waiting, timers, /proc)
//! is above, and nothing here needs it: what a type here holds of it (a queue of signals, limits, timers) is data.

pub mod cgroup;
pub mod ns_proxy;
pub mod numbers;
pub mod pid;
pub mod pid_namespace;
pub(crate) mod proc_names;
pub mod process;
pub mod relations;
pub mod signals;
pub mod thread;
mod threads;
pub mod traced;
pub mod tree;

//! Kernel stacks and the switch between them. Scheduling policy is `sched`'s.
//!
//! On the host each task is a host thread and a switch hands a baton from one to the other.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::Task;
#[cfg(not(target_os = "none"))]
pub use host::Task;

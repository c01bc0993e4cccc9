//! Kernel stacks and the switch between them. Scheduling policy is `sched`'s.
//!
//! `switch_to` consumes its reference and keeps the running task alive by itself: a task that exits
//! never returns from its last switch, and nothing on its stack is dropped. A new task's entry
//! starts with interrupts on.
//!
//! On the host each task is a host thread and a switch hands a baton from one to the other.

#[cfg(target_os = "none")]
mod bare;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::Task;
#[cfg(target_os = "none")]
pub(crate) use bare::running_stack_top;
#[cfg(not(target_os = "none"))]
pub use host::Task;

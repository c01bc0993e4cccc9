//! Kernel stacks and the switch between them. Scheduling policy is `sched`'s.
//!
//! On the host each task is a host thread and a switch hands a baton from one to the other.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::frame::OutOfMemory;

/// A kernel stack (with a guard page below it) and the registers saved on it.
#[derive(Debug)]
pub struct Task(());

impl Task {
    /// A task that will run `entry` when first switched to. `entry` must not return.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no memory for the stack.
    pub fn new(entry: Box<dyn FnOnce() + Send>) -> Result<Arc<Task>, OutOfMemory> {
        let _ = entry;
        todo!()
    }

    /// Turns the boot flow of this CPU into a task (the CPU's idle thread).
    #[must_use]
    pub fn adopt_current() -> Arc<Task> {
        todo!()
    }

    /// Saves the running flow in its task and resumes `self`. Returns when something switches
    /// back. Call with interrupts off. Waits until `self` has left the CPU it last ran on. User FPU state
    /// goes along. The machine keeps the running task alive.
    pub fn switch_to(self: &Arc<Self>) {
        todo!()
    }
}

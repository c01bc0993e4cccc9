//! Who goes by a number, and everybody in turn.

use alloc::sync::Arc;

use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::tree;

/// The process that `namespace` calls `number` by its first thread, dead or alive.
#[must_use]
pub fn find_leader(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Process>> {
    let tree = tree::lock();
    namespace.find(&tree, number)?.process(&tree).cloned()
}

/// As [`find_leader`], or the process of the thread that `namespace` calls `number`.
#[must_use]
pub fn find_process(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Process>> {
    let tree = tree::lock();
    namespace.find(&tree, number)?.process_of(&tree).cloned()
}

/// The thread that `namespace` calls `number`: a living one, or the first of a process that was not waited for.
#[must_use]
pub fn find_thread(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Thread>> {
    let tree = tree::lock();
    namespace.find(&tree, number)?.thread(&tree).cloned()
}

/// What `namespace` calls `number`.
#[must_use]
pub fn find_pid(namespace: &PidNamespace, number: PidNumber) -> Option<Arc<Pid>> {
    let tree = tree::lock();
    namespace.find(&tree, number).cloned()
}

/// Every process of a namespace, dead ones included, by number: those that there are when it is their turn.
pub fn processes_of(namespace: &PidNamespace) -> impl Iterator<Item = Arc<Process>> {
    let mut last = 0;
    core::iter::from_fn(move || {
        sched::cond_resched();
        let tree = tree::lock();
        let (number, process) = namespace.process_after(&tree, last)?;
        last = number;
        Some(process.clone())
    })
}

/// As [`processes_of`] the initial namespace: every process there is.
pub fn processes() -> impl Iterator<Item = Arc<Process>> {
    processes_of(&PidNamespace::INITIAL)
}

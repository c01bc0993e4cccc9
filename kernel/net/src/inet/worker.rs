//! The thread that does what is due in the stacks: a timer's handler may only wake somebody.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};

use abi::Result;
use collections::Vec;
use machine::sync::SpinLock;
use sched::{ThreadBuilder, WaitQueue};

use crate::namespace::NetNamespace;

/// Namespaces that have a stack.
static STACKS: SpinLock<Vec<Weak<NetNamespace>>> = SpinLock::new(Vec::new());
static DUE: WaitQueue = WaitQueue::new();
static IS_DUE: AtomicBool = AtomicBool::new(false);
static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// Has the thread look after `namespace`, too, from now on.
pub(crate) fn add(namespace: &Arc<NetNamespace>) -> Result<()> {
    let mut stacks = STACKS.lock();
    stacks.retain(|known| known.strong_count() > 0);
    stacks.try_push(Arc::downgrade(namespace))?;
    drop(stacks);
    if !IS_STARTED.swap(true, Ordering::AcqRel) {
        let spawned = ThreadBuilder::new(b"net", run).spawn();
        if let Err(errno) = spawned {
            IS_STARTED.store(false, Ordering::Release);
            return Err(errno);
        }
    }
    Ok(())
}

/// Something is due. For handlers of timers.
pub(crate) fn wake() {
    IS_DUE.store(true, Ordering::Release);
    DUE.wake_all();
}

fn run() {
    loop {
        DUE.wait_until(|| IS_DUE.swap(false, Ordering::AcqRel).then_some(()));
        let mut index = 0;
        loop {
            let next = STACKS.lock().get(index).map(Weak::upgrade);
            let Some(namespace) = next else { break };
            if let Some(namespace) = namespace {
                namespace.expire();
            }
            index += 1;
            sched::cond_resched();
        }
    }
}

//! Waiting for a device whose completions the waiting threads collect themselves: the interrupt only wakes those that
//! wait, and whoever runs first leaves each completion where its owner looks.
//!
//! `collect` takes every completion that the device has and says whether there was one, which somebody else may wait
//! for. `activity` is what the interrupt wakes. Locking: none; both functions sleep.

use core::mem;

use abi::{Errno, Result};
use collections::Vec;
use machine::virtio::{RequestQueue, Segment};
use sched::WaitQueue;

/// Waits for what `look` looks for, and collects completions meanwhile. Who waits for those is woken between two waits:
/// a condition that is not met must not wake the queue that its own thread waits in.
pub(crate) fn wait<R>(
    activity: &WaitQueue,
    collect: impl Fn() -> bool,
    mut look: impl FnMut() -> Option<R>,
) -> R {
    loop {
        let (found, collected) = activity.wait_until(|| {
            let mut found = look();
            let collected = found.is_none() && collect();
            if collected {
                found = look();
            }
            (found.is_some() || collected).then_some((found, collected))
        });
        if collected {
            activity.wake_all();
        }
        if let Some(found) = found {
            return found;
        }
    }
}

/// Gives the device a request, once the end of another has made room for it in the queue.
///
/// # Errors
/// `EIO` when the device is broken.
pub(crate) fn submit<T: Clone + Send>(
    requests: &RequestQueue<T>,
    activity: &WaitQueue,
    collect: impl Fn() -> bool,
    (mut readable, mut writable): (Vec<Segment>, Vec<Segment>),
    context: &T,
) -> Result<()> {
    wait(activity, collect, || {
        let buffers = (mem::take(&mut readable), mem::take(&mut writable));
        match requests.submit(buffers.0, buffers.1, context.clone()) {
            Ok(()) => Some(Ok(())),
            Err(rejected) if rejected.broken => Some(Err(Errno::EIO)),
            Err(rejected) => {
                (readable, writable) = (rejected.readable, rejected.writable);
                None
            }
        }
    })
}

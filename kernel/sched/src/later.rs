//! [`DropLater`]: a value whose own drop may sleep, take locks or run for long, though whoever lets go of it may be an
//! interrupt handler or hold spin locks. A waker holds the last reference to a thread, when that ends at once on another
//! CPU; and with a thread go its stack and what higher layers have attached to it.
//!
//! What is let go of is put on a list of the CPU's, which allocates nothing: the link is beside the value. The CPU drops
//! what is on its list on its way to user mode and before it idles, where nothing is locked. (Not in
//! [`cond_resched`](crate::cond_resched): sleeping locks may be held there.)
//!
//! Locking: the list is innermost; a value may be let go of with any lock held.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;

use abi::Result;
use collections::try_arc;
use machine::intrusive::{Link, List};

use crate::backend;

/// Owns a value; dropping this drops the value later.
pub struct DropLater<T: Send + Sync + 'static>(Option<Arc<Slot<T>>>);

/// What waits to be dropped.
pub(crate) trait Left: Send + Sync {
    /// Its place on the list.
    fn link(&self) -> &Link<dyn Left>;
}

/// A CPU's list.
pub(crate) type Leavings = List<dyn Left>;

struct Slot<T> {
    link: Link<dyn Left>,
    value: T,
}

impl<T: Send + Sync> Left for Slot<T> {
    fn link(&self) -> &Link<dyn Left> {
        &self.link
    }
}

impl<T: Send + Sync + 'static> DropLater<T> {
    /// # Errors
    /// `ENOMEM`; the value is dropped at once then.
    pub fn new(value: T) -> Result<Self> {
        let link = Link::new();
        Ok(Self(Some(try_arc(Slot { link, value })?)))
    }
}

impl<T: Send + Sync + 'static> Deref for DropLater<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(slot) => &slot.value,
            None => unreachable!("sched: only its drop takes the value"),
        }
    }
}

impl<T: Send + Sync + 'static> Drop for DropLater<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            backend::let_go(slot);
        }
    }
}

impl<T: fmt::Debug + Send + Sync + 'static> fmt::Debug for DropLater<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Adds to a CPU's list what nobody else has any more.
pub(crate) fn add(list: &mut Leavings, left: Arc<dyn Left>) {
    // It was never on a list, so the link is free.
    let _ = list.push_back(left, |left| left.link());
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use machine::interrupt::InterruptsOff;

    use super::*;
    use crate::thread::{ThreadBuilder, drop_leavings};
    use crate::timer::Timer;

    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            assert!(!machine::interrupt::are_off(), "dropped in a handler");
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Lets go of `value` as an interrupt handler does, and sees that what it has in it goes afterwards.
    fn let_go_in_handler<T>(drops: &AtomicUsize, value: T) {
        let before = drops.load(Ordering::SeqCst);
        {
            let _off = InterruptsOff::new();
            drop(value);
            assert_eq!(drops.load(Ordering::SeqCst), before);
        }
        drop_leavings();
        assert_eq!(drops.load(Ordering::SeqCst), before + 1);
    }

    #[test]
    fn what_a_handler_lets_go_of_is_dropped_after_it() {
        let drops = Arc::new(AtomicUsize::new(0));
        let value = || Dropped(drops.clone());
        let_go_in_handler(&drops, DropLater::new(value()).unwrap());
        let thread = ThreadBuilder::new(b"never started", || ())
            .extension(Arc::new(value()))
            .prepare();
        let_go_in_handler(&drops, thread.unwrap());
        let in_callback = value();
        let timer = Timer::new(Box::new(move || {
            let _ = &in_callback;
        }));
        let_go_in_handler(&drops, timer.unwrap());
    }
}

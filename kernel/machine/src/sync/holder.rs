//! Who holds a spin lock, in builds with checks: a CPU that takes one which it holds already would wait for ever, and say
//! nothing. Nothing in other builds.

#[cfg(not(any(feature = "checks", debug_assertions)))]
pub(super) use absent::{Holder, Holding};
#[cfg(any(feature = "checks", debug_assertions))]
pub(super) use present::{Holder, Holding};

#[cfg(not(any(feature = "checks", debug_assertions)))]
mod absent {
    use core::marker::PhantomData;

    #[derive(Debug, Default)]
    pub(in crate::sync) struct Holder;

    #[derive(Debug)]
    pub(in crate::sync) struct Holding<'a>(PhantomData<&'a Holder>);

    impl Holder {
        pub(in crate::sync) const fn new() -> Self {
            Self
        }

        #[inline]
        pub(in crate::sync) fn assert_other(&self) {
            let Self = self;
        }

        #[inline]
        pub(in crate::sync) fn begin(&self) -> Holding<'_> {
            let Self = self;
            Holding(PhantomData)
        }
    }
}

#[cfg(any(feature = "checks", debug_assertions))]
mod present {
    use core::panic::Location;

    // Not loom's on the host, as locks are made in constants.
    use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

    /// Nobody, or no CPU that has a name yet.
    const NOBODY: usize = 0;

    #[derive(Debug, Default)]
    pub(in crate::sync) struct Holder {
        cpu: AtomicUsize,
        place: AtomicPtr<Location<'static>>,
    }

    /// As long as the lock is held.
    #[derive(Debug)]
    pub(in crate::sync) struct Holding<'a>(&'a Holder);

    impl Holder {
        pub(in crate::sync) const fn new() -> Self {
            Self {
                cpu: AtomicUsize::new(NOBODY),
                place: AtomicPtr::new(core::ptr::null_mut()),
            }
        }

        /// # Panics
        /// When the caller holds the lock. Only it writes its name, so what it reads of that is true.
        #[track_caller]
        pub(in crate::sync) fn assert_other(&self) {
            let me = crate::cpu::holder_name();
            if me == NOBODY || self.cpu.load(Ordering::Relaxed) != me {
                return;
            }
            // SAFETY: `begin` stored a reference that lasts for ever, before the name that was found.
            let place = unsafe { self.place.load(Ordering::Relaxed).as_ref() };
            let place = place.map_or_else(Default::default, |place| (place.file(), place.line()));
            panic!(
                "a CPU takes a spin lock which it has held since {}:{}",
                place.0, place.1
            );
        }

        /// The caller has taken the lock.
        #[track_caller]
        pub(in crate::sync) fn begin(&self) -> Holding<'_> {
            let place = core::ptr::from_ref(Location::caller()).cast_mut();
            self.place.store(place, Ordering::Relaxed);
            self.cpu.store(crate::cpu::holder_name(), Ordering::Relaxed);
            Holding(self)
        }
    }

    impl Drop for Holding<'_> {
        fn drop(&mut self) {
            self.0.cpu.store(NOBODY, Ordering::Relaxed);
        }
    }
}

//! How a back end tells the guest: by events that QEMU turns into interrupts.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::Notifier;

/// The event of each ring, as QEMU last sent it.
#[derive(Debug)]
pub struct Calls(Mutex<Vec<Option<File>>>);

impl Calls {
    /// No events yet, for so many rings.
    #[must_use]
    pub fn new(rings: usize) -> Self {
        Self(Mutex::new((0..rings).map(|_| None).collect()))
    }

    /// Takes a ring's event; without one, QEMU looks for itself.
    pub fn set(&self, ring: usize, event: Option<File>) {
        if let Some(slot) = self.lock().get_mut(ring) {
            *slot = event;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier for Calls {
    fn used(&self, queue: usize) {
        if let Some(Some(event)) = self.lock().get_mut(queue) {
            // The counter of an eventfd that QEMU drains does not overflow.
            let _ = event.write_all(&1u64.to_ne_bytes());
        }
    }

    /// No device of ours changes its configuration, and the protocol has a channel of its own for it.
    fn config_changed(&self) {}
}

//! What /proc/sys/kernel says and sets for an IPC namespace.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::table::PLACES;

/// The most of what is counted in bytes or pages of shared memory: nothing that a sum could reach.
const UNBOUNDED: u64 = u64::MAX - (1 << 24);

/// A limit that may be as high as `most`.
#[derive(Debug)]
pub struct Setting {
    value: AtomicU32,
    most: u32,
}

impl Setting {
    const fn new(value: u32, most: u32) -> Self {
        Self {
            value: AtomicU32::new(value),
            most,
        }
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }

    /// Sets it; whether it may be that high.
    pub fn set(&self, value: u64) -> bool {
        match u32::try_from(value) {
            Ok(value) if value <= self.most => {
                self.value.store(value, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }
}

/// The settings of a namespace, with the values that Linux begins with.
#[derive(Debug)]
pub struct Settings {
    /// Bytes of a segment.
    pub shmmax: AtomicU64,
    /// Pages of all segments.
    pub shmall: AtomicU64,
    /// Segments.
    pub shmmni: Setting,
    /// Whether what nobody has attached any more goes.
    pub shm_rmid_forced: Setting,
    /// Bytes of a message.
    pub msgmax: Setting,
    /// Bytes in a queue, unless it is given another limit.
    pub msgmnb: Setting,
    /// Queues.
    pub msgmni: Setting,
    /// Semaphores of a set, semaphores, operations of a call, sets (`kernel.sem`).
    pub sem: [Setting; 4],
}

const MOST: u32 = i32::MAX.unsigned_abs();

impl Settings {
    pub(super) const fn new() -> Self {
        Self {
            shmmax: AtomicU64::new(UNBOUNDED),
            shmall: AtomicU64::new(UNBOUNDED),
            shmmni: Setting::new(4096, PLACES),
            shm_rmid_forced: Setting::new(0, 1),
            msgmax: Setting::new(8192, MOST),
            msgmnb: Setting::new(16384, MOST),
            msgmni: Setting::new(32000, PLACES),
            sem: [
                Setting::new(32000, u16::MAX as u32),
                Setting::new(1_024_000_000, MOST),
                Setting::new(500, 1 << 16),
                Setting::new(32000, PLACES),
            ],
        }
    }

    /// Semaphores of a set.
    #[must_use]
    pub fn semmsl(&self) -> u32 {
        self.sem[0].get()
    }

    /// Semaphores of all sets.
    #[must_use]
    pub fn semmns(&self) -> u32 {
        self.sem[1].get()
    }

    /// Operations of a call.
    #[must_use]
    pub fn semopm(&self) -> u32 {
        self.sem[2].get()
    }

    /// Sets.
    #[must_use]
    pub fn semmni(&self) -> u32 {
        self.sem[3].get()
    }
}

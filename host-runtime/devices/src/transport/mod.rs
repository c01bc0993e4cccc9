//! What all transports have in common (virtio 1.2, chapters 2 and 3): the device's status, features, queues and
//! configuration, as far as the driver has set them up.
//!
//! [`Transport`] is that for one device; [`super::mmio`] shows it to the guest as registers. Its lock
//! is taken before the device's; a device's own thread takes the device's only.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use super::state::{Saved, SavedQueue, StateError};
use super::{Active, Notifier, SharedDevice, Space, VirtioDevice};

mod setup;

pub(crate) use setup::{Part, Setup};

/// Descriptors may lead to further ones.
const F_INDIRECT_DESC: u64 = 1 << 28;
/// Both sides say from which entry on they want to be told.
pub(crate) const F_EVENT_IDX: u64 = 1 << 29;
/// The device is as virtio 1 has it.
pub(crate) const F_VERSION_1: u64 = 1 << 32;
/// What every device of ours has.
pub const GENERAL_FEATURES: u64 = F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1;

const STATUS_DRIVER_OK: u32 = 4;
pub(crate) const STATUS_FEATURES_OK: u32 = 8;
pub(crate) const STATUS_NEEDS_RESET: u32 = 64;

/// The version of [`SavedTransport`].
const VERSION: u32 = 1;

/// One device as its driver has set it up.
#[derive(Debug)]
pub struct Transport<S> {
    device: SharedDevice<S>,
    memory: S,
    notifier: Arc<Counted>,
    /// Written to when the guest notifies a queue by a register write that KVM did not take, and by devices.
    kicks: Arc<[EventFd]>,
    requests: Arc<AtomicU64>,
    setup: Mutex<Setup>,
}

/// Passes on what the device tells, and counts the changes of its configuration.
#[derive(Debug)]
struct Counted {
    guest: Arc<dyn Notifier>,
    generation: AtomicU32,
}

impl Notifier for Counted {
    fn used(&self, queue: usize) {
        self.guest.used(queue);
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.guest.config_changed();
    }
}

/// A transport's fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedTransport {
    status: u32,
    offered_select: u32,
    accepted_select: u32,
    accepted: u64,
    queue_select: u32,
    generation: u32,
    queues: Vec<SavedQueue>,
    device: Saved,
}

impl<S: Space> Transport<S> {
    /// For `device`, which no driver has set up.
    #[must_use]
    pub fn new(
        device: SharedDevice<S>,
        memory: S,
        guest: Arc<dyn Notifier>,
        kicks: Vec<EventFd>,
    ) -> Self {
        let setup = Setup::new(&*lock(&device));
        Self {
            device,
            memory,
            notifier: Arc::new(Counted {
                guest,
                generation: AtomicU32::new(0),
            }),
            kicks: kicks.into(),
            requests: Arc::default(),
            setup: Mutex::new(setup),
        }
    }

    /// The device's name and how many requests it has served.
    #[must_use]
    pub fn requests(&self) -> (&'static str, u64) {
        let name = lock(&self.device).name();
        (name, self.requests.load(Ordering::Relaxed))
    }

    /// How often the configuration has changed.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.notifier.generation.load(Ordering::Acquire)
    }

    /// What the driver has said and chosen.
    pub(crate) fn setup(&self) -> MutexGuard<'_, Setup> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration space; what is behind its end is zero.
    pub fn read_config(&self, at: usize, data: &mut [u8]) {
        let mut setup = self.setup();
        if setup.generation != self.generation() {
            self.refresh(&mut setup);
        }
        data.fill(0);
        for (byte, value) in data.iter_mut().zip(setup.config.iter().skip(at)) {
            *byte = *value;
        }
    }

    /// Writes to the configuration space.
    pub fn write_config(&self, at: usize, data: &[u8]) {
        let mut setup = self.setup();
        lock(&self.device).write_config(at, data);
        self.refresh(&mut setup);
    }

    /// Looks at the configuration again. The device changes it, and says so, with its lock held.
    fn refresh(&self, setup: &mut Setup) {
        let device = lock(&self.device);
        setup.generation = self.generation();
        setup.config = device.config();
    }

    /// The guest notified a queue, by a write that became no event.
    pub fn kick(&self, queue: u32) {
        let queue = usize::try_from(queue).ok();
        if let Some(kick) = queue.and_then(|queue| self.kicks.get(queue)) {
            // The counter of an eventfd that is polled does not overflow.
            let _ = kick.write(1);
        }
    }

    /// Forgets the driver; `forget` is what the transport itself forgets.
    pub fn reset(&self, forget: impl FnOnce()) {
        let mut setup = self.setup();
        lock(&self.device).reset();
        forget();
        *setup = Setup::new(&*lock(&self.device));
        setup.generation = self.generation();
    }

    /// The driver is further, as these bits of its status say, one of which is new.
    pub fn write_status(&self, value: u32) {
        let mut setup = self.setup();
        let newly = value & !setup.status;
        setup.status |= value;
        if newly & STATUS_FEATURES_OK != 0 && !setup.features_are_right() {
            setup.status &= !STATUS_FEATURES_OK;
        }
        if newly & STATUS_DRIVER_OK != 0 {
            match setup.take_queues(&self.memory) {
                Some(queues) => lock(&self.device).activate(self.active(&setup, queues)),
                None => {
                    setup.status |= STATUS_NEEDS_RESET;
                    self.notifier.config_changed();
                }
            }
        }
    }

    fn active(&self, setup: &Setup, queues: Vec<Queue>) -> Active<S> {
        Active {
            memory: self.memory.clone(),
            features: setup.accepted,
            queues,
            notifier: Arc::clone(&self.notifier) as Arc<dyn Notifier>,
            kicks: Arc::clone(&self.kicks),
            requests: Arc::clone(&self.requests),
        }
    }

    /// Saves how far driver and device are, for a guest whose CPUs have stopped. The device stands still, so that guest
    /// memory can be saved with it, until it may [go on](Self::resume).
    ///
    /// # Errors
    /// When the device holds what cannot be saved.
    pub fn save(&self) -> Result<Saved, StateError> {
        let mut setup = self.setup();
        let mut device = lock(&self.device);
        if let Some(active) = device.suspend() {
            setup.suspended = Some(active.queues);
        }
        let queues = setup.suspended.as_ref().unwrap_or(&setup.queues);
        let saved = SavedTransport {
            status: setup.status,
            offered_select: setup.offered_select,
            accepted_select: setup.accepted_select,
            accepted: setup.accepted,
            queue_select: setup.queue_select,
            generation: self.generation(),
            queues: queues.iter().map(|queue| queue.state().into()).collect(),
            device: device.save()?,
        };
        Saved::new(device.name(), VERSION, &saved)
    }

    /// Lets a device that was saved, or that could not be, go on.
    pub fn resume(&self) {
        let mut setup = self.setup();
        if let Some(queues) = setup.suspended.take() {
            lock(&self.device).activate(self.active(&setup, queues));
        }
    }

    /// Goes on from a saved state; only to be called before the guest's CPUs run.
    ///
    /// # Errors
    /// When the state is not one of this device, or does not fit it or its memory; the transport is then not to be
    /// used.
    pub fn restore(&self, saved: &Saved) -> Result<(), StateError> {
        let mut setup = self.setup();
        let mut device = lock(&self.device);
        let name = device.name();
        let fields: SavedTransport = saved.fields(name, VERSION)?;
        let unfit = |what: String| StateError::Unfit {
            of: name.to_owned(),
            what,
        };
        let lacking = fields.accepted & !setup.offered;
        if fields.status & STATUS_FEATURES_OK != 0 && lacking != 0 {
            return Err(unfit(format!(
                "it uses the features {lacking:#x}, which are not here"
            )));
        }
        let queues =
            setup::queues(setup.queue_sizes, fields.queues, &self.memory).map_err(unfit)?;
        device.restore(&fields.device)?;
        self.notifier
            .generation
            .store(fields.generation, Ordering::Release);
        setup.status = fields.status;
        setup.offered_select = fields.offered_select;
        setup.accepted_select = fields.accepted_select;
        setup.accepted = fields.accepted;
        setup.queue_select = fields.queue_select;
        setup.generation = fields.generation;
        setup.config = device.config();
        setup.queues = queues;
        let runs = STATUS_DRIVER_OK | STATUS_FEATURES_OK;
        if fields.status & (runs | STATUS_NEEDS_RESET) == runs {
            let queues = setup
                .take_queues(&self.memory)
                .ok_or_else(|| unfit("it has a queue that is none".to_owned()))?;
            device.activate(self.active(&setup, queues));
        }
        Ok(())
    }
}

fn lock<S: Space>(device: &SharedDevice<S>) -> MutexGuard<'_, dyn VirtioDevice<S> + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! How far a driver has set its device up: what it has said, and the queues until the device gets them.

use virtio_queue::{Queue, QueueState, QueueT};

use super::{F_EVENT_IDX, F_VERSION_1, GENERAL_FEATURES, STATUS_DRIVER_OK, STATUS_FEATURES_OK};
use crate::state::SavedQueue;
use crate::{Space, VirtioDevice};

/// A part of a queue, as far as the guest says where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Descriptors,
    Available,
    Used,
}

/// What a driver has said and chosen.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) id: u32,
    pub(super) offered: u64,
    pub(super) queue_sizes: &'static [u16],
    pub(crate) status: u32,
    pub(crate) offered_select: u32,
    pub(crate) accepted_select: u32,
    pub(super) accepted: u64,
    pub(crate) queue_select: u32,
    /// The device's from when it is active; then what is here is for the guest to read.
    pub(super) queues: Vec<Queue>,
    /// The device's when it stands still for being saved.
    pub(super) suspended: Option<Vec<Queue>>,
    pub(super) config: Vec<u8>,
    /// Of `config`.
    pub(super) generation: u32,
}

impl Setup {
    pub(super) fn new<S: Space>(device: &dyn VirtioDevice<S>) -> Self {
        let queue_sizes = device.queue_sizes();
        Self {
            id: device.id(),
            offered: device.features() | GENERAL_FEATURES,
            queue_sizes,
            status: 0,
            offered_select: 0,
            accepted_select: 0,
            accepted: 0,
            queue_select: 0,
            queues: fresh_queues(queue_sizes),
            suspended: None,
            config: device.config(),
            generation: 0,
        }
    }

    /// The selected half of the features that the device has.
    pub(crate) fn offered(&self) -> u32 {
        half(self.offered, self.offered_select)
    }

    /// The driver says which features of the selected half it uses, until it has said all.
    pub(crate) fn accept(&mut self, value: u32) {
        if self.status & STATUS_FEATURES_OK != 0 {
            return;
        }
        match self.accepted_select {
            0 => self.accepted = (self.accepted & !0xffff_ffff) | u64::from(value),
            1 => self.accepted = (self.accepted & 0xffff_ffff) | u64::from(value) << 32,
            _ => {}
        }
    }

    /// The selected queue.
    pub(crate) fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    /// The same, to be set up, which it can be until the driver is ready.
    pub(crate) fn selected_mut(&mut self) -> Option<&mut Queue> {
        let selected = usize::try_from(self.queue_select).ok()?;
        let in_time = self.status & STATUS_DRIVER_OK == 0;
        self.queues.get_mut(selected).filter(|_| in_time)
    }

    /// Half of the address of a part of the selected queue.
    pub(crate) fn set_address(&mut self, part: Part, is_high: bool, value: u32) {
        let Some(queue) = self.selected_mut() else {
            return;
        };
        let (low, high) = if is_high {
            (None, Some(value))
        } else {
            (Some(value), None)
        };
        match part {
            Part::Descriptors => queue.set_desc_table_address(low, high),
            Part::Available => queue.set_avail_ring_address(low, high),
            Part::Used => queue.set_used_ring_address(low, high),
        }
    }

    pub(super) fn features_are_right(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & F_VERSION_1 != 0
    }

    /// Gives the queues away, leaving copies to read; `None` when the driver set one up wrongly.
    pub(super) fn take_queues(&mut self, memory: &impl Space) -> Option<Vec<Queue>> {
        if self.status & STATUS_FEATURES_OK == 0 {
            return None;
        }
        for queue in &mut self.queues {
            queue.set_event_idx(self.accepted & F_EVENT_IDX != 0);
        }
        let memory = memory.memory();
        let is_wrong = |queue: &Queue| queue.ready() && !queue.is_valid(&*memory);
        if self.queues.iter().any(is_wrong) {
            return None;
        }
        let mut shown = fresh_queues(self.queue_sizes);
        for (shown, taken) in shown.iter_mut().zip(&self.queues) {
            shown.set_size(taken.size());
            shown.set_ready(taken.ready());
        }
        Some(std::mem::replace(&mut self.queues, shown))
    }
}

/// The queues of a saved state, if they are as many and as large as the device's and lie in memory.
pub(super) fn queues(
    sizes: &[u16],
    saved: Vec<SavedQueue>,
    memory: &impl Space,
) -> Result<Vec<Queue>, String> {
    if saved.len() != sizes.len() {
        return Err(format!(
            "it has {} queues instead of {}",
            saved.len(),
            sizes.len()
        ));
    }
    let memory = memory.memory();
    let restored = saved
        .into_iter()
        .zip(sizes)
        .enumerate()
        .map(|(number, (saved, size))| {
            let state = QueueState::from(saved);
            let queue =
                Queue::try_from(state).map_err(|error| format!("queue {number}: {error}"))?;
            if state.max_size != *size {
                return Err(format!(
                    "queue {number} has {} entries at most",
                    state.max_size
                ));
            }
            if queue.ready() && !queue.is_valid(&*memory) {
                return Err(format!("queue {number} is not in memory"));
            }
            Ok(queue)
        });
    restored.collect()
}

fn fresh_queues(sizes: &[u16]) -> Vec<Queue> {
    // The sizes are powers of two in the code; anything else would be no queue at all.
    sizes
        .iter()
        .map(|size| Queue::new(*size).unwrap_or_default())
        .collect()
}

fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => (features & 0xffff_ffff) as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

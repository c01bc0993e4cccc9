//! What a device, or the transport in front of it, is saved as: its fields under a name and a version.
//!
//! Saving is for a guest whose CPUs have stopped. A device completes the requests that it has begun and keeps the
//! others in their queues, which are guest memory. Who restores believes nothing: a state of another device, of
//! a version that is not known, or that does not fit the device is refused by a sentence.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use virtio_queue::QueueState;

/// A saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The name of what was saved.
    pub of: String,
    /// Of its fields.
    pub version: u32,
    /// The fields.
    pub state: Value,
}

/// Why a state cannot be had, or not be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is of something else.
    #[error("this is the state of {found}, and not of {of}")]
    Other {
        /// What was to be restored.
        of: String,
        /// What the state is of.
        found: String,
    },
    /// Its fields are not known.
    #[error(
        "the state of {of} has version {found} and this program knows version {known}; \
         restore it with the program that saved it"
    )]
    Version {
        /// What was to be restored.
        of: String,
        /// The state's version.
        found: u32,
        /// The one that is understood.
        known: u32,
    },
    /// Its fields are not what the version says.
    #[error("the state of {of} is damaged: {source}")]
    Damaged {
        /// What was to be restored, or saved.
        of: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its fields make no sense, or not for this device or this memory.
    #[error("the state of {of} does not fit: {what}")]
    Unfit {
        /// What was to be restored.
        of: String,
        /// What does not fit.
        what: String,
    },
    /// The device holds what no state can.
    #[error("{of} cannot be saved: {why}")]
    Held {
        /// What was to be saved.
        of: String,
        /// What it holds.
        why: &'static str,
    },
}

impl Saved {
    /// The state of `of` with fields of this version.
    ///
    /// # Errors
    /// When the fields have no form in JSON.
    pub fn new(of: &str, version: u32, state: &impl Serialize) -> Result<Self, StateError> {
        let state = serde_json::to_value(state).map_err(damaged(of))?;
        let of = of.to_owned();
        Ok(Self { of, version, state })
    }

    /// The fields, if they are those of `of` with a `known` version.
    ///
    /// # Errors
    /// When they are not.
    pub fn fields<T: DeserializeOwned>(&self, of: &str, known: u32) -> Result<T, StateError> {
        if self.of != of {
            return Err(StateError::Other {
                of: of.to_owned(),
                found: self.of.clone(),
            });
        }
        if self.version != known {
            return Err(StateError::Version {
                of: of.to_owned(),
                found: self.version,
                known,
            });
        }
        T::deserialize(&self.state).map_err(damaged(of))
    }
}

fn damaged(of: &str) -> impl Fn(serde_json::Error) -> StateError {
    move |source| StateError::Damaged {
        of: of.to_owned(),
        source,
    }
}

/// A queue, as [`QueueState`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedQueue {
    max_size: u16,
    next_available: u16,
    next_used: u16,
    event_idx: bool,
    size: u16,
    is_ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl From<QueueState> for SavedQueue {
    fn from(queue: QueueState) -> Self {
        Self {
            max_size: queue.max_size,
            next_available: queue.next_avail,
            next_used: queue.next_used,
            event_idx: queue.event_idx_enabled,
            size: queue.size,
            is_ready: queue.ready,
            descriptors: queue.desc_table,
            available: queue.avail_ring,
            used: queue.used_ring,
        }
    }
}

impl From<SavedQueue> for QueueState {
    fn from(queue: SavedQueue) -> Self {
        Self {
            max_size: queue.max_size,
            next_avail: queue.next_available,
            next_used: queue.next_used,
            event_idx_enabled: queue.event_idx,
            size: queue.size,
            ready: queue.is_ready,
            desc_table: queue.descriptors,
            avail_ring: queue.available,
            used_ring: queue.used,
        }
    }
}

//! virtio block device (virtio 1.2, section 5.2): the blocks of a raw file.
//!
//! [`request`] takes one request of the guest's apart and answers it, [`disk`] is the file. The device opens nothing:
//! it is given a descriptor, which cannot be written to if the guest is only to read. It works on a thread of its
//! own, since its requests wait for the host's disks.

pub mod disk;
mod request;

use serde::{Deserialize, Serialize};

use super::state::{Saved, StateError};
use super::{Active, Space, VirtioDevice};
use disk::{Disk, SECTOR};

/// The most parts of a request, and the most bytes of one, beside header and status.
const F_SIZE_MAX: u64 = 1 << 1;
const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

const QUEUE_SIZE: u16 = 128;
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
const SIZE_MAX: u32 = 1 << 20;
/// The most sectors that one request discards or makes zero, and the most ranges of them: 32 MiB, in one.
const MOST_SECTORS: u32 = 1 << 16;
const MOST_RANGES: u32 = 1;

/// The version of what a device is saved as.
const SAVED_VERSION: u32 = 1;

/// The block device.
#[derive(Debug)]
pub struct Blk<S> {
    disk: Disk,
    active: Option<Active<S>>,
}

/// A device's fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDisk {
    sectors: u64,
    is_read_only: bool,
}

impl<S> Blk<S> {
    /// A device with the blocks of `disk`.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        Self { disk, active: None }
    }
}

impl<S: Space> VirtioDevice<S> for Blk<S> {
    fn id(&self) -> u32 {
        2
    }

    fn name(&self) -> &'static str {
        "blk"
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        let mut features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH;
        if self.disk.is_read_only() {
            features |= F_RO;
        } else {
            features |= F_WRITE_ZEROES;
            if self.disk.can_discard() {
                features |= F_DISCARD;
            }
        }
        features
    }

    /// `struct virtio_blk_config`, up to the limits of write-zeroes.
    fn config(&self) -> Vec<u8> {
        let mut config = vec![0; 60];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.disk.sectors().to_le_bytes());
        put(8, &SIZE_MAX.to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        put(20, &SECTOR.to_le_bytes());
        // One queue.
        put(34, &1u16.to_le_bytes());
        put(36, &MOST_SECTORS.to_le_bytes());
        put(40, &MOST_RANGES.to_le_bytes());
        // Ranges to discard begin at any multiple of a page of the host's.
        put(44, &8u32.to_le_bytes());
        put(48, &MOST_SECTORS.to_le_bytes());
        put(52, &MOST_RANGES.to_le_bytes());
        // Zeroes may be holes.
        put(56, &[u8::from(self.disk.can_discard())]);
        config
    }

    fn activate(&mut self, active: Active<S>) {
        let comes = active.kick(0);
        self.active = Some(active);
        if !comes {
            self.kicked(0);
        }
    }

    fn kicked(&mut self, queue: usize) {
        let Self { disk, active } = self;
        if let Some(active) = active {
            let features = active.features;
            active.drain(queue, |memory, chain| {
                request::answer::<S>(disk, features, memory, &chain)
            });
        }
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }

    fn save(&self) -> Result<Saved, StateError> {
        let fields = SavedDisk {
            sectors: self.disk.sectors(),
            is_read_only: self.disk.is_read_only(),
        };
        Saved::new("blk", SAVED_VERSION, &fields)
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), StateError> {
        let fields: SavedDisk = saved.fields("blk", SAVED_VERSION)?;
        let unfit = |what: String| StateError::Unfit {
            of: "blk".to_owned(),
            what,
        };
        if fields.sectors != self.disk.sectors() {
            let (found, here) = (fields.sectors, self.disk.sectors());
            return Err(unfit(format!(
                "its disk has {found} sectors, and this one {here}"
            )));
        }
        if fields.is_read_only != self.disk.is_read_only() {
            return Err(unfit(
                "one disk can be written to and the other not".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

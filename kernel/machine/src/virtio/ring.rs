//! The split ring (virtio 1.2, section 2.7), by hand.
//!
//! `virtio-drivers`' `VirtQueue` takes each buffer as a Rust slice. The bytes of our buffers belong to the
//! device and to users as well, so that no slice of them may exist; and it makes an indirect table a
//! request. Here the ring is two frames of which every word is reached by an atomic access, and whatever
//! is needed to follow it is kept beside it: descriptors are only ever written, the device's `used` entries are
//! claims that [`super::queue`] checks.
//!
//! Indirect tables are made when a request first needs one and kept, so that a queue allocates as much
//! as the most requests it ever had at a time.
//!
//! Locking: none here; the queue's lock is held for every call.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use super::device::{RingAddresses, SetupError};
use super::queue::{Ring, Segment, Used};
use crate::addr::PAGE_SIZE;
use crate::frame::Frame;
use crate::heap::Vec;

/// The most entries of a ring: a descriptor table of one frame.
const ENTRIES_MAX: u16 = 256;
/// Fewer are of no use to any driver here.
const ENTRIES_MIN: u16 = 4;
/// Bytes of `struct virtq_desc`.
const DESCRIPTOR: usize = 16;
/// Descriptors of an indirect table; two tables share a frame.
const TABLE_ENTRIES: usize = PAGE_SIZE / DESCRIPTOR / 2;

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

/// Which of the ring's features the device has accepted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Features {
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub(super) indirect: bool,
    /// `VIRTIO_F_EVENT_IDX`.
    pub(super) event_index: bool,
}

/// A frame that the device reads and writes at the same time.
struct Words(Frame);

impl Words {
    fn u16(&self, offset: usize) -> &AtomicU16 {
        assert!(offset.is_multiple_of(2) && offset + 2 <= PAGE_SIZE);
        // SAFETY: the word is inside the frame, as asserted, which lives as long as `self`; nothing in
        // the kernel reaches the frame but by atomics, and what the device does needs no Rust type.
        unsafe { AtomicU16::from_ptr(self.0.as_ptr().as_ptr().wrapping_add(offset).cast()) }
    }

    fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= PAGE_SIZE);
        // SAFETY: as in `u16`.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().as_ptr().wrapping_add(offset).cast()) }
    }

    fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= PAGE_SIZE);
        // SAFETY: as in `u16`.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().as_ptr().wrapping_add(offset).cast()) }
    }

    /// Writes `struct virtq_desc` at `offset`.
    fn describe(&self, offset: usize, what: &Descriptor) {
        let rest = u64::from(what.len) | u64::from(what.flags) << 32 | u64::from(what.next) << 48;
        self.u64(offset)
            .store(what.address.to_le(), Ordering::Relaxed);
        self.u64(offset + 8).store(rest.to_le(), Ordering::Relaxed);
    }
}

/// Half a frame for an indirect descriptor table.
struct Table {
    words: Words,
    start: usize,
}

struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn of(segment: &Segment, flags: u16, next: u16) -> Descriptor {
        Descriptor {
            address: segment.phys(),
            // A segment is within a frame, or a block of at most 4 MiB.
            len: u32::try_from(segment.len()).unwrap_or(0),
            flags,
            next,
        }
    }
}

/// The driver's side of a split ring.
pub(super) struct SplitRing {
    size: u16,
    features: Features,
    descriptors: Words,
    /// The available ring at 0, the used ring at `used_at`.
    rings: Words,
    used_at: usize,
    /// For each descriptor the one after it, in a chain or among the free ones. The device never sees it.
    next: Vec<u16>,
    /// For each head how many descriptors of the ring its chain has.
    chain_len: Vec<u16>,
    free_head: u16,
    free_len: u16,
    /// For each head its indirect table.
    tables: Vec<Option<Table>>,
    spare_tables: Vec<Table>,
    /// Requests made available so far.
    added: u16,
    /// `added` when the device was last told.
    told: u16,
    /// Completions taken so far.
    taken: u16,
}

/// Entries for a queue of which the device takes `offered` and the driver wants `wanted`: a power of 2.
pub(super) fn size_for(offered: u32, wanted: u16) -> Option<u16> {
    let most = u16::try_from(offered)
        .unwrap_or(u16::MAX)
        .min(wanted)
        .min(ENTRIES_MAX);
    (most >= ENTRIES_MIN).then(|| 1 << most.ilog2())
}

impl SplitRing {
    /// A ring of `size` entries, as [`size_for`] gave.
    pub(super) fn new(size: u16, features: Features) -> Result<SplitRing, SetupError> {
        let frame = || Frame::alloc_zeroed().map_err(|_| SetupError::OutOfMemory);
        let entries = usize::from(size);
        let mut next = Vec::try_with_capacity(entries)?;
        next.try_extend(1..=size)?;
        let chain_len = Vec::try_from_elem(0, entries)?;
        let mut tables = Vec::new();
        tables.try_resize_with(entries, || None)?;
        Ok(SplitRing {
            size,
            features,
            descriptors: Words(frame()?),
            rings: Words(frame()?),
            used_at: (6 + 2 * entries).next_multiple_of(4),
            next,
            chain_len,
            free_head: 0,
            free_len: size,
            tables,
            spare_tables: Vec::try_with_capacity(entries + 1)?,
            added: 0,
            told: 0,
            taken: 0,
        })
    }

    /// Where the device finds it.
    pub(super) fn addresses(&self) -> RingAddresses {
        let rings = self.rings.0.phys().0;
        RingAddresses {
            descriptors: self.descriptors.0.phys().0,
            driver: rings,
            device: rings + self.used_at as u64,
        }
    }

    fn available_index(&self) -> &AtomicU16 {
        self.rings.u16(2)
    }

    /// Up to which completion the device need not interrupt; at the end of the available ring.
    fn used_event(&self) -> &AtomicU16 {
        self.rings.u16(4 + 2 * usize::from(self.size))
    }

    fn used_index(&self) -> &AtomicU16 {
        self.rings.u16(self.used_at + 2)
    }

    /// Up to which request the device need not be told; at the end of the used ring.
    fn available_event(&self) -> &AtomicU16 {
        self.rings
            .u16(self.used_at + 4 + 8 * usize::from(self.size))
    }

    /// A table for a request of `len` descriptors.
    fn table(&mut self, len: usize) -> Option<Table> {
        if !self.features.indirect || len > TABLE_ENTRIES {
            return None;
        }
        if let Some(table) = self.spare_tables.pop() {
            return Some(table);
        }
        let frame = Frame::alloc_zeroed().ok()?;
        let second = Table {
            words: Words(frame.clone()),
            start: PAGE_SIZE / 2,
        };
        // Room was made for a table an entry and one more, and there are no more than that.
        let _ = self.spare_tables.push_within_capacity(second);
        Some(Table {
            words: Words(frame),
            start: 0,
        })
    }

    /// Takes a free descriptor; there is one.
    fn take_free(&mut self) -> u16 {
        let index = self.free_head;
        self.free_head = self.next[usize::from(index)];
        self.free_len -= 1;
        index
    }

    /// Whether `len` descriptors should be a chain in the ring itself: as long as that leaves half of it.
    fn goes_direct(&self, len: usize) -> bool {
        len == 1 || usize::from(self.free_len) >= len + usize::from(self.size / 2)
    }

    /// Fills `table`, and a descriptor of the ring that names it; the head.
    fn add_indirect(&mut self, table: Table, readable: &[Segment], writable: &[Segment]) -> u16 {
        let len = readable.len() + writable.len();
        for ((segment, flags), number) in in_order(readable, writable).zip(1..) {
            let is_last = usize::from(number) == len;
            let flags = if is_last { flags } else { flags | NEXT };
            let at = table.start + usize::from(number - 1) * DESCRIPTOR;
            table
                .words
                .describe(at, &Descriptor::of(segment, flags, number));
        }
        let head = self.take_free();
        let whole = Descriptor {
            address: table.words.0.phys().0 + table.start as u64,
            len: u32::try_from(len * DESCRIPTOR).unwrap_or(0),
            flags: INDIRECT,
            next: 0,
        };
        self.descriptors
            .describe(usize::from(head) * DESCRIPTOR, &whole);
        self.tables[usize::from(head)] = Some(table);
        self.chain_len[usize::from(head)] = 1;
        head
    }

    /// Makes a chain of `len` free descriptors, which there are; the head.
    fn add_direct(&mut self, len: usize, readable: &[Segment], writable: &[Segment]) -> u16 {
        let head = self.free_head;
        for ((segment, flags), number) in in_order(readable, writable).zip(1..) {
            let index = self.take_free();
            let flags = if number == len { flags } else { flags | NEXT };
            // The next free descriptor is the next of the chain.
            let descriptor = Descriptor::of(segment, flags, self.free_head);
            self.descriptors
                .describe(usize::from(index) * DESCRIPTOR, &descriptor);
        }
        self.chain_len[usize::from(head)] = u16::try_from(len).unwrap_or(0);
        head
    }

    fn publish(&mut self, head: u16) {
        let place = usize::from(self.added & (self.size - 1));
        self.rings.u16(4 + 2 * place).store(head, Ordering::Relaxed);
        self.added = self.added.wrapping_add(1);
        // Release: descriptors and buffers are written before the device can see that they are there.
        self.available_index().store(self.added, Ordering::Release);
    }
}

/// The buffers of a request in order, each with its flags but for [`NEXT`].
fn in_order<'a>(
    readable: &'a [Segment],
    writable: &'a [Segment],
) -> impl Iterator<Item = (&'a Segment, u16)> {
    let readable = readable.iter().map(|segment| (segment, 0));
    readable.chain(writable.iter().map(|segment| (segment, WRITE)))
}

impl Ring for SplitRing {
    fn size(&self) -> usize {
        self.size.into()
    }

    fn add(&mut self, readable: &[Segment], writable: &[Segment]) -> Option<u16> {
        let len = readable.len() + writable.len();
        // A chain may not be longer than the ring, indirect or not (section 2.7.5.2).
        if len == 0 || len > usize::from(self.size) || self.free_len == 0 {
            return None;
        }
        let table = if self.goes_direct(len) {
            None
        } else {
            self.table(len)
        };
        let head = match table {
            Some(table) => self.add_indirect(table, readable, writable),
            None if usize::from(self.free_len) < len => return None,
            None => self.add_direct(len, readable, writable),
        };
        self.publish(head);
        Some(head)
    }

    fn needs_notify(&mut self) -> bool {
        // What was made available must be visible before the device's wish is read: it looks at the
        // ring once more after writing the wish.
        fence(Ordering::SeqCst);
        let before = core::mem::replace(&mut self.told, self.added);
        if before == self.added {
            return false;
        }
        if self.features.event_index {
            let event = self.available_event().load(Ordering::Relaxed);
            // `vring_need_event` (section 2.7.10): the wish lies in what was added.
            let past_event = self.added.wrapping_sub(event).wrapping_sub(1);
            past_event < self.added.wrapping_sub(before)
        } else {
            let flags = self.rings.u16(self.used_at).load(Ordering::Relaxed);
            flags & NO_NOTIFY == 0
        }
    }

    fn next_used(&mut self) -> Option<Used> {
        if self.used_index().load(Ordering::Acquire) == self.taken {
            // Asked for the next interrupt; a completion that came without one, because the device had not
            // seen that yet, must be found here.
            self.used_event().store(self.taken, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.used_index().load(Ordering::Acquire) == self.taken {
                return None;
            }
        }
        let place = usize::from(self.taken & (self.size - 1));
        let at = self.used_at + 4 + 8 * place;
        self.taken = self.taken.wrapping_add(1);
        Some(Used {
            head: self.rings.u32(at).load(Ordering::Relaxed),
            written: self.rings.u32(at + 4).load(Ordering::Relaxed),
        })
    }

    fn release(&mut self, head: u16) {
        let len = core::mem::take(&mut self.chain_len[usize::from(head)]);
        if len == 0 {
            return;
        }
        // Without allocation: see `table`.
        if let Some(table) = self.tables[usize::from(head)].take() {
            let _ = self.spare_tables.push_within_capacity(table);
        }
        let mut last = head;
        for _ in 1..len {
            last = self.next[usize::from(last)];
        }
        self.next[usize::from(last)] = self.free_head;
        self.free_head = head;
        self.free_len += len;
    }
}

#[cfg(test)]
mod tests;

//! Host double of frames: heap pages whose bytes are atomics, since "user code and devices may
//! change them at any time" holds here too.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicIsize, AtomicU8, AtomicUsize, Ordering};

use super::OutOfMemory;
use super::account::{self, AccountId, Purpose};
use super::meta::{FrameFlags, KINDS, Kind, Meta};
use crate::addr::{PAGE_SIZE, PhysAddr};

/// Frames that the double pretends to have: 1 GiB.
const TOTAL: usize = 262_144;

/// Frames that are alive.
static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(TOTAL);
static KIND_COUNTS: [AtomicIsize; KINDS] = [const { AtomicIsize::new(0) }; KINDS];

#[derive(Debug)]
#[repr(C, align(4096))]
struct Page([AtomicU8; PAGE_SIZE]);

#[derive(Debug)]
#[repr(C)]
pub(super) struct Counted {
    // First, so that the page's address is that of the whole.
    page: Page,
    boot: bool,
    pub(super) meta: Meta,
}

impl Drop for Counted {
    fn drop(&mut self) {
        account::uncharge(self.meta.payer(), 1);
        count_kind(self.meta.kind(), -1);
        USED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A counted handle to an untyped 4 KiB frame. Cloning adds a reference; the last drop frees it.
#[derive(Clone)]
pub struct Frame(pub(super) Arc<Counted>);

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({:#x})", self.phys().0)
    }
}

impl Frame {
    fn new(boot: bool) -> Result<Frame, OutOfMemory> {
        crate::heap::admit()?;
        if USED.fetch_add(1, Ordering::Relaxed) >= LIMIT.load(Ordering::Relaxed) {
            USED.fetch_sub(1, Ordering::Relaxed);
            super::refusal::note(1);
            return Err(OutOfMemory);
        }
        let payer = if boot {
            Some(AccountId::ROOT)
        } else {
            account::charge_current(1, Purpose::Programs)
        };
        let Some(payer) = payer else {
            USED.fetch_sub(1, Ordering::Relaxed);
            super::refusal::note(1);
            return Err(OutOfMemory);
        };
        let meta = Meta::default();
        meta.set_payer(payer);
        Ok(Frame(Arc::new(Counted {
            page: Page([const { AtomicU8::new(0) }; PAGE_SIZE]),
            boot,
            meta,
        })))
    }

    /// A frame of zeroes.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none is free.
    pub fn alloc_zeroed() -> Result<Frame, OutOfMemory> {
        Frame::new(false)
    }

    /// A frame with a copy of `self`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none is free.
    pub fn duplicate(&self) -> Result<Frame, OutOfMemory> {
        let copy = Frame::new(false)?;
        for (to, from) in copy.bytes().iter().zip(self.bytes()) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(copy)
    }

    /// A frame for a page-aligned page of boot memory; the double copies it.
    #[must_use]
    pub fn from_boot_memory(page: &'static [u8]) -> Option<Frame> {
        if page.len() != PAGE_SIZE || !page.as_ptr().addr().is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let frame = Frame::new(true).ok()?;
        for (to, from) in frame.bytes().iter().zip(page) {
            to.store(*from, Ordering::Relaxed);
        }
        Some(frame)
    }

    /// A number that tells it from the others.
    #[must_use]
    pub fn phys(&self) -> PhysAddr {
        PhysAddr(self.bytes().as_ptr().addr() as u64)
    }

    /// Where its bytes are. Others may change them at any time: copy only.
    #[allow(dead_code, reason = "used by the virtio queues")]
    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        NonNull::from(self.bytes()).cast()
    }

    /// Gives the handle up without freeing the frame: the frame has gone to a device.
    #[allow(dead_code, reason = "used by the virtio queues")]
    pub(crate) fn into_phys(self) -> PhysAddr {
        PhysAddr(Arc::into_raw(self.0).expose_provenance() as u64)
    }

    /// Takes back a handle that [`Frame::into_phys`] gave up.
    ///
    /// # Safety
    /// `phys` came from `into_phys`, once for each call of this.
    #[allow(dead_code, reason = "used by the virtio queues")]
    pub(crate) unsafe fn from_phys(phys: PhysAddr) -> Frame {
        let counted = core::ptr::with_exposed_provenance(usize::try_from(phys.0).unwrap_or(0));
        // SAFETY: the caller promises that `into_phys` made this address of an `Arc` it gave up.
        Frame(unsafe { Arc::from_raw(counted) })
    }

    /// How many handles there are; boot memory reports a large number.
    #[must_use]
    pub fn handles(&self) -> usize {
        if self.0.boot {
            usize::MAX / 2
        } else {
            Arc::strong_count(&self.0)
        }
    }

    /// Says what the frame is used for; once, by who allocated it.
    pub fn set_kind(&self, kind: Kind) {
        count_kind(self.kind(), -1);
        count_kind(kind, 1);
        self.meta().set_kind(kind);
    }

    /// What the frame is used for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.meta().kind()
    }

    /// The account that the frame is charged to.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.meta().payer()
    }

    /// Sets flags, atomically; returns those that were set before.
    pub(crate) fn set_flags(&self, flags: FrameFlags) -> FrameFlags {
        self.meta().set(flags)
    }

    /// Clears flags, atomically; returns those that were set before.
    pub(crate) fn clear_flags(&self, flags: FrameFlags) -> FrameFlags {
        self.meta().clear(flags)
    }

    /// The flags that are set.
    #[must_use]
    pub fn flags(&self) -> FrameFlags {
        self.meta().flags()
    }

    fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// Copies bytes at `offset` into `to`. Panics when the range leaves the frame.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = &self.bytes()[offset..offset + to.len()];
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.load(Ordering::Relaxed);
        }
    }

    /// Whether its bytes are those of the archive, which nobody may write.
    pub(crate) fn is_boot_memory(&self) -> bool {
        self.0.boot
    }

    /// Panics for boot memory.
    fn check_writable(&self) {
        assert!(!self.is_boot_memory(), "a write to boot memory");
    }

    /// Copies `from` to `offset`. Panics when the range leaves the frame, and for boot memory.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.check_writable();
        let to = &self.bytes()[offset..offset + from.len()];
        for (to, from) in to.iter().zip(from) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// Fills `[offset, offset + len)` with `byte`. Panics as [`Frame::write`] does.
    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.check_writable();
        for to in &self.bytes()[offset..offset + len] {
            to.store(byte, Ordering::Relaxed);
        }
    }

    /// Reads the aligned word at `offset`.
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4), "misaligned word in a frame");
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_ne_bytes(word)
    }

    fn bytes(&self) -> &[AtomicU8; PAGE_SIZE] {
        &self.0.page.0
    }
}

/// 2 MiB of zeroes: the host has none.
#[derive(Debug)]
pub struct LargeFrame(core::convert::Infallible);

impl LargeFrame {
    /// None.
    ///
    /// # Errors
    /// [`OutOfMemory`] always.
    pub fn alloc_zeroed() -> Result<LargeFrame, OutOfMemory> {
        Err(OutOfMemory)
    }
}

/// Frames that programs and kernel may have: the machine's, or the limit if that is less.
#[must_use]
pub fn total() -> usize {
    TOTAL.min(limit())
}

/// Frames free now.
#[must_use]
pub fn free() -> usize {
    total().saturating_sub(USED.load(Ordering::Relaxed))
}

/// Frames that this CPU can have now: as many as are free.
#[must_use]
pub fn at_hand() -> usize {
    free()
}

/// Frames in use.
#[must_use]
pub fn in_use() -> usize {
    USED.load(Ordering::Relaxed)
}

/// Frames that CPUs and pools keep: the host's keep none.
#[must_use]
pub fn kept() -> usize {
    0
}

/// Has nothing to give back.
pub fn release_kept() -> usize {
    0
}

/// Frames of a kind in use.
#[must_use]
pub fn count(kind: Kind) -> usize {
    let count = KIND_COUNTS[kind as usize].load(Ordering::Relaxed);
    usize::try_from(count).unwrap_or(0)
}

/// Sets the most frames that may be in use; further allocations fail.
pub fn set_limit(frames: usize) {
    LIMIT.store(frames, Ordering::Relaxed);
}

/// The most frames that may be in use.
#[must_use]
pub fn limit() -> usize {
    LIMIT.load(Ordering::Relaxed)
}

fn count_kind(kind: Kind, change: isize) {
    KIND_COUNTS[kind as usize].fetch_add(change, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::{FrameFlags, Kind};
    use super::Frame;

    #[test]
    fn metadata_is_kept_while_the_frame_is() {
        let frame = Frame::alloc_zeroed().expect("memory");
        frame.set_kind(Kind::KernelStack);
        frame.set_flags(FrameFlags::LRU | FrameFlags::ACTIVE);
        assert_eq!(
            frame.clear_flags(FrameFlags::ACTIVE),
            FrameFlags::LRU | FrameFlags::ACTIVE
        );
        assert_eq!(
            (frame.flags(), frame.kind()),
            (FrameFlags::LRU, Kind::KernelStack)
        );
        assert_eq!(super::count(Kind::KernelStack), 1);
        drop(frame);
        assert_eq!(super::count(Kind::KernelStack), 0);
    }

    #[test]
    #[should_panic(expected = "a write to boot memory")]
    fn boot_memory_is_constant() {
        #[repr(align(4096))]
        struct Page([u8; 4096]);
        static PAGE: Page = Page([7; 4096]);
        let frame = Frame::from_boot_memory(&PAGE.0).expect("memory");
        let mut byte = [0];
        frame.read(9, &mut byte);
        assert_eq!(byte, [7]);
        frame.write(9, &[8]);
    }
}

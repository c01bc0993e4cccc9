//! Large frames: 2 MiB that are 512 frames beside each other, each counted for itself. So a part of one can be given back,
//! or shared, like any other frame.
//!
//! A large frame that several page tables map is one, with one handle of each of its frames; how many share it is counted
//! once, in its first frame's metadata. Whose share ends last has the handles, or gives them back.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::account::Purpose;
use super::meta::Meta;
use super::zone::Wanted;
use super::{Kind, OutOfMemory, allocator, bytes};
use crate::addr::{PAGE_SIZE, PhysAddr, UserAddr};
use crate::fail;
use crate::x86::layout;

/// Frames in a large one, as an order.
const ORDER: usize = 9;
const FRAMES: usize = 1 << ORDER;

/// Large frames that there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A share of 2 MiB of a program's own memory.
#[derive(Debug)]
pub struct LargeFrame(PhysAddr);

impl LargeFrame {
    /// A new one.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there are not so many frames beside each other.
    pub fn alloc_zeroed() -> Result<LargeFrame, OutOfMemory> {
        fail::check()?;
        let (phys, is_zero) =
            allocator::take_block(ORDER, Wanted::Zero, (FRAMES, Purpose::Programs))
                .ok_or(OutOfMemory)?;
        let first = allocator::number_of(phys);
        let payer = allocator::meta(first).payer();
        for number in first..first + FRAMES {
            let meta = allocator::meta(number);
            meta.start(1, payer);
            meta.set_kind(Kind::Anon);
            if !is_zero {
                let page = layout::at(PhysAddr((number * PAGE_SIZE) as u64));
                bytes::clear_page(core::ptr::NonNull::new(page).ok_or(OutOfMemory)?);
            }
        }
        allocator::count_kind(Kind::Anon, FRAMES.cast_signed());
        COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(LargeFrame(phys))
    }

    /// Gives the share up.
    pub(crate) fn into_phys(self) -> PhysAddr {
        ManuallyDrop::new(self).0
    }

    /// Takes back the share that [`Self::into_phys`] gave up.
    ///
    /// # Safety
    /// `phys` came from `into_phys`, once for each call of this.
    pub(crate) unsafe fn from_phys(phys: PhysAddr) -> LargeFrame {
        LargeFrame(phys)
    }

    /// How many there are.
    pub(crate) fn count() -> usize {
        COUNT.load(Ordering::Relaxed)
    }

    /// Another share.
    pub(crate) fn share(&self) -> LargeFrame {
        self.sharers().fetch_add(1, Ordering::Relaxed);
        LargeFrame(self.0)
    }

    /// How many others share it: 0 stays so as long as this one does not.
    pub(crate) fn sharers(&self) -> &'static AtomicU64 {
        super::Frame::owner_word(self.0)
    }

    /// Whether nobody else has any of it. Of the frame that `addr` shows the caller may have a handle.
    pub(crate) fn is_sole(&self, addr: UserAddr) -> bool {
        let looked_at = addr.0 as usize / PAGE_SIZE % FRAMES;
        self.sharers().load(Ordering::Acquire) == 0
            && self.metas().enumerate().all(|(page, meta)| {
                let allowed = 1 + u32::from(page == looked_at);
                meta.count.load(Ordering::Acquire) <= allowed
            })
    }

    /// Becomes a handle of each of its frames.
    pub(crate) fn into_frames(self) {
        let share = ManuallyDrop::new(self);
        if share.sharers().load(Ordering::Acquire) == 0 {
            COUNT.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // Before the share ends: whoever is last gives the large frame's own handles back.
        for meta in share.metas() {
            meta.add_handle();
        }
        drop(ManuallyDrop::into_inner(share));
    }

    /// Ends a share; whether it was the last.
    fn is_last(&self) -> bool {
        let sharers = self.sharers();
        let is_last =
            sharers.load(Ordering::Acquire) == 0 || sharers.fetch_sub(1, Ordering::AcqRel) == 0;
        if is_last {
            sharers.store(0, Ordering::Relaxed);
        }
        is_last
    }

    fn metas(&self) -> impl Iterator<Item = &'static Meta> + use<> {
        let first = allocator::number_of(self.0);
        (first..first + FRAMES).map(allocator::meta)
    }
}

impl Drop for LargeFrame {
    fn drop(&mut self) {
        if !self.is_last() {
            return;
        }
        COUNT.fetch_sub(1, Ordering::Relaxed);
        // With one handle each nobody else can make another.
        if self
            .metas()
            .all(|meta| meta.count.load(Ordering::Acquire) == 1)
        {
            for meta in self.metas() {
                meta.count.store(0, Ordering::Relaxed);
                meta.mark_taken();
            }
            allocator::count_kind(Kind::Anon, -FRAMES.cast_signed());
            allocator::give_charged_block(self.0, FRAMES);
            return;
        }
        for page in 0..FRAMES {
            let phys = PhysAddr(self.0.0 + (page * PAGE_SIZE) as u64);
            // SAFETY: this had one handle of each of its frames.
            drop(unsafe { super::Frame::from_phys(phys) });
        }
    }
}

//! Large frames: 2 MiB that are 512 frames beside each other, each counted for itself. So a part of one can be given back,
//! or shared, like any other frame.

use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;

use super::account::Purpose;
use super::zone::Wanted;
use super::{Kind, OutOfMemory, allocator, bytes};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::fail;
use crate::x86::layout;

/// Frames in a large one, as an order.
const ORDER: usize = 9;
const FRAMES: usize = 1 << ORDER;

/// 2 MiB of zeroes for a program's own memory, one handle of each of its frames.
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
        Ok(LargeFrame(phys))
    }

    /// Gives the handles up.
    pub(crate) fn into_phys(self) -> PhysAddr {
        ManuallyDrop::new(self).0
    }

    /// Takes back the handles that [`Self::into_phys`] gave up.
    ///
    /// # Safety
    /// `phys` came from `into_phys`, once for each call of this, and none of its frames' handles was taken otherwise.
    pub(crate) unsafe fn from_phys(phys: PhysAddr) -> LargeFrame {
        LargeFrame(phys)
    }
}

impl Drop for LargeFrame {
    fn drop(&mut self) {
        let first = allocator::number_of(self.0);
        let metas = || (first..first + FRAMES).map(allocator::meta);
        // With one handle each nobody else can make another.
        if metas().all(|meta| meta.count.load(Ordering::Acquire) == 1) {
            for meta in metas() {
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

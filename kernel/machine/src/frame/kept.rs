//! Memory that is of no use to anybody and yet not with the zone, since it is soon wanted again: the frames and
//! objects that each CPU keeps, empty page tables, kernel stacks. When memory is short it goes back.
//!
//! Locking: that of each pool. Another CPU gives its own back in an interrupt, for which the asking one waits.

use core::sync::atomic::Ordering;

use super::{account, allocator};
use crate::heap::bare::drain_stocks;
use crate::interrupt::bare::FLUSH_VECTOR;
use crate::page_table::spare;
use crate::x86::{apic, percpu, stack, tlb};

/// Frames that [`release`] would give back, those in objects not among them.
pub(super) fn count() -> usize {
    allocator::on_cpus() + spare::count() + stack::pages_kept()
}

/// Gives back what is kept, on all CPUs. Returns by how many frames the zone has grown meanwhile. The caller holds no
/// spin lock.
pub(super) fn release() -> usize {
    let before = allocator::in_zone();
    spare::release();
    stack::release_kept();
    drain_here();
    let me = percpu::here().id();
    let others = || {
        let ids = (0..percpu::count()).filter(move |id| *id != me);
        ids.filter_map(percpu::of)
    };
    for other in others() {
        other.is_to_drain.store(true, Ordering::Release);
        apic::send(other.apic_id.load(Ordering::Relaxed), FLUSH_VECTOR);
    }
    for other in others() {
        while other.is_to_drain.load(Ordering::Acquire) {
            // Should interrupts be off here, others may wait for this CPU as this one does for them.
            tlb::poll();
            poll();
            core::hint::spin_loop();
        }
    }
    allocator::in_zone().saturating_sub(before)
}

/// Gives back what this CPU keeps if another one asked for it.
pub(crate) fn poll() {
    let wanted = &percpu::here().is_to_drain;
    if wanted.load(Ordering::Acquire) {
        drain_here();
        wanted.store(false, Ordering::Release);
    }
}

fn drain_here() {
    // Objects first: their pages come to be free frames of this CPU.
    drain_stocks();
    allocator::drain_lists();
    account::drain_stock();
}

//! Telling other CPUs to forget translations.
//!
//! A CPU that waits for another with interrupts off answers requests made to itself meanwhile ([`poll`]): here,
//! for any lock of `sync`, for a task to leave its CPU. So two such CPUs cannot wait for each other for ever, and
//! a flush may be asked for under a lock. Who waits in a loop of its own with interrupts off must do the same.

use core::sync::atomic::Ordering;

use super::paging;
use super::percpu;
use crate::interrupt::InterruptsOff;

/// Makes the CPUs in `mask` (a bit each) drop all translations of user pages; returns when all have.
/// This CPU is left out.
pub(crate) fn flush_others(mask: u64) {
    let _off = InterruptsOff::new();
    let others = mask & !(1 << percpu::here().id());
    if others == 0 {
        return;
    }
    let cpus = || (0..64_usize).filter(move |cpu| others & (1 << cpu) != 0);
    let mut asked = [0_u64; 64];
    for cpu in cpus() {
        let Some(area) = percpu::of(cpu) else {
            continue;
        };
        asked[cpu] = area.flushes_asked.fetch_add(1, Ordering::SeqCst) + 1;
        super::apic::send(
            area.apic_id.load(Ordering::Relaxed),
            crate::interrupt::bare::FLUSH_VECTOR,
        );
    }
    for cpu in cpus() {
        let Some(area) = percpu::of(cpu) else {
            continue;
        };
        while area.flushes_done.load(Ordering::Acquire) < asked[cpu] {
            poll();
            core::hint::spin_loop();
        }
    }
}

/// The CPUs in `mask` that use the user memory of the page table that they have loaded. One that is lazy looks for
/// itself whether it missed a flush when it goes on with its table; it does so after it told that it is
/// lazy no more, so that the caller, who counted the flush before this, sees one or is seen.
pub(crate) fn without_lazy(mask: u64) -> u64 {
    let mut left = mask;
    let mut uses = mask;
    while left != 0 {
        let cpu = left.trailing_zeros() as usize;
        left &= left - 1;
        if percpu::of(cpu).is_some_and(|area| area.is_lazy.load(Ordering::SeqCst)) {
            uses &= !(1 << cpu);
        }
    }
    uses
}

/// Drops this CPU's translations of user pages if another CPU asked for it.
pub(crate) fn poll() {
    let area = percpu::here();
    let asked = area.flushes_asked.load(Ordering::Acquire);
    if asked != area.flushes_done.load(Ordering::Relaxed) {
        flush_here();
        area.flushes_done.fetch_max(asked, Ordering::AcqRel);
    }
}

/// Drops this CPU's translations of user pages.
pub(crate) fn flush_here() {
    let root = paging::current_root();
    // SAFETY: the table is the one in use.
    unsafe { paging::load_root(root) };
}

//! The allocator of physical frames: each CPU's lists in front of one zone, and the metadata of real memory.
//!
//! Locking: the lists are their CPU's, used with interrupts off; one [`IrqLock`] for the zone.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use super::account::{self, AccountId, Purpose};
use super::lists::{BATCH, Lists};
use super::meta::{FrameFlags, KINDS, Kind, Meta};
use super::vmemmap::{self, Vmemmap};
use super::zone::{Unreported, Wanted, Zone};
use super::{refusal, reporting};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::interrupt::InterruptsOff;
use crate::sync::IrqLock;
use crate::x86::percpu;

/// With fewer free frames the CPUs keep none for themselves: another one may need them.
const SCARCE: usize = 1024;

static ZONE: IrqLock<Zone> = IrqLock::new(Zone::new());
/// Frames that the zone can give, for readers without the lock.
static FREE: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// A CPU's own free frames.
#[derive(Debug)]
pub(crate) struct Stock(UnsafeCell<Lists>);

impl Stock {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Lists::new()))
    }
}

/// What a CPU counts, for others to read.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Frames in its lists.
    kept: AtomicUsize,
    /// Frames of each kind that this CPU made, less those that it freed.
    kinds: [AtomicIsize; KINDS],
}

impl Counts {
    pub(crate) const fn new() -> Self {
        Self {
            kept: AtomicUsize::new(0),
            kinds: [const { AtomicIsize::new(0) }; KINDS],
        }
    }
}

/// Calls `with` with this CPU's lists.
fn with_lists<R>(with: impl FnOnce(&mut Lists) -> R) -> R {
    let _off = InterruptsOff::new();
    let area = percpu::here();
    // SAFETY: the lists are this CPU's, interrupts are off, and `with` (in this file) does not come back here.
    let lists = unsafe { &mut *area.frames.0.get() };
    let result = with(lists);
    area.frame_counts
        .kept
        .store(lists.count(), Ordering::Relaxed);
    result
}

/// Adds a range of RAM that was never used; `is_zero` when all of it is promised to be zero.
pub(crate) fn add_region(start: PhysAddr, end: PhysAddr, is_zero: bool) {
    let mut zone = ZONE.lock();
    let first = number_of(PhysAddr(start.0.next_multiple_of(PAGE_SIZE as u64)));
    if !zone.add_region(first, number_of(end), is_zero) {
        crate::log!("memory: more regions than the kernel has room for; {start:?} is left out");
    }
    note(&zone);
}

/// Whether a byte of a range is RAM that was added.
pub(crate) fn is_ram(start: PhysAddr, end: PhysAddr) -> bool {
    let end = end.0.div_ceil(PAGE_SIZE as u64) as usize;
    ZONE.lock().overlaps(number_of(start), end)
}

/// From now on frames have metadata: the kernel's own page tables are loaded.
pub(crate) fn start() {
    ZONE.lock().start();
}

/// The metadata of a frame that was given out after [`start`].
pub(crate) fn meta(number: usize) -> &'static Meta {
    vmemmap::meta(number)
}

/// Takes a frame, which counts so many handles from the start, and says whether it is zero. The running task pays.
#[inline]
pub(super) fn allocate(wanted: Wanted, handles: u32) -> Option<(PhysAddr, bool)> {
    let payer = charge_one(Purpose::Programs)?;
    allocate_for(payer, wanted, handles)
}

#[inline]
fn charge_one(purpose: Purpose) -> Option<AccountId> {
    let payer = account::charge_current(1, purpose);
    if payer.is_none() {
        refusal::note(1);
    }
    payer
}

/// As [`allocate`], for an account that has been charged.
#[inline]
fn allocate_for(payer: AccountId, wanted: Wanted, handles: u32) -> Option<(PhysAddr, bool)> {
    match with_lists(|lists| lists.take(wanted)) {
        Some((number, is_zero)) => {
            meta(number).start(handles, payer);
            Some((phys_of(number), is_zero))
        }
        None => allocate_from_zone(payer, wanted, handles),
    }
}

/// Takes a frame when the list is empty, and fills the list.
#[cold]
#[inline(never)]
fn allocate_from_zone(payer: AccountId, wanted: Wanted, handles: u32) -> Option<(PhysAddr, bool)> {
    let taken = with_lists(|lists| {
        let mut zone = ZONE.lock();
        if !zone.is_started() {
            let (number, is_zero) = zone.take_early()?;
            note(&zone);
            return Some((number, is_zero, false));
        }
        // Where nothing is known to be zero, what this CPU has is as good as what the zone has.
        if !zone.has_zeroes()
            && let Some((number, is_zero)) = lists.take_other(wanted)
        {
            return Some((number, is_zero, true));
        }
        fill(lists, &mut zone, wanted);
        note(&zone);
        let (number, is_zero) = lists.take(wanted).or_else(|| lists.take_other(wanted))?;
        Some((number, is_zero, true))
    });
    let Some((number, is_zero, has_meta)) = taken else {
        refusal::note(1);
        account::uncharge(payer, 1);
        return None;
    };
    if has_meta {
        meta(number).start(handles, payer);
    }
    Some((phys_of(number), is_zero))
}

/// Moves a batch from the zone to a CPU's list, which is empty.
fn fill(lists: &mut Lists, zone: &mut Zone, wanted: Wanted) {
    let batch = if zone.free() < SCARCE { 1 } else { BATCH };
    let is_fresh_wanted = wanted == Wanted::Zero || !zone.has_recycled();
    let fresh = |zone: &mut Zone| zone.take_fresh_run(&Vmemmap, batch, |zero| lists.room(zero));
    if is_fresh_wanted && let Some((first, count, is_zero)) = fresh(zone) {
        for number in (first..first + count).rev() {
            if !lists.give(number, is_zero) {
                zone.give(&Vmemmap, number, 1, is_zero);
            }
        }
        return;
    }
    for _ in 0..batch {
        let Some((number, is_zero)) = zone.take(&Vmemmap, 0, wanted) else {
            return;
        };
        // What is not quite as wanted goes to the other list, which may be full.
        if !lists.give(number, is_zero) {
            zone.give(&Vmemmap, number, 1, is_zero);
            return;
        }
    }
}

/// Takes a frame without handles, of unknown contents, for the kernel itself. Stacks are charged by who has them: they
/// are kept from one task to the next.
pub(crate) fn take_raw(kind: Kind) -> Option<usize> {
    let payer = match kind {
        Kind::KernelStack => AccountId::ROOT,
        _ => charge_one(Purpose::Kernel)?,
    };
    let (phys, _) = allocate_for(payer, Wanted::Any, 0)?;
    let number = number_of(phys);
    set_kind(number, kind);
    Some(number)
}

/// Gives back what [`take_raw`] took.
pub(crate) fn give_raw(number: usize) {
    release(number);
}

/// Counts frames of a kind that were taken in blocks.
pub(crate) fn count_kind(kind: Kind, change: isize) {
    let _off = InterruptsOff::new();
    add_to_kind(kind, change);
}

/// Gives back a frame without handles.
pub(super) fn release(number: usize) {
    let meta = meta(number);
    let (kind, is_zero) = (meta.kind(), meta.is_zero());
    account::uncharge(meta.payer(), 1);
    // Its metadata would be the queue's links and the allocator's at the same time.
    assert!(
        !meta.flags().intersects(FrameFlags::QUEUES),
        "a frame is freed that is in a queue"
    );
    meta.mark_taken();
    with_lists(|lists| {
        if kind != Kind::Other {
            add_to_kind(kind, -1);
        }
        if FREE.load(Ordering::Relaxed) >= SCARCE && lists.give(number, is_zero) {
            return;
        }
        let mut zone = ZONE.lock();
        zone.give(&Vmemmap, number, 1, is_zero);
        let wanted = if is_zero { Wanted::Zero } else { Wanted::Any };
        for _ in 0..BATCH {
            let Some((number, is_zero)) = lists.take(wanted) else {
                break;
            };
            zone.give(&Vmemmap, number, 1, is_zero);
        }
        note(&zone);
    });
}

/// Says what a frame is used for.
pub(super) fn set_kind(number: usize, kind: Kind) {
    let meta = meta(number);
    let old = meta.kind();
    if old != kind {
        meta.set_kind(kind);
        let _off = InterruptsOff::new();
        add_to_kind(old, -1);
        add_to_kind(kind, 1);
    }
}

/// Changes this CPU's count of a kind; with interrupts off.
fn add_to_kind(kind: Kind, change: isize) {
    let count = &percpu::here().frame_counts.kinds[kind as usize];
    // Only this CPU writes it.
    count.store(count.load(Ordering::Relaxed) + change, Ordering::Relaxed);
}

/// Frames of a kind in use.
pub(super) fn count(kind: Kind) -> usize {
    // A count may be seen before its counterpart on another CPU.
    let sum: isize = all_counts()
        .map(|counts| counts.kinds[kind as usize].load(Ordering::Relaxed))
        .sum();
    usize::try_from(sum).unwrap_or(0)
}

/// Takes consecutive frames without handles, `2^order` and aligned to that, and says whether they are zero. The running
/// task is charged for some of them, which the first one's metadata says.
pub(super) fn take_block(
    order: usize,
    wanted: Wanted,
    charged: (usize, Purpose),
) -> Option<(PhysAddr, bool)> {
    let payer = account::charge_current(charged.0, charged.1)?;
    let taken = {
        let mut zone = ZONE.lock();
        let taken = zone.take(&Vmemmap, order, wanted);
        note(&zone);
        taken
    };
    match taken {
        Some((number, is_zero)) => {
            meta(number).start(0, payer);
            Some((phys_of(number), is_zero))
        }
        None => {
            account::uncharge(payer, charged.0);
            None
        }
    }
}

/// Gives back what [`take_block`] took, as many frames as were charged.
pub(super) fn give_charged_block(phys: PhysAddr, frames: usize) {
    account::uncharge(meta(number_of(phys)).payer(), frames);
    give_block(phys, frames);
}

/// Gives consecutive frames back.
pub(super) fn give_block(phys: PhysAddr, frames: usize) {
    let mut zone = ZONE.lock();
    zone.give(&Vmemmap, number_of(phys), frames, false);
    note(&zone);
}

/// Takes a block that the host may have memory for, until [`give_isolated`].
pub(super) fn take_unreported() -> Option<Unreported> {
    let mut zone = ZONE.lock();
    let block = zone.take_unreported(&Vmemmap);
    note(&zone);
    block
}

/// Frames that the host may have memory for, in blocks of a size that is reported.
pub(super) fn unreported() -> usize {
    ZONE.lock().unreported()
}

/// Gives back what [`take_unreported`] took; whether the host knows now that it is free.
pub(super) fn give_isolated(block: &Unreported, is_reported: bool) {
    let mut zone = ZONE.lock();
    zone.give_isolated(&Vmemmap, block, is_reported);
    note(&zone);
}

/// Frames that were taken, those among them that CPUs keep.
pub(super) fn in_use() -> usize {
    ZONE.lock().in_use()
}

/// Sets the most frames that may be in use.
pub(super) fn set_limit(frames: usize) {
    let mut zone = ZONE.lock();
    zone.set_limit(frames);
    note(&zone);
}

/// The most frames that may be in use.
pub(super) fn limit() -> usize {
    ZONE.lock().limit()
}

/// Frames in all regions, as far as the limit allows.
pub(crate) fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// Frames not in use.
pub(crate) fn free() -> usize {
    in_zone() + on_cpus()
}

/// Free frames that no CPU keeps.
pub(super) fn in_zone() -> usize {
    FREE.load(Ordering::Relaxed)
}

/// Free frames that CPUs keep.
pub(super) fn on_cpus() -> usize {
    let kept = all_counts().map(|counts| counts.kept.load(Ordering::Relaxed));
    kept.sum()
}

/// Free frames that this CPU can have.
pub(super) fn at_hand() -> usize {
    let kept = &percpu::here().frame_counts.kept;
    in_zone() + kept.load(Ordering::Relaxed)
}

/// Gives the frames that this CPU keeps to the zone.
pub(super) fn drain_lists() {
    with_lists(|lists| {
        let mut zone = ZONE.lock();
        while let Some((number, is_zero)) = lists.take(Wanted::Any) {
            zone.give(&Vmemmap, number, 1, is_zero);
        }
        note(&zone);
    });
}

fn all_counts() -> impl Iterator<Item = &'static Counts> {
    (0..percpu::count())
        .filter_map(percpu::of)
        .map(|shared| &shared.frame_counts)
}

fn note(zone: &Zone) {
    FREE.store(zone.available(), Ordering::Relaxed);
    TOTAL.store(zone.total().min(zone.limit()), Ordering::Relaxed);
    reporting::note(zone.unreported());
}

pub(super) fn number_of(phys: PhysAddr) -> usize {
    (phys.0 / PAGE_SIZE as u64) as usize
}

pub(super) fn phys_of(number: usize) -> PhysAddr {
    PhysAddr((number * PAGE_SIZE) as u64)
}

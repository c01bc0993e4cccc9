//! What each CPU has of its own, reached through GS.
//!
//! In the kernel GS holds the address of the CPU's [`Area`]; SWAPGS at every crossing to and from user
//! mode exchanges it for the user's. An area's cells are touched by their own CPU alone, with
//! interrupts off or where no interrupt handler looks: [`Area`] is not `Sync`, and [`of`] gives others only
//! its [`Shared`] part, which is atomics.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::arch::asm;
use core::cell::{Cell, RefCell, UnsafeCell};
use core::mem::offset_of;
use core::ops::Deref;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use super::descriptors::Tables;
use super::fpu::FpuState;
use crate::cpu::{CpuId, MAX_CPUS};
use crate::frame::{OutOfMemory, account, allocator};
use crate::heap;
use crate::page_table::PageTable;
use crate::task::Task;
use crate::user_mode::Registers;

/// Offsets that the assembly uses.
pub(crate) const KERNEL_SP: usize = offset_of!(Area, kernel_sp);
pub(crate) const USER_REGS: usize = offset_of!(Area, user_regs);
pub(crate) const SCRATCH: usize = offset_of!(Area, scratch);

/// One CPU's own data.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Area {
    this: Cell<*const Area>,
    /// Stack pointer to return to when user mode is left.
    kernel_sp: Cell<u64>,
    /// Where the registers go when user mode is left.
    user_regs: Cell<*mut Registers>,
    scratch: Cell<u64>,
    id: Cell<CpuId>,
    /// Interrupts that are being handled.
    #[cfg(any(feature = "checks", debug_assertions))]
    pub(crate) handling: Cell<usize>,
    /// RCU read sections that this CPU is in.
    pub(crate) rcu_readers: Cell<isize>,
    /// The running task; a counted reference.
    pub(crate) current: Cell<*const Task>,
    /// The task switched away from, until the next one has let go of its stack; a counted reference.
    pub(crate) previous: Cell<*const Task>,
    /// The FPU state that the registers hold (an id), and where to save it; null when it is saved.
    pub(crate) fpu_id: Cell<u64>,
    pub(crate) fpu_live: Cell<*mut FpuState>,
    /// The user bases in the registers, when known.
    pub(crate) bases: Cell<Option<(u64, u64)>>,
    /// The page table that is loaded.
    pub(crate) active: RefCell<Option<Arc<PageTable>>>,
    /// How many flushes `active` had seen when this CPU became lazy.
    pub(crate) flushes_seen: Cell<u64>,
    shared: Shared,
    /// Spin locks held (see `sync`). An interrupt handler leaves it as it found it.
    #[cfg(any(feature = "checks", debug_assertions))]
    pub(crate) held_locks: Cell<isize>,
    pub(crate) frames: allocator::Stock,
    /// Frames that are charged to an account and not taken yet.
    pub(crate) charged: account::Stocks,
    /// A block that the heap has put aside for the next allocation.
    pub(crate) reserved: heap::Slot,
    pub(crate) stocks: heap::bare::Stocks,
    pub(crate) tables: UnsafeCell<Tables>,
}

/// What other CPUs may look at, and change.
#[derive(Debug)]
pub(crate) struct Shared {
    /// No user memory is used just now.
    pub(crate) is_lazy: AtomicBool,
    /// TLB flushes asked for by others, and done.
    pub(crate) flushes_asked: AtomicU64,
    pub(crate) flushes_done: AtomicU64,
    /// Another CPU wants the memory back that this one keeps.
    pub(crate) is_to_drain: AtomicBool,
    pub(crate) apic_id: AtomicU32,
    pub(crate) frame_counts: allocator::Counts,
    /// Entries of user page tables that are pages of files, that came on this CPU, less those that went.
    pub(crate) file_pages: AtomicUsize,
}

impl Deref for Area {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Area {
    const fn new() -> Area {
        Area {
            this: Cell::new(core::ptr::null()),
            kernel_sp: Cell::new(0),
            user_regs: Cell::new(null_mut()),
            scratch: Cell::new(0),
            id: Cell::new(0),
            #[cfg(any(feature = "checks", debug_assertions))]
            handling: Cell::new(0),
            rcu_readers: Cell::new(0),
            current: Cell::new(core::ptr::null()),
            previous: Cell::new(core::ptr::null()),
            fpu_id: Cell::new(0),
            fpu_live: Cell::new(null_mut()),
            bases: Cell::new(None),
            active: RefCell::new(None),
            flushes_seen: Cell::new(0),
            shared: Shared {
                is_lazy: AtomicBool::new(false),
                flushes_asked: AtomicU64::new(0),
                flushes_done: AtomicU64::new(0),
                is_to_drain: AtomicBool::new(false),
                apic_id: AtomicU32::new(0),
                frame_counts: allocator::Counts::new(),
                file_pages: AtomicUsize::new(0),
            },
            #[cfg(any(feature = "checks", debug_assertions))]
            held_locks: Cell::new(0),
            frames: allocator::Stock::new(),
            charged: account::Stocks::new(),
            reserved: heap::Slot::new(),
            stocks: heap::bare::Stocks::new(),
            tables: UnsafeCell::new(Tables::new()),
        }
    }

    pub(crate) fn id(&self) -> CpuId {
        self.id.get()
    }
}

/// The boot CPU's area.
struct BootArea(Area);

// SAFETY: nothing but `start_boot_cpu` reaches the area through the static, on its own CPU.
unsafe impl Sync for BootArea {}

static BOOT_AREA: BootArea = BootArea(Area::new());
static AREAS: [AtomicPtr<Area>; MAX_CPUS] = [const { AtomicPtr::new(null_mut()) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// Takes the boot CPU's area into use.
pub(crate) fn start_boot_cpu() {
    adopt(&BOOT_AREA.0, 0);
}

/// Makes the area of another CPU, to be taken into use by [`start_other_cpu`] there.
///
/// # Errors
/// [`OutOfMemory`].
pub(crate) fn make(id: CpuId) -> Result<(), OutOfMemory> {
    let area: &'static Area = Box::leak(heap::try_box(Area::new())?);
    AREAS[id].store(core::ptr::from_ref(area).cast_mut(), Ordering::Release);
    Ok(())
}

/// Takes the area that [`make`] made into use, on its CPU.
pub(crate) fn start_other_cpu(id: CpuId) {
    let area = AREAS[id].load(Ordering::Acquire);
    // SAFETY: `make` stored a 'static area, which nobody else has: this is its CPU.
    match unsafe { area.as_ref() } {
        Some(area) => adopt(area, id),
        None => panic!("CPU {id} started without an area"),
    }
}

/// Counts this CPU as running.
pub(crate) fn set_online(id: CpuId) {
    COUNT.fetch_max(id + 1, Ordering::Release);
}

/// Whether the boot CPU has its area; another CPU takes its own before it does anything else.
pub(crate) fn is_ready() -> bool {
    !AREAS[0].load(Ordering::Relaxed).is_null()
}

/// CPUs that run.
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

fn adopt(area: &'static Area, id: CpuId) {
    area.this.set(area);
    area.id.set(id);
    AREAS[id].store(core::ptr::from_ref(area).cast_mut(), Ordering::Release);
    GsBase::write(VirtAddr::from_ptr(area));
    super::descriptors::load(area);
    crate::rcu::start_cpu(id);
}

/// What others may know of a CPU that was made.
pub(crate) fn of(id: CpuId) -> Option<&'static Shared> {
    let area = AREAS[id].load(Ordering::Acquire);
    if area.is_null() {
        return None;
    }
    // SAFETY: areas are 'static once stored, and this part of them is atomics.
    Some(unsafe { &(*area).shared })
}

/// The area of the CPU this runs on.
pub(crate) fn here() -> &'static Area {
    let area: *const Area;
    // SAFETY: GS holds this CPU's area in the kernel; `this`, its first word, points to it.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) area, options(nostack, preserves_flags, readonly, pure));
    }
    // SAFETY: areas are 'static.
    unsafe { &*area }
}

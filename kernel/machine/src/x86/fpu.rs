//! The user's FPU, SSE and AVX state. The kernel is built without them, so the registers always hold a
//! user's state: it is saved when its thread leaves the CPU, and loaded before user code runs if the
//! registers hold another's.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

use super::features::{self, Features, cpuid};
use super::percpu::{self, Area};
use crate::cpu::CpuId;
use crate::heap::{self, AllocError};
use crate::interrupt::InterruptsOff;

const FXSAVE_LEN: usize = 512;
const XSAVE_HEADER: usize = 512;
const XSAVE_MIN_LEN: usize = 576;
const MXCSR_AT: usize = 24;
const MXCSR_MASK_AT: usize = 28;
const DEFAULT_CONTROL: u16 = 0x37f;
const DEFAULT_MXCSR: u32 = 0x1f80;
/// What is enabled of what the CPU has.
const WANTED_XCR0: XCr0Flags = XCr0Flags::X87
    .union(XCr0Flags::SSE)
    .union(XCr0Flags::AVX)
    .union(XCr0Flags::OPMASK)
    .union(XCr0Flags::ZMM_HI256)
    .union(XCr0Flags::HI16_ZMM);

static XCR0: AtomicU32 = AtomicU32::new(0);
static AREA_LEN: AtomicUsize = AtomicUsize::new(FXSAVE_LEN);
static MXCSR_MASK: AtomicU32 = AtomicU32::new(0xffbf);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A saved state, and where it was last loaded. Its address is stable: CPUs point to it while its
/// contents are in their registers.
#[derive(Debug)]
pub(crate) struct FpuState {
    area: NonNull<u8>,
    len: usize,
    id: u64,
    cpu: CpuId,
}

// SAFETY: the area is this state's alone. No CPU points to a state that goes from one thread to another: a thread's
// leaving its CPU ends that (`save_live`), a loaded state stays with its thread (`UserContext` is not `Send`), and a
// new one was loaded nowhere.
unsafe impl Send for FpuState {}
// SAFETY: it is only changed through `&mut`, or by the CPU that its owner is on.
unsafe impl Sync for FpuState {}

/// Turns the FPU on, on this CPU.
pub(crate) fn set_up() {
    let has_xsave = features::has(Features::XSAVE);
    // SAFETY: there is an FPU in every x86-64 CPU; its errors are exceptions, which the traps handle.
    unsafe {
        Cr0::update(|flags| {
            flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            flags.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
        });
    }
    // SAFETY: every x86-64 CPU has FXSAVE and SSE; XSAVE is enabled only where CPUID names it.
    unsafe {
        Cr4::update(|flags| {
            flags.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE);
            flags.set(Cr4Flags::OSXSAVE, has_xsave);
        });
    }
    // SAFETY: the registers hold nobody's state yet.
    unsafe { asm!("fninit", options(nomem, nostack, preserves_flags)) };
    if has_xsave {
        let enabled = XCr0Flags::from_bits_truncate(cpuid(0xd, 0)[0].into()) & WANTED_XCR0;
        // SAFETY: OSXSAVE is set, and leaf 0xd names these bits as supported.
        unsafe { XCr0::write(enabled) };
        // None of them is above.
        XCR0.store(enabled.bits() as u32, Ordering::Relaxed);
        AREA_LEN.store(
            (cpuid(0xd, 0)[1] as usize).max(XSAVE_MIN_LEN),
            Ordering::Relaxed,
        );
    }
}

/// Learns which MXCSR bits the CPU has: FXSAVE stores the mask.
pub(crate) fn learn_mxcsr_mask() {
    let Ok(probe) = FpuState::new() else { return };
    // SAFETY: the area is 64-aligned and at least 512 bytes long.
    unsafe { asm!("fxsave64 [{}]", in(reg) probe.area.as_ptr(), options(nostack)) };
    let mask = probe.word(MXCSR_MASK_AT);
    if mask != 0 {
        MXCSR_MASK.store(mask, Ordering::Relaxed);
    }
}

/// What is enabled of what XSAVE saves; 0 without XSAVE.
pub(crate) fn enabled_features() -> u64 {
    XCR0.load(Ordering::Relaxed).into()
}

/// Saves the state that this CPU's registers hold, if that is not saved yet. The registers stay
/// good. Interrupts are off.
pub(crate) fn save_live(area: &Area) {
    // SAFETY: `load` set it to a state in a box of the thread that is on this CPU; that thread's leaving comes here
    // first, and its dropping or changing the state clears it (`forget_registers`).
    if let Some(state) = unsafe { area.fpu_live.replace(core::ptr::null_mut()).as_ref() } {
        state.save();
    }
}

fn new_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl FpuState {
    /// State as exec leaves it.
    ///
    /// # Errors
    /// [`AllocError`].
    pub(crate) fn new() -> Result<FpuState, AllocError> {
        let len = AREA_LEN.load(Ordering::Relaxed);
        let layout = Self::layout(len);
        heap::admit()?;
        // SAFETY: the layout is not empty.
        let area = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(AllocError)?;
        let mut state = FpuState {
            area,
            len,
            id: new_id(),
            cpu: 0,
        };
        state.set_defaults();
        Ok(state)
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, 64).unwrap_or(Layout::new::<[u64; 64]>())
    }

    /// A copy, of what the registers hold if they hold it.
    ///
    /// # Errors
    /// [`AllocError`].
    pub(crate) fn duplicate(&self) -> Result<FpuState, AllocError> {
        let mut copy = FpuState::new()?;
        copy.bytes_mut().copy_from_slice(self.bytes());
        Ok(copy)
    }

    /// Puts exec's state in place.
    pub(crate) fn reset(&mut self) {
        self.forget_registers();
        self.bytes_mut().fill(0);
        self.set_defaults();
    }

    /// The saved bytes, brought up to date.
    pub(crate) fn bytes(&self) -> &[u8] {
        let _off = InterruptsOff::new();
        let here = percpu::here();
        if core::ptr::eq(here.fpu_live.get(), self) {
            save_live(here);
        }
        // SAFETY: the area has `len` bytes, written by this CPU only in `save`.
        unsafe { core::slice::from_raw_parts(self.area.as_ptr(), self.len) }
    }

    /// Takes other bytes in place, if a load of them cannot fault.
    pub(crate) fn set(&mut self, bytes: &[u8]) -> Option<()> {
        let bytes = bytes.get(..self.len)?;
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        if word(MXCSR_AT)? & !MXCSR_MASK.load(Ordering::Relaxed) != 0 {
            return None;
        }
        if features::has(Features::XSAVE) {
            let unknown = word(XSAVE_HEADER)? & !XCR0.load(Ordering::Relaxed);
            let rest = bytes.get(XSAVE_HEADER + 4..XSAVE_HEADER + 64)?;
            if unknown != 0 || rest.iter().any(|byte| *byte != 0) {
                return None;
            }
        }
        self.forget_registers();
        self.bytes_mut().copy_from_slice(bytes);
        Some(())
    }

    /// Makes this CPU's registers hold this state. Interrupts are off.
    pub(crate) fn load(&mut self, area: &Area) {
        if area.fpu_id.get() != self.id || self.cpu != area.id() {
            save_live(area);
            self.restore();
            area.fpu_id.set(self.id);
            self.cpu = area.id();
        }
        area.fpu_live.set(self);
    }

    /// What the registers hold is no longer this state's.
    fn forget_registers(&mut self) {
        let _off = InterruptsOff::new();
        let here = percpu::here();
        if core::ptr::eq(here.fpu_live.get(), self) {
            here.fpu_live.set(core::ptr::null_mut());
        }
        self.id = new_id();
    }

    fn set_defaults(&mut self) {
        let bytes = self.bytes_mut();
        bytes[..2].copy_from_slice(&DEFAULT_CONTROL.to_le_bytes());
        bytes[MXCSR_AT..MXCSR_AT + 4].copy_from_slice(&DEFAULT_MXCSR.to_le_bytes());
        if let Some(present) = bytes.get_mut(XSAVE_HEADER) {
            // x87 and SSE are in the area, the rest is at its initial state.
            *present = 3;
        }
    }

    fn word(&self, at: usize) -> u32 {
        let word: *const u32 = self.area.as_ptr().wrapping_add(at).cast();
        // SAFETY: the area has at least 512 bytes, and `at` is one of two aligned offsets in them.
        unsafe { word.read() }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the area has `len` bytes and is this state's alone.
        unsafe { core::slice::from_raw_parts_mut(self.area.as_ptr(), self.len) }
    }

    fn save(&self) {
        let area = self.area.as_ptr();
        if features::has(Features::XSAVE) {
            // SAFETY: the area is 64-aligned, as long as CPUID says for the enabled parts, and its header
            // is zero but for what the CPU wrote.
            unsafe {
                asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack));
            }
        } else {
            // SAFETY: the area is 16-aligned and 512 bytes long.
            unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack)) };
        }
    }

    fn restore(&self) {
        let area = self.area.as_ptr();
        if features::has(Features::XSAVE) {
            // SAFETY: the CPU or `set_defaults` wrote the area, or `set` checked it.
            unsafe {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack));
            }
        } else {
            // SAFETY: as above.
            unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack)) };
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        self.forget_registers();
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.area.as_ptr(), Self::layout(self.len)) };
    }
}

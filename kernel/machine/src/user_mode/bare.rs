//! User code on the real CPU.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use x86_64::VirtAddr;
use x86_64::registers::rflags::RFlags;

use super::{DebugRegisters, PageFault, Registers, UserExit};
use crate::addr::UserAddr;
use crate::heap::{AllocError, try_box};
use crate::interrupt::bare::{dispatch, turn_off, turn_on};
use crate::x86::features::{self, Features};
use crate::x86::fpu::FpuState;
use crate::x86::percpu;
use crate::x86::{bases, copy, debug, fpu, trap, user_entry};

/// What user code may set. Every way into the kernel clears those that would matter there.
const USER_FLAGS: RFlags = RFlags::CARRY_FLAG
    .union(RFlags::PARITY_FLAG)
    .union(RFlags::AUXILIARY_CARRY_FLAG)
    .union(RFlags::ZERO_FLAG)
    .union(RFlags::SIGN_FLAG)
    .union(RFlags::TRAP_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::OVERFLOW_FLAG)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::ID);
/// Interrupts on, and the bit that is always set.
const FIXED_FLAGS: u64 = RFlags::INTERRUPT_FLAG.bits() | 1 << 1;
/// SYSRET would trap after itself instead of after the user's next instruction.
const TRAP_FLAG: u64 = RFlags::TRAP_FLAG.bits();
const DEBUG: u8 = 1;
const PAGE_FAULT: u8 = 14;
const GENERAL_PROTECTION: u8 = 13;
/// The page was there, user mode, instruction fetch.
const FETCH_OF_KERNEL_PAGE: u32 = 0x15;

/// The user side of a thread: registers and FPU state. It stays with the kernel thread that runs it: a CPU whose
/// registers hold the FPU state points to it until the thread leaves that CPU.
#[derive(Debug)]
pub struct UserContext {
    /// The registers. `run` takes only what user mode may have: segments are fixed, of `rflags` only the
    /// user's bits count, `rip` and the bases are made canonical.
    pub regs: Registers,
    /// Its breakpoints.
    pub debug: DebugRegisters,
    fpu: Box<FpuState>,
    _not_send: PhantomData<*const ()>,
}

/// A user side that no CPU has loaded yet, on its way to the thread that will run it.
#[derive(Debug)]
pub struct NewContext {
    /// The registers.
    pub regs: Registers,
    fpu: Box<FpuState>,
}

impl NewContext {
    /// Registers zero, FPU as after exec.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn new() -> Result<Self, AllocError> {
        Ok(Self {
            regs: Registers::default(),
            fpu: try_box(FpuState::new()?)?,
        })
    }

    /// The context of the thread that calls this.
    #[must_use]
    pub fn start(self) -> UserContext {
        UserContext {
            regs: self.regs,
            debug: DebugRegisters::default(),
            fpu: self.fpu,
            _not_send: PhantomData,
        }
    }
}

impl UserContext {
    /// Registers zero, FPU as after exec.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn new() -> Result<Self, AllocError> {
        NewContext::new().map(NewContext::start)
    }

    /// A copy for a forked thread, FPU state included, breakpoints not.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn duplicate(&self) -> Result<NewContext, AllocError> {
        Ok(NewContext {
            regs: self.regs,
            fpu: try_box(self.fpu.duplicate()?)?,
        })
    }

    /// Runs user code on this CPU, with the active page table, until it stops.
    ///
    /// # Panics
    /// After `PageTable::deactivate`.
    pub fn run(&mut self) -> UserExit {
        if VirtAddr::try_new(self.regs.rip).is_err() {
            return UserExit::Exception {
                vector: GENERAL_PROTECTION,
                error_code: 0,
            };
        }
        self.regs.rflags = self.regs.rflags & USER_FLAGS.bits() | FIXED_FLAGS;
        turn_off();
        let area = percpu::here();
        // A lazy CPU is not told what its TLB has to forget.
        assert!(
            !area.is_lazy.load(Ordering::Relaxed),
            "user code without user memory"
        );
        self.fpu.load(area);
        bases::load(area, &mut self.regs);
        let use_sysret = self.regs.rcx == self.regs.rip
            && self.regs.r11 == self.regs.rflags
            && self.regs.rip < UserAddr::LIMIT.0
            && self.regs.rflags & TRAP_FLAG == 0;
        if self.debug.is_armed() {
            debug::load(&self.debug);
        }
        // SAFETY: the registers outlive the call; `rip` and `rflags` were checked above.
        let stopped = unsafe { user_entry::enter_user(&mut self.regs, use_sysret) };
        if self.debug.is_armed() {
            debug::turn_off();
        }
        // This is the same CPU: whatever interrupts user code returns here first.
        if features::has(Features::SMAP) {
            copy::forbid_user_access();
        }
        bases::store(area, &mut self.regs);
        let exit = self.explain(stopped);
        turn_on();
        exit
    }

    /// Interrupts are still off, so that CR2 is that of the fault.
    fn explain(&mut self, stopped: u64) -> UserExit {
        let (code, error_code) = (stopped as u32, (stopped >> 32) as u32);
        if code == user_entry::SYSCALL {
            return UserExit::Syscall;
        }
        let vector = code as u8;
        if vector >= trap::FIRST_INTERRUPT {
            dispatch(vector);
            return UserExit::Interrupt;
        }
        if vector == DEBUG {
            let status = debug::take_status();
            if self.debug.stopped_before(status) {
                self.regs.rflags |= RFlags::RESUME_FLAG.bits();
            }
            return UserExit::Exception {
                vector,
                error_code: status,
            };
        }
        if vector != PAGE_FAULT {
            return UserExit::Exception { vector, error_code };
        }
        let addr = trap::fault_address();
        if error_code == FETCH_OF_KERNEL_PAGE && features::is_emulated() && self.is_at_entry(addr) {
            // Such a host's KVM leaves the CPU in user mode after SYSCALL: it arrives as this fault. Elsewhere
            // it is a fault, or else a program could try where the kernel is.
            self.regs.rip = self.regs.rcx;
            self.regs.rflags = self.regs.r11;
            return UserExit::Syscall;
        }
        UserExit::PageFault(PageFault {
            addr: UserAddr(addr),
            present: error_code & 1 != 0,
            write: error_code & 2 != 0,
            exec: error_code & 16 != 0,
        })
    }

    /// Whether a fetch at `addr` faulted that is where SYSCALL arrives.
    fn is_at_entry(&self, addr: u64) -> bool {
        let entry = user_entry::syscall_address();
        self.regs.rip == entry && addr == entry
    }

    /// FPU state as exec leaves it.
    pub fn reset_fpu(&mut self) {
        self.fpu.reset();
    }

    /// The FPU state in the layout of a signal frame (FXSAVE, or XSAVE with its header), for this CPU.
    pub fn fpu_bytes(&mut self) -> &[u8] {
        self.fpu.bytes()
    }

    /// Takes FPU state from a signal frame; `None` (state unchanged) when a load of it would fault.
    pub fn set_fpu_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.fpu.set(bytes)
    }
}

/// The parts of the FPU state that are enabled (XCR0); 0 on a CPU without XSAVE, whose state is an FXSAVE image.
#[must_use]
pub fn xstate_features() -> u64 {
    fpu::enabled_features()
}

//! The signal frame on the user's stack: `struct rt_sigframe` of x86-64, and back.

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
use machine::user_mode::UserContext;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::info::SIGINFO_SIZE;
use super::{Action, Disposition, Flags, SigInfo, SignalSet, state};
use crate::task::thread::{AlternateStack, FaultRecord, Thread};

/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;
/// `SS_DISABLE` and `SS_AUTODISARM` of sigaltstack(2).
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
const CODE_SELECTOR: u16 = 0x33;
const DATA_SELECTOR: u16 = 0x2b;
/// `UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`, and `UC_FP_XSTATE`.
const UC_SEGMENTS: u64 = 6;
const UC_FP_XSTATE: u64 = 1;
/// CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC: what sigreturn(2) takes from the frame.
const RESTORED_FLAGS: u64 = 0x5_0dd5;
/// Flags that a handler starts without: direction, resume, trap.
const CLEARED_FLAGS: u64 = 1 << 10 | 1 << 16 | 1 << 8;

/// Bytes of the FXSAVE area, and where user space looks for the size of what follows it.
const FXSAVE_SIZE: usize = 512;
const SW_RESERVED: usize = 464;
const XSTATE_MAGIC1: u32 = 0x4650_5853;
const XSTATE_MAGIC2: u32 = 0x4650_5845;

/// `struct sigcontext`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MachineContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error_code: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpu_state: u64,
    reserved: [u64; 8],
}

/// `stack_t`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    /// Lowest address.
    pub base: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Not used.
    pub padding: u32,
    /// Bytes.
    pub size: u64,
}

/// `struct rt_sigframe`, without the FPU state, which lies above it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    return_address: u64,
    flags: u64,
    link: u64,
    stack: StackT,
    machine: MachineContext,
    mask: u64,
    info: [u8; SIGINFO_SIZE],
}

impl StackT {
    /// As user space reads it; `sp` decides whether it is in use.
    #[must_use]
    pub fn of(stack: AlternateStack, sp: u64) -> Self {
        let mut flags = if stack.size == 0 {
            SS_DISABLE
        } else {
            u32::from(stack.contains(sp))
        };
        if stack.autodisarm {
            flags |= SS_AUTODISARM;
        }
        Self {
            base: stack.base,
            flags,
            padding: 0,
            size: stack.size,
        }
    }

    /// What user space asks for.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, `ENOMEM` when too small.
    pub fn parse(&self) -> Result<AlternateStack> {
        const MIN_SIZE: u64 = 2048;
        let mode = self.flags & !SS_AUTODISARM;
        // SS_ONSTACK, 1, is accepted and means nothing.
        if mode > SS_DISABLE {
            return Err(Errno::EINVAL);
        }
        if mode == SS_DISABLE {
            return Ok(AlternateStack::default());
        }
        if self.size < MIN_SIZE {
            return Err(Errno::ENOMEM);
        }
        Ok(AlternateStack {
            base: self.base,
            size: self.size,
            autodisarm: self.flags & SS_AUTODISARM != 0,
        })
    }
}

/// Where the frame and the FPU state go.
struct Layout {
    frame: u64,
    fpu: u64,
}

fn layout(stack: AlternateStack, sp: u64, action: Action, fpu_size: u64) -> Result<Layout> {
    let in_use = stack.contains(sp);
    let switch = action.flags.contains(Flags::ONSTACK) && stack.size != 0 && !in_use;
    let top = if switch {
        stack.base.checked_add(stack.size)
    } else {
        sp.checked_sub(RED_ZONE)
    };
    let fpu = top
        .and_then(|top| top.checked_sub(fpu_size))
        .map(|at| at & !63);
    let frame = fpu
        .and_then(|fpu| fpu.checked_sub(size_of::<Frame>() as u64))
        .map(|at| at & !15)
        .and_then(|at| at.checked_sub(8));
    let (Some(frame), Some(fpu)) = (frame, fpu) else {
        return Err(Errno::EFAULT);
    };
    // A frame must not run out of the alternate stack.
    if (switch || in_use) && frame < stack.base {
        return Err(Errno::EFAULT);
    }
    Ok(Layout { frame, fpu })
}

/// Puts a frame for `info` on the stack and points the registers at the handler.
pub(super) fn push(
    thread: &Thread,
    user: &mut UserContext,
    info: &SigInfo,
    action: Action,
    return_mask: SignalSet,
) -> Result<()> {
    let Disposition::Handler(handler) = action.disposition else {
        return Err(Errno::EFAULT);
    };
    if !action.flags.contains(Flags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let stack = *thread.alternate_stack.lock();
    let fpu = fpu_image(user)?;
    let at = layout(stack, user.regs.rsp, action, fpu.len() as u64)?;
    let fault = *thread.fault.lock();
    let frame = Frame {
        return_address: action.restorer,
        flags: UC_SEGMENTS
            | if fpu.len() > FXSAVE_SIZE {
                UC_FP_XSTATE
            } else {
                0
            },
        link: 0,
        stack: StackT::of(stack, user.regs.rsp),
        machine: save_registers(user, fault, return_mask, at.fpu),
        mask: return_mask.0,
        info: info.to_bytes(),
    };
    memory::user::write_bytes(UserAddr(at.fpu), &fpu)?;
    memory::user::write_bytes(UserAddr(at.frame), frame.as_bytes())?;
    if stack.autodisarm {
        *thread.alternate_stack.lock() = AlternateStack::default();
    }
    let regs = &mut user.regs;
    regs.rdi = u64::from(info.signal.number());
    regs.rsi = at.frame + core::mem::offset_of!(Frame, info) as u64;
    regs.rdx = at.frame + core::mem::offset_of!(Frame, flags) as u64;
    regs.rax = 0;
    regs.rip = handler;
    regs.rsp = at.frame;
    regs.rflags &= !CLEARED_FLAGS;
    // What the interrupted code had in its registers and modes is in the frame, not the handler's.
    user.reset_fpu();
    Ok(())
}

/// The FPU state as it stands in a frame: with XSAVE, its size is noted inside and behind it.
fn fpu_image(user: &mut UserContext) -> Result<Vec<u8>> {
    let bytes = user.fpu_bytes();
    let mut image = Vec::try_with_capacity(bytes.len() + 4)?;
    image.try_extend_from_slice(bytes)?;
    if image.len() <= FXSAVE_SIZE {
        return Ok(image);
    }
    let size = u32::try_from(image.len()).map_err(|_| Errno::EFAULT)?;
    let mut features = [0; 8];
    features.copy_from_slice(&image[FXSAVE_SIZE..FXSAVE_SIZE + 8]);
    let mut put = |at: usize, field: &[u8]| image[at..at + field.len()].copy_from_slice(field);
    put(SW_RESERVED, XSTATE_MAGIC1.as_bytes());
    put(SW_RESERVED + 4, (size + 4).as_bytes());
    put(SW_RESERVED + 8, &features);
    put(SW_RESERVED + 16, size.as_bytes());
    image.try_extend_from_slice(XSTATE_MAGIC2.as_bytes())?;
    Ok(image)
}

fn save_registers(
    user: &UserContext,
    fault: FaultRecord,
    mask: SignalSet,
    fpu_state: u64,
) -> MachineContext {
    let regs = &user.regs;
    MachineContext {
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        rdi: regs.rdi,
        rsi: regs.rsi,
        rbp: regs.rbp,
        rbx: regs.rbx,
        rdx: regs.rdx,
        rax: regs.rax,
        rcx: regs.rcx,
        rsp: regs.rsp,
        rip: regs.rip,
        rflags: regs.rflags,
        cs: CODE_SELECTOR,
        gs: 0,
        fs: 0,
        ss: DATA_SELECTOR,
        error_code: fault.error_code,
        vector: fault.vector,
        old_mask: mask.0,
        cr2: fault.addr,
        fpu_state,
        reserved: [0; 8],
    }
}

fn restore_registers(user: &mut UserContext, saved: &MachineContext) {
    let regs = &mut user.regs;
    regs.r8 = saved.r8;
    regs.r9 = saved.r9;
    regs.r10 = saved.r10;
    regs.r11 = saved.r11;
    regs.r12 = saved.r12;
    regs.r13 = saved.r13;
    regs.r14 = saved.r14;
    regs.r15 = saved.r15;
    regs.rdi = saved.rdi;
    regs.rsi = saved.rsi;
    regs.rbp = saved.rbp;
    regs.rbx = saved.rbx;
    regs.rdx = saved.rdx;
    regs.rax = saved.rax;
    regs.rcx = saved.rcx;
    regs.rsp = saved.rsp;
    regs.rip = saved.rip;
    regs.rflags = regs.rflags & !RESTORED_FLAGS | saved.rflags & RESTORED_FLAGS;
}

/// rt_sigreturn(2): takes everything from the frame that the handler's return left behind. What the
/// frame says is a claim: the machine takes of it only what user mode may have.
///
/// # Errors
/// `EFAULT` when the frame cannot be read or its FPU state is invalid: the caller forces SIGSEGV.
pub fn sigreturn(thread: &Thread, user: &mut UserContext) -> Result<u64> {
    let at = user.regs.rsp.checked_sub(8).ok_or(Errno::EFAULT)?;
    let mut bytes = [0; size_of::<Frame>()];
    memory::user::read_bytes(UserAddr(at), &mut bytes)?;
    let frame = Frame::read_from_bytes(&bytes).map_err(|_| Errno::EFAULT)?;
    if frame.machine.fpu_state == 0 {
        user.reset_fpu();
    } else {
        restore_fpu(user, UserAddr(frame.machine.fpu_state))?;
    }
    restore_registers(user, &frame.machine);
    // What a handler interrupted is over, however it ended.
    let _ = thread.take_restart();
    state::set_mask(thread, SignalSet(frame.mask));
    if let Ok(stack) = frame.stack.parse() {
        *thread.alternate_stack.lock() = stack;
    }
    Ok(user.regs.rax)
}

fn restore_fpu(user: &mut UserContext, at: UserAddr) -> Result<()> {
    let size = user.fpu_bytes().len();
    let mut bytes = Vec::try_from_elem(0, size)?;
    memory::user::read_bytes(at, &mut bytes)?;
    user.set_fpu_bytes(&bytes).ok_or(Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_laid_out_as_linux_lays_it_out() {
        assert_eq!(size_of::<MachineContext>(), 256);
        assert_eq!(core::mem::offset_of!(MachineContext, cs), 144);
        assert_eq!(core::mem::offset_of!(MachineContext, fpu_state), 184);
        assert_eq!(core::mem::offset_of!(Frame, machine), 48);
        assert_eq!(core::mem::offset_of!(Frame, mask), 304);
        assert_eq!(size_of::<Frame>(), 440);
    }

    fn handler(flags: Flags) -> Action {
        Action {
            disposition: Disposition::Handler(1),
            flags,
            ..Action::default()
        }
    }

    #[test]
    fn the_handler_finds_the_stack_as_after_a_call() {
        let none = AlternateStack::default();
        let at = layout(none, 0x7000_1234, handler(Flags::empty()), 512).unwrap();
        assert_eq!(at.frame % 16, 8);
        assert_eq!(at.fpu % 64, 0);
        assert!(at.fpu + 512 <= 0x7000_1234 - RED_ZONE);
    }

    #[test]
    fn the_alternate_stack_is_used_once_and_never_overrun() {
        let stack = AlternateStack {
            base: 0x10000,
            size: 8192,
            autodisarm: false,
        };
        let first = layout(stack, 0x7000_0000, handler(Flags::ONSTACK), 512).unwrap();
        assert!(stack.contains(first.frame));
        let nested = layout(stack, first.frame, handler(Flags::ONSTACK), 512).unwrap();
        assert!(nested.frame < first.frame);
        assert!(layout(stack, 0x10100, handler(Flags::ONSTACK), 512).is_err());
        assert!(layout(AlternateStack::default(), 16, handler(Flags::empty()), 512).is_err());
    }
}

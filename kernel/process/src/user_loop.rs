//! The life of a user thread: run, act on why it stopped, deliver signals, give way.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::Errno;
use machine::interrupt::InterruptsOff;
use machine::sync::SpinLock;
use machine::user_mode::{PageFault, UserContext, UserExit};
use memory::FaultError;

use crate::core_dump;
use crate::exit;
use crate::own::Own;
use crate::restart::Interrupted;
use crate::signal::deliver::{Flow, deliver};
use crate::signal::{SigInfo, Signal, code, send};
use crate::task::thread::{FaultRecord, Thread};
use crate::trace;

/// What acts on a system call: `syscall::dispatch`, which is above this layer.
pub type SyscallEntry = fn(&Arc<Thread>, &mut Own, &mut UserContext) -> Option<Interrupted>;

static SYSCALL_ENTRY: SpinLock<Option<SyscallEntry>> = SpinLock::new(None);

/// Names what acts on system calls. Once, before the first user thread.
pub fn set_syscall_entry(entry: SyscallEntry) {
    *SYSCALL_ENTRY.lock() = Some(entry);
}

fn no_syscalls(_: &Arc<Thread>, _: &mut Own, user: &mut UserContext) -> Option<Interrupted> {
    user.regs.rax = Errno::ENOSYS.to_return_value();
    None
}

/// Runs a user thread from `user` on to its end. The kernel thread returns right after.
pub(crate) fn run(thread: &Arc<Thread>, mut user: UserContext, mut own: Own) {
    let entry = SYSCALL_ENTRY.lock().unwrap_or(no_syscalls);
    let kernel = sched::thread::current();
    loop {
        // What a handler lets go of from here on is dropped next time.
        sched::thread::drop_leavings();
        let off = InterruptsOff::new();
        sched::thread::reschedule_if_needed();
        if thread.needs_attention() {
            drop(off);
            if deliver(thread, &mut user, None) == Flow::Exit {
                break;
            }
            continue;
        }
        // With interrupts off since the look: a signal sent from now on interrupts user code.
        kernel.enter_user();
        let stopped = user.run();
        drop(off);
        kernel.leave_user();
        let interrupted = match stopped {
            UserExit::Syscall if thread.is_call_traced() => {
                trace::around_call(thread, &mut own, &mut user, entry)
            }
            UserExit::Syscall => entry(thread, &mut own, &mut user),
            UserExit::PageFault(fault) => {
                page_fault(thread, &fault);
                None
            }
            UserExit::Exception { vector, error_code } => {
                exception(thread, &mut user, vector, error_code);
                None
            }
            UserExit::Interrupt => None,
        };
        if interrupted.is_some() && deliver(thread, &mut user, interrupted) == Flow::Exit {
            break;
        }
    }
    core_dump::join(thread, &mut user);
    trace::exit_stop(thread, &mut user);
    exit::finish(thread, Some(own));
}

fn page_fault(thread: &Arc<Thread>, fault: &PageFault) {
    let Some(memory) = thread.process().memory() else {
        return;
    };
    thread.minor_faults.fetch_add(1, Ordering::Relaxed);
    let error = match memory.handle_fault(fault) {
        Ok(()) => return memory::pressure::heed_high(),
        Err(error) => error,
    };
    *thread.fault.lock() = FaultRecord {
        error_code: error_code_of(fault),
        vector: 14,
        addr: fault.addr.0,
    };
    let info = match error {
        FaultError::MapErr => SigInfo::fault(Signal::SEGV, code::SEGV_MAPERR, fault.addr.0),
        FaultError::AccErr => SigInfo::fault(Signal::SEGV, code::SEGV_ACCERR, fault.addr.0),
        FaultError::Bus => SigInfo::fault(Signal::BUS, code::BUS_ADRERR, fault.addr.0),
        // Somebody died, perhaps this process: if not, the access faults again.
        FaultError::OutOfMemory => return,
    };
    send::force(thread, &info);
}

fn error_code_of(fault: &PageFault) -> u64 {
    const USER: u64 = 4;
    u64::from(fault.present) | u64::from(fault.write) << 1 | USER | u64::from(fault.exec) << 4
}

fn exception(thread: &Arc<Thread>, user: &mut UserContext, vector: u8, error_code: u32) {
    if vector == DEBUG {
        return debug_exception(thread, user, error_code);
    }
    *thread.fault.lock() = FaultRecord {
        error_code: u64::from(error_code),
        vector: u64::from(vector),
        addr: 0,
    };
    let mut info = signal_for(vector, user.regs.rip);
    if matches!(vector, X87_ERROR | SIMD_ERROR) {
        info.code = float_code(vector, user.fpu_bytes());
    }
    send::force(thread, &info);
}

/// A step or a breakpoint; `status` is what DR6 says.
fn debug_exception(thread: &Arc<Thread>, user: &mut UserContext, status: u32) {
    const BREAKPOINTS: u32 = 0xf;
    const STEP: u32 = 1 << 14;
    if !trace::debug_exception(thread, user, status) {
        return;
    }
    *thread.fault.lock() = FaultRecord {
        error_code: 0,
        vector: DEBUG.into(),
        addr: 0,
    };
    let code = if status & STEP != 0 {
        code::TRAP_TRACE
    } else if status & BREAKPOINTS != 0 {
        code::TRAP_HWBKPT
    } else {
        code::TRAP_BRKPT
    };
    send::force(thread, &SigInfo::fault(Signal::TRAP, code, user.regs.rip));
}

const DEBUG: u8 = 1;
const X87_ERROR: u8 = 16;
const SIMD_ERROR: u8 = 19;

/// Which floating-point exception it was: the first of those that happened and are not masked, as the
/// status and control words in an FXSAVE image say.
fn float_code(vector: u8, image: &[u8]) -> i32 {
    let word = |at: usize| {
        image
            .get(at..at + 2)
            .map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    let raised = if vector == X87_ERROR {
        let (control, status) = (word(0), word(2));
        status & !control
    } else {
        let mxcsr = word(24);
        mxcsr & !(mxcsr >> 7)
    };
    // Denormals count as underflow.
    let codes = [
        (0x01, code::FPE_FLTINV),
        (0x04, code::FPE_FLTDIV),
        (0x08, code::FPE_FLTOVF),
        (0x12, code::FPE_FLTUND),
        (0x20, code::FPE_FLTRES),
    ];
    let found = codes.iter().find(|(bits, _)| raised & bits != 0);
    found.map_or(code::FPE_FLTINV, |(_, code)| *code)
}

/// The signal for an exception, by vector, as Linux maps them.
fn signal_for(vector: u8, rip: u64) -> SigInfo {
    let by_kernel = |signal| SigInfo::fault(signal, code::SI_KERNEL, 0);
    match vector {
        0 => SigInfo::fault(Signal::FPE, code::FPE_INTDIV, rip),
        3 => by_kernel(Signal::TRAP),
        6 => SigInfo::fault(Signal::ILL, code::ILL_ILLOPN, rip),
        11 | 12 => by_kernel(Signal::BUS),
        X87_ERROR | SIMD_ERROR => SigInfo::fault(Signal::FPE, code::FPE_FLTINV, rip),
        17 => SigInfo::fault(Signal::BUS, code::BUS_ADRALN, 0),
        _ => by_kernel(Signal::SEGV),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_point_exceptions_are_told_apart() {
        let mut image = [0; 512];
        // x87: division by zero and inexact happened, only the latter is masked.
        image[0] = 0x7b;
        image[2] = 0x24;
        assert_eq!(float_code(X87_ERROR, &image), code::FPE_FLTDIV);
        for (bit, expected) in [
            (0, code::FPE_FLTINV),
            (1, code::FPE_FLTUND),
            (2, code::FPE_FLTDIV),
            (3, code::FPE_FLTOVF),
            (4, code::FPE_FLTUND),
            (5, code::FPE_FLTRES),
        ] {
            // All happened, one is not masked.
            let mxcsr: u16 = 0x3f | 0x1f80 & !(0x80 << bit);
            image[24..26].copy_from_slice(&mxcsr.to_le_bytes());
            assert_eq!(float_code(SIMD_ERROR, &image), expected);
        }
    }
}

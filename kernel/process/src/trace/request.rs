//! What a tracer asks of a thread that is stopped for it.
//!
//! Only the tracer ends such a stop, beside a fatal signal, which leaves what is looked at here in place: so a request
//! looks whether the thread is stopped, and needs no lock while it copies.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
use machine::user_mode::DebugRegisters;

use super::Event;
use crate::signal::{SigInfo, Signal, SignalSet, send, state, stop};
use crate::task::thread::Thread;
use crate::task::traced::{Saved, TraceFlags, TraceOptions, Traced};

/// How a thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// PTRACE_CONT.
    Freely,
    /// PTRACE_SYSCALL: to the next system call, or the end of this one.
    ToCall,
    /// PTRACE_SINGLESTEP.
    OneInstruction,
    /// PTRACE_SYSEMU: to the next system call, which is not made.
    InsteadOfCall,
    /// PTRACE_SYSEMU_SINGLESTEP.
    OneInstructionInsteadOfCall,
}

impl How {
    fn flags(self) -> TraceFlags {
        match self {
            How::Freely => TraceFlags::empty(),
            How::ToCall => TraceFlags::SYSCALL,
            How::OneInstruction => TraceFlags::STEP,
            How::InsteadOfCall => TraceFlags::EMULATE,
            How::OneInstructionInsteadOfCall => TraceFlags::EMULATE | TraceFlags::STEP,
        }
    }
}

/// What `target` has, if `tracer` traces it.
///
/// # Errors
/// `ESRCH`.
fn traced_by(tracer: &Thread, target: &Thread) -> Result<Arc<Traced>> {
    let traced = target.traced().ok_or(Errno::ESRCH)?;
    if core::ptr::eq(Arc::as_ptr(&traced.tracer), tracer) {
        Ok(traced)
    } else {
        Err(Errno::ESRCH)
    }
}

/// What `target` has, if it is stopped for `tracer`.
///
/// # Errors
/// `ESRCH`.
pub(super) fn stopped(tracer: &Thread, target: &Thread) -> Result<Arc<Traced>> {
    let traced = traced_by(tracer, target)?;
    let state = traced.state.lock();
    let is_stopped = state.stop.is_some() && !state.is_listening;
    drop(state);
    if is_stopped {
        Ok(traced)
    } else {
        Err(Errno::ESRCH)
    }
}

/// Whether `target` is stopped for `tracer`: its memory may be looked into.
///
/// # Errors
/// `ESRCH`.
pub fn check_stopped(tracer: &Thread, target: &Thread) -> Result<()> {
    stopped(tracer, target).map(drop)
}

/// Calls `act` with the registers of a stopped thread; under a spin lock.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`, and what `act` says.
pub fn with_registers<R>(
    tracer: &Thread,
    target: &Thread,
    act: impl FnOnce(&mut Saved) -> Result<R>,
) -> Result<R> {
    let traced = stopped(tracer, target)?;
    act(&mut traced.state.lock().saved)
}

/// Has a stopped thread go on, with `signal`.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`.
pub fn resume(tracer: &Thread, target: &Thread, how: How, signal: Option<Signal>) -> Result<()> {
    let traced = stopped(tracer, target)?;
    {
        let _state = target.process().signals.lock();
        let how_before = TraceFlags::SYSCALL | TraceFlags::EMULATE | TraceFlags::STEP;
        target.clear_trace_flags(how_before);
        target.add_trace_flags(how.flags());
    }
    if traced.resume(|_| signal) {
        Ok(())
    } else {
        // A fatal signal came in between.
        Err(Errno::ESRCH)
    }
}

/// PTRACE_KILL.
///
/// # Errors
/// `ESRCH` unless `tracer` traces it.
pub fn kill(tracer: &Thread, target: &Thread) -> Result<()> {
    traced_by(tracer, target)?;
    send::to_process(target.process(), &SigInfo::kernel(Signal::KILL))
}

/// PTRACE_INTERRUPT: a seized thread is to stop.
///
/// # Errors
/// `ESRCH` unless `tracer` traces it, `EIO` unless it is seized.
pub fn interrupt(tracer: &Thread, target: &Thread) -> Result<()> {
    traced_by(tracer, target)?;
    let _state = target.process().signals.lock();
    if !target.trace_flags().contains(TraceFlags::SEIZED) {
        return Err(Errno::EIO);
    }
    stop::request_trap(target, TraceFlags::TRAP);
    Ok(())
}

/// PTRACE_LISTEN: a seized thread stays in its group-stop, and says when that ends.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`, `EIO` unless that is a stop of a seized thread's.
pub fn listen(tracer: &Thread, target: &Thread) -> Result<()> {
    let traced = stopped(tracer, target)?;
    let _signals = target.process().signals.lock();
    let flags = target.trace_flags();
    let mut state = traced.state.lock();
    let is_fitting = |stop: &crate::task::traced::Stop| stop.code >> 8 == Event::Stop as i32;
    if !flags.contains(TraceFlags::SEIZED) || !state.stop.as_ref().is_some_and(is_fitting) {
        return Err(Errno::EIO);
    }
    state.is_listening = true;
    drop(state);
    if flags.contains(TraceFlags::NOTIFY) {
        // It has changed since the thread stopped.
        traced.resume(|_| None);
    }
    Ok(())
}

/// PTRACE_SETOPTIONS.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`.
pub fn set_options(tracer: &Thread, target: &Thread, options: TraceOptions) -> Result<()> {
    stopped(tracer, target)?.set_options(options);
    Ok(())
}

/// PTRACE_GETEVENTMSG.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`.
pub fn event_message(tracer: &Thread, target: &Thread) -> Result<u64> {
    let traced = stopped(tracer, target)?;
    let message = traced.state.lock().message;
    Ok(message)
}

/// PTRACE_GETSIGINFO.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`, `EINVAL` in a group-stop.
pub fn info(tracer: &Thread, target: &Thread) -> Result<SigInfo> {
    let traced = stopped(tracer, target)?;
    let stop = traced.state.lock().stop;
    stop.ok_or(Errno::ESRCH)?.info.ok_or(Errno::EINVAL)
}

/// PTRACE_SETSIGINFO.
///
/// # Errors
/// As [`info`].
pub fn set_info(tracer: &Thread, target: &Thread, info: SigInfo) -> Result<()> {
    let traced = stopped(tracer, target)?;
    let mut state = traced.state.lock();
    let stop = state.stop.as_mut().ok_or(Errno::ESRCH)?;
    *stop.info.as_mut().ok_or(Errno::EINVAL)? = info;
    Ok(())
}

/// PTRACE_PEEKSIGINFO: the `index`-th signal that is pending for the thread, or for its process.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`.
pub fn pending_info(
    tracer: &Thread,
    target: &Thread,
    is_shared: bool,
    index: usize,
) -> Result<Option<SigInfo>> {
    stopped(tracer, target)?;
    let state = target.process().signals.lock();
    let found = if is_shared {
        state.shared.nth(index)
    } else {
        target.private.lock().nth(index)
    };
    Ok(found)
}

/// PTRACE_GETSIGMASK.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`.
pub fn mask(tracer: &Thread, target: &Thread) -> Result<SignalSet> {
    stopped(tracer, target)?;
    let saved = *target.saved_mask.lock();
    Ok(saved.unwrap_or_else(|| target.blocked()))
}

/// PTRACE_SETSIGMASK.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`.
pub fn set_mask(tracer: &Thread, target: &Thread, mask: SignalSet) -> Result<()> {
    stopped(tracer, target)?;
    *target.saved_mask.lock() = None;
    state::set_mask(target, mask);
    Ok(())
}

/// Reads the word at `addr` of the stopped thread's memory, whatever its protection.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`, `EIO` where nothing is mapped.
pub fn read_word(tracer: &Thread, target: &Thread, addr: UserAddr) -> Result<u64> {
    check_stopped(tracer, target)?;
    let memory = target.process().memory().ok_or(Errno::EIO)?;
    let mut word = [0; 8];
    if memory.read_at(addr, &mut word, true) == word.len() {
        Ok(u64::from_le_bytes(word))
    } else {
        Err(Errno::EIO)
    }
}

/// Writes a word to the stopped thread's memory: into a copy of its own where it may not write itself.
///
/// # Errors
/// As [`read_word`].
pub fn write_word(tracer: &Thread, target: &Thread, addr: UserAddr, word: u64) -> Result<()> {
    check_stopped(tracer, target)?;
    let memory = target.process().memory().ok_or(Errno::EIO)?;
    let word = word.to_le_bytes();
    if memory.write_at(addr, &word, true) == word.len() {
        Ok(())
    } else {
        Err(Errno::EIO)
    }
}

/// Debug register `index` of a stopped thread (0 to 7).
#[must_use]
pub fn debug_register(saved: &Saved, index: usize) -> u64 {
    match index {
        0..4 => saved.debug.addresses()[index],
        6 => saved.debug_status,
        7 => saved.debug.control(),
        _ => 0,
    }
}

/// Sets debug register `index` of a stopped thread.
///
/// # Errors
/// `EIO` for 4 and 5, which are not there, `EINVAL` for breakpoints that are none.
pub fn set_debug_register(saved: &mut Saved, index: usize, value: u64) -> Result<()> {
    let mut addresses = saved.debug.addresses();
    let control = match index {
        0..4 => {
            addresses[index] = value;
            saved.debug.control()
        }
        6 => {
            saved.debug_status = value;
            return Ok(());
        }
        7 => value,
        _ => return Err(Errno::EIO),
    };
    saved.debug = DebugRegisters::new(addresses, control).ok_or(Errno::EINVAL)?;
    Ok(())
}

/// The FPU state of a stopped thread, as [`machine::user_mode::UserContext::fpu_bytes`] lays it out.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`, `ENOMEM`.
pub fn fpu_state(tracer: &Thread, target: &Thread) -> Result<Vec<u8>> {
    let traced = stopped(tracer, target)?;
    // The copy is made without a lock that others wait for.
    let mut copy = Vec::new();
    copy.try_reserve(4096)?;
    let state = traced.state.lock();
    copy.try_extend_from_slice(&state.saved.fpu)?;
    if copy.is_empty() {
        Err(Errno::ENOMEM)
    } else {
        Ok(copy)
    }
}

/// Replaces that.
///
/// # Errors
/// `ESRCH` unless it is stopped for `tracer`, `EINVAL` for a state that the CPU would not load, `ENOMEM`.
pub fn set_fpu_state(tracer: &Thread, target: &Thread, bytes: &[u8]) -> Result<()> {
    let traced = stopped(tracer, target)?;
    let mut probe = machine::user_mode::UserContext::new()?;
    probe.set_fpu_bytes(bytes).ok_or(Errno::EINVAL)?;
    let copy = Vec::try_from_slice(probe.fpu_bytes())?;
    let mut state = traced.state.lock();
    state.saved.is_fpu_changed = true;
    let old = core::mem::replace(&mut state.saved.fpu, copy);
    drop(state);
    drop(old);
    Ok(())
}

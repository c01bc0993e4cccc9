//! ptrace(2): the requests, decoded. What they do is in [`process::trace`].

mod registers;
mod signals;

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::UserAddr;
use process::signal::Signal;
use process::task::thread::Thread;
use process::trace::request::{self, How};
use process::trace::{self, Attach, TraceOptions};

use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(101, "ptrace", sys_ptrace),
    // As with `perf_event_paranoid` at its strictest: nobody may count events.
    Entry::new(298, "perf_event_open", |_| Err(Errno::EACCES)),
];

/// `PTRACE_*`.
mod op {
    pub(super) const TRACEME: u64 = 0;
    pub(super) const PEEKTEXT: u64 = 1;
    pub(super) const PEEKDATA: u64 = 2;
    pub(super) const PEEKUSER: u64 = 3;
    pub(super) const POKETEXT: u64 = 4;
    pub(super) const POKEDATA: u64 = 5;
    pub(super) const POKEUSER: u64 = 6;
    pub(super) const CONT: u64 = 7;
    pub(super) const KILL: u64 = 8;
    pub(super) const SINGLESTEP: u64 = 9;
    pub(super) const GETREGS: u64 = 12;
    pub(super) const SETREGS: u64 = 13;
    pub(super) const GETFPREGS: u64 = 14;
    pub(super) const SETFPREGS: u64 = 15;
    pub(super) const ATTACH: u64 = 16;
    pub(super) const DETACH: u64 = 17;
    pub(super) const OLDSETOPTIONS: u64 = 21;
    pub(super) const SYSCALL: u64 = 24;
    pub(super) const ARCH_PRCTL: u64 = 30;
    pub(super) const SYSEMU: u64 = 31;
    pub(super) const SYSEMU_SINGLESTEP: u64 = 32;
    pub(super) const SETOPTIONS: u64 = 0x4200;
    pub(super) const GETEVENTMSG: u64 = 0x4201;
    pub(super) const GETSIGINFO: u64 = 0x4202;
    pub(super) const SETSIGINFO: u64 = 0x4203;
    pub(super) const GETREGSET: u64 = 0x4204;
    pub(super) const SETREGSET: u64 = 0x4205;
    pub(super) const SEIZE: u64 = 0x4206;
    pub(super) const INTERRUPT: u64 = 0x4207;
    pub(super) const LISTEN: u64 = 0x4208;
    pub(super) const PEEKSIGINFO: u64 = 0x4209;
    pub(super) const GETSIGMASK: u64 = 0x420a;
    pub(super) const SETSIGMASK: u64 = 0x420b;
    pub(super) const GET_SYSCALL_INFO: u64 = 0x420e;
}

/// A request about a thread: its arguments are those of the call.
struct Request<'a> {
    tracer: &'a Arc<Thread>,
    target: &'a Arc<Thread>,
    addr: u64,
    data: u64,
}

impl Request<'_> {
    /// `data` as an address of the caller's.
    fn place(&self) -> UserAddr {
        UserAddr(self.data)
    }

    /// `data` as a signal to go on with.
    fn signal(&self) -> Result<Option<Signal>> {
        match i32::try_from(self.data) {
            Ok(0) => Ok(None),
            Ok(number) => Signal::new(number).map(Some).map_err(|_| Errno::EIO),
            Err(_) => Err(Errno::EIO),
        }
    }
}

fn sys_ptrace(cx: &mut Context<'_>) -> Result<u64> {
    let operation = cx.arg(0);
    if operation == op::TRACEME {
        return trace::trace_me(cx.thread).map(|()| 0);
    }
    let target = cx.find_thread(cx.int(1)).ok_or(Errno::ESRCH)?;
    let request = Request {
        tracer: cx.thread,
        target: &target,
        addr: cx.arg(2),
        data: cx.arg(3),
    };
    match operation {
        op::ATTACH => trace::attach(cx.thread, &target, Attach::Stopping).map(|()| 0),
        op::SEIZE => seize(&request),
        op::KILL => request::kill(cx.thread, &target).map(|()| 0),
        op::INTERRUPT => request::interrupt(cx.thread, &target).map(|()| 0),
        _ => {
            request::check_stopped(cx.thread, &target)?;
            of_stopped(operation, &request)
        }
    }
}

fn seize(request: &Request<'_>) -> Result<u64> {
    if request.addr != 0 {
        return Err(Errno::EIO);
    }
    let options = options(request.data).map_err(|_| Errno::EIO)?;
    trace::attach(request.tracer, request.target, Attach::Seizing(options)).map(|()| 0)
}

fn options(data: u64) -> Result<TraceOptions> {
    let bits = u32::try_from(data).map_err(|_| Errno::EINVAL)?;
    TraceOptions::from_bits(bits).ok_or(Errno::EINVAL)
}

/// Requests about a thread that is stopped for the caller.
fn of_stopped(operation: u64, request: &Request<'_>) -> Result<u64> {
    let (tracer, target) = (request.tracer, request.target);
    match operation {
        op::PEEKTEXT | op::PEEKDATA => {
            let word = request::read_word(tracer, target, UserAddr(request.addr))?;
            memory::user::write(request.place(), &word)?;
        }
        op::POKETEXT | op::POKEDATA => {
            request::write_word(tracer, target, UserAddr(request.addr), request.data)?;
        }
        op::PEEKUSER => registers::peek_user(request)?,
        op::POKEUSER => registers::poke_user(request)?,
        op::CONT => go_on(request, How::Freely)?,
        op::SYSCALL => go_on(request, How::ToCall)?,
        op::SINGLESTEP => go_on(request, How::OneInstruction)?,
        op::SYSEMU => go_on(request, How::InsteadOfCall)?,
        op::SYSEMU_SINGLESTEP => go_on(request, How::OneInstructionInsteadOfCall)?,
        op::DETACH => trace::detach(tracer, target, request.signal()?)?,
        op::GETREGS => registers::get_all(request)?,
        op::SETREGS => registers::set_all(request)?,
        op::GETFPREGS => registers::get_legacy_fpu(request)?,
        op::SETFPREGS => registers::set_legacy_fpu(request)?,
        op::GETREGSET => registers::get_set(request)?,
        op::SETREGSET => registers::set_set(request)?,
        op::ARCH_PRCTL => registers::arch_prctl(request)?,
        op::SETOPTIONS | op::OLDSETOPTIONS => {
            request::set_options(tracer, target, options(request.data)?)?;
        }
        op::GETEVENTMSG => {
            let message = request::event_message(tracer, target)?;
            memory::user::write(request.place(), &message)?;
        }
        op::LISTEN => request::listen(tracer, target)?,
        op::GETSIGINFO => signals::get_info(request)?,
        op::SETSIGINFO => signals::set_info(request)?,
        op::PEEKSIGINFO => return signals::peek_infos(request),
        op::GETSIGMASK => signals::get_mask(request)?,
        op::SETSIGMASK => signals::set_mask(request)?,
        op::GET_SYSCALL_INFO => return signals::call_info(request),
        _ => return Err(Errno::EIO),
    }
    Ok(0)
}

fn go_on(request: &Request<'_>, how: How) -> Result<()> {
    request::resume(request.tracer, request.target, how, request.signal()?)
}

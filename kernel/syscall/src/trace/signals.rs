//! Requests of ptrace(2) about why a thread is stopped and which signals wait for it.

use abi::{Errno, Result};
use process::signal::{SIGINFO_SIZE, SigInfo, Signal, SignalSet};
use process::trace::registers;
use process::trace::request;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Request;

pub(super) fn get_info(request: &Request<'_>) -> Result<()> {
    let info = request::info(request.tracer, request.target)?;
    memory::user::write_bytes(request.place(), &info.to_bytes())
}

pub(super) fn set_info(request: &Request<'_>) -> Result<()> {
    let mut bytes = [0; SIGINFO_SIZE];
    memory::user::read_bytes(request.place(), &mut bytes)?;
    let number = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let signal = Signal::new(number)?;
    let info = SigInfo::from_bytes(signal, &bytes);
    request::set_info(request.tracer, request.target, info)
}

/// `struct ptrace_peeksiginfo_args`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PeekArgs {
    offset: u64,
    flags: u32,
    count: i32,
}

/// How many were copied: it stops early where the caller's memory ends.
pub(super) fn peek_infos(request: &Request<'_>) -> Result<u64> {
    const SHARED: u32 = 1;
    let args: PeekArgs = memory::user::read(machine::UserAddr(request.addr))?;
    let count = u64::try_from(args.count).map_err(|_| Errno::EINVAL)?;
    if args.flags & !SHARED != 0 {
        return Err(Errno::EINVAL);
    }
    let is_shared = args.flags & SHARED != 0;
    let mut done = 0;
    while done < count && !sched::thread::is_to_stop() {
        let Some(index) = args.offset.checked_add(done) else {
            break;
        };
        let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
        let (tracer, target) = (request.tracer, request.target);
        let Some(info) = request::pending_info(tracer, target, is_shared, index)? else {
            break;
        };
        let to = request.place().checked_add(done * SIGINFO_SIZE as u64);
        let to = to.ok_or(Errno::EFAULT)?;
        match memory::user::write_bytes(to, &info.to_bytes()) {
            Ok(()) => done += 1,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn check_mask_size(request: &Request<'_>) -> Result<()> {
    if request.addr == size_of::<u64>() as u64 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

pub(super) fn get_mask(request: &Request<'_>) -> Result<()> {
    check_mask_size(request)?;
    let mask = request::mask(request.tracer, request.target)?;
    memory::user::write(request.place(), &mask.0)
}

pub(super) fn set_mask(request: &Request<'_>) -> Result<()> {
    check_mask_size(request)?;
    let mask: u64 = memory::user::read(request.place())?;
    request::set_mask(request.tracer, request.target, SignalSet(mask))
}

/// The head of `struct ptrace_syscall_info`.
#[derive(Debug, Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
struct CallHead {
    operation: u8,
    padding: [u8; 3],
    architecture: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
}

const HEAD: usize = size_of::<CallHead>();
/// The largest kind of `struct ptrace_syscall_info`: the head, a number, six arguments, a filter's word.
const CALL_INFO_SIZE: usize = HEAD + 8 * 8;

/// PTRACE_GET_SYSCALL_INFO: as much as `addr` bytes; how much there is.
pub(super) fn call_info(request: &Request<'_>) -> Result<u64> {
    const ARCHITECTURE: u32 = 0xc000_003e;
    const IS_SYSCALL_STOP: i32 = 5 | 0x80;
    const IS_SECCOMP_STOP: i32 = 5 | 7 << 8;
    const NONE: u8 = 0;
    const ENTRY: u8 = 1;
    const EXIT: u8 = 2;
    const SECCOMP: u8 = 3;
    let (tracer, target) = (request.tracer, request.target);
    let code = request::info(tracer, target).map_or(0, |info| info.code);
    let message = request::event_message(tracer, target)?;
    let operation = match (code, message) {
        (IS_SYSCALL_STOP, 1) => ENTRY,
        (IS_SYSCALL_STOP, 2) => EXIT,
        (IS_SECCOMP_STOP, _) => SECCOMP,
        _ => NONE,
    };
    let words = request::with_registers(tracer, target, |saved| Ok(registers::all(saved)))?;
    let word = |index: usize| words[index];
    let head = CallHead {
        operation,
        architecture: ARCHITECTURE,
        instruction_pointer: word(16),
        stack_pointer: word(19),
        ..CallHead::default()
    };
    let mut bytes = [0; CALL_INFO_SIZE];
    bytes[..HEAD].copy_from_slice(head.as_bytes());
    let len = match operation {
        ENTRY | SECCOMP => {
            // orig_rax, rdi, rsi, rdx, r10, r8, r9.
            let call = [15, 14, 13, 12, 7, 9, 8].map(word);
            bytes[HEAD..HEAD + 56].copy_from_slice(call.as_bytes());
            if operation == SECCOMP {
                let data = u32::try_from(message).unwrap_or(0);
                bytes[HEAD + 56..HEAD + 60].copy_from_slice(data.as_bytes());
                HEAD + 60
            } else {
                HEAD + 56
            }
        }
        EXIT => {
            let value = word(10);
            bytes[HEAD..HEAD + 8].copy_from_slice(value.as_bytes());
            bytes[HEAD + 8] = u8::from(value > u64::MAX - 4095);
            HEAD + 9
        }
        _ => HEAD,
    };
    let wanted = usize::try_from(request.addr).unwrap_or(len).min(len);
    memory::user::write_bytes(request.place(), &bytes[..wanted])?;
    Ok(len as u64)
}

//! Requests of ptrace(2) about registers: `struct user`, register sets, the FPU state.

use abi::{Errno, Result};
use collections::Vec;
use machine::UserAddr;
use process::trace::registers::{self, WORDS};
use process::trace::request;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Request;

/// Size of `struct user`, and where it has the debug registers.
const USER_SIZE: u64 = 928;
const DEBUG_AT: u64 = 848;
const DEBUG_END: u64 = DEBUG_AT + 8 * 8;
/// Bytes of an FXSAVE image.
const FXSAVE_SIZE: usize = 512;
/// Where an XSAVE image names the parts of it that the kernel has enabled, and those that it has.
const ENABLED_AT: usize = 464;
const PRESENT_AT: usize = 512;

/// Register sets (`NT_*`).
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;

/// `struct iovec`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Area {
    base: u64,
    len: u64,
}

/// The word of `struct user` that `addr` names.
fn index_of(request: &Request<'_>) -> Result<u64> {
    if request.addr.is_multiple_of(8) && request.addr < USER_SIZE {
        Ok(request.addr / 8)
    } else {
        Err(Errno::EIO)
    }
}

/// Which debug register a word of `struct user` is.
fn debug_index(request: &Request<'_>) -> Option<usize> {
    let is_one = (DEBUG_AT..DEBUG_END).contains(&request.addr);
    let index = usize::try_from(request.addr.wrapping_sub(DEBUG_AT) / 8).ok()?;
    is_one.then_some(index)
}

pub(super) fn peek_user(request: &Request<'_>) -> Result<()> {
    let index = index_of(request)?;
    let debug = debug_index(request);
    let word = request::with_registers(request.tracer, request.target, |saved| {
        if let Some(debug) = debug {
            return Ok(request::debug_register(saved, debug));
        }
        let index = usize::try_from(index).unwrap_or(WORDS);
        Ok(registers::get(saved, index).unwrap_or(0))
    })?;
    memory::user::write(request.place(), &word)
}

pub(super) fn poke_user(request: &Request<'_>) -> Result<()> {
    let index = index_of(request)?;
    let debug = debug_index(request);
    request::with_registers(request.tracer, request.target, |saved| match debug {
        Some(debug) => request::set_debug_register(saved, debug, request.data),
        None => {
            let index = usize::try_from(index).unwrap_or(WORDS);
            registers::set(saved, index, request.data)
        }
    })
}

fn words(request: &Request<'_>) -> Result<[u64; WORDS]> {
    request::with_registers(request.tracer, request.target, |saved| {
        Ok(registers::all(saved))
    })
}

fn set_words(request: &Request<'_>, words: &[u64]) -> Result<()> {
    request::with_registers(request.tracer, request.target, |saved| {
        let mut all = words.iter().enumerate();
        all.try_for_each(|(index, word)| registers::set(saved, index, *word))
    })
}

pub(super) fn get_all(request: &Request<'_>) -> Result<()> {
    memory::user::write(request.place(), &words(request)?)
}

pub(super) fn set_all(request: &Request<'_>) -> Result<()> {
    let words: [u64; WORDS] = memory::user::read(request.place())?;
    set_words(request, &words)
}

fn fpu(request: &Request<'_>) -> Result<Vec<u8>> {
    request::fpu_state(request.tracer, request.target)
}

pub(super) fn get_legacy_fpu(request: &Request<'_>) -> Result<()> {
    let state = fpu(request)?;
    memory::user::write_bytes(request.place(), &state[..FXSAVE_SIZE.min(state.len())])
}

pub(super) fn set_legacy_fpu(request: &Request<'_>) -> Result<()> {
    let mut image = [0; FXSAVE_SIZE];
    memory::user::read_bytes(request.place(), &mut image)?;
    write_legacy(request, &image)
}

/// Replaces the part of the FPU state that FXSAVE has.
fn write_legacy(request: &Request<'_>, image: &[u8]) -> Result<()> {
    let mut state = fpu(request)?;
    state[..image.len()].copy_from_slice(image);
    if let Some(present) = state.get_mut(PRESENT_AT) {
        // x87 and SSE are there.
        *present |= 3;
    }
    request::set_fpu_state(request.tracer, request.target, &state)
}

/// The FPU state as PTRACE_GETREGSET shows it: with the parts that are enabled where debuggers look for them.
fn extended(request: &Request<'_>) -> Result<Vec<u8>> {
    let enabled = machine::user_mode::xstate_features();
    if enabled == 0 {
        return Err(Errno::ENODEV);
    }
    let mut state = fpu(request)?;
    state[ENABLED_AT..ENABLED_AT + 48].fill(0);
    state[ENABLED_AT..ENABLED_AT + 8].copy_from_slice(&enabled.to_le_bytes());
    Ok(state)
}

/// The area that `data` leads to, for a set whose elements have eight bytes.
fn area(request: &Request<'_>) -> Result<(Area, usize)> {
    let area: Area = memory::user::read(request.place())?;
    let is_known = matches!(request.addr, NT_PRSTATUS | NT_PRFPREG | NT_X86_XSTATE);
    if !is_known || !area.len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let len = usize::try_from(area.len).map_err(|_| Errno::EINVAL)?;
    Ok((area, len))
}

/// Tells how much of the area was used.
fn set_len(request: &Request<'_>, len: usize) -> Result<()> {
    let at = request.place().checked_add(8).ok_or(Errno::EFAULT)?;
    memory::user::write(at, &(len as u64))
}

pub(super) fn get_set(request: &Request<'_>) -> Result<()> {
    let (area, len) = area(request)?;
    let to = UserAddr(area.base);
    let write = |bytes: &[u8]| {
        let part = &bytes[..len.min(bytes.len())];
        memory::user::write_bytes(to, part).map(|()| part.len())
    };
    let written = match request.addr {
        NT_PRSTATUS => write(words(request)?.as_bytes())?,
        NT_PRFPREG => {
            let state = fpu(request)?;
            write(&state[..FXSAVE_SIZE.min(state.len())])?
        }
        _ => write(&extended(request)?)?,
    };
    set_len(request, written)
}

pub(super) fn set_set(request: &Request<'_>) -> Result<()> {
    let (area, len) = area(request)?;
    let from = UserAddr(area.base);
    let len = match request.addr {
        NT_PRSTATUS => {
            let mut words = [0_u64; WORDS];
            let count = (len / 8).min(WORDS);
            memory::user::read_bytes(from, words[..count].as_mut_bytes())?;
            set_words(request, &words[..count])?;
            count * 8
        }
        NT_PRFPREG => {
            let mut image = [0; FXSAVE_SIZE];
            let len = len.min(FXSAVE_SIZE);
            let old = fpu(request)?;
            image.copy_from_slice(old.get(..FXSAVE_SIZE).ok_or(Errno::EIO)?);
            memory::user::read_bytes(from, &mut image[..len])?;
            write_legacy(request, &image)?;
            len
        }
        _ => {
            let mut state = extended(request)?;
            // All of it, or nothing.
            if len < state.len() {
                return Err(Errno::EFAULT);
            }
            memory::user::read_bytes(from, &mut state)?;
            request::set_fpu_state(request.tracer, request.target, &state)?;
            state.len()
        }
    };
    set_len(request, len)
}

/// PTRACE_ARCH_PRCTL: `data` is the operation of arch_prctl(2), `addr` its argument.
pub(super) fn arch_prctl(request: &Request<'_>) -> Result<()> {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    const FS_BASE: usize = 21;
    const GS_BASE: usize = 22;
    let (index, is_set) = match request.data {
        SET_GS => (GS_BASE, true),
        SET_FS => (FS_BASE, true),
        GET_FS => (FS_BASE, false),
        GET_GS => (GS_BASE, false),
        _ => return Err(Errno::EINVAL),
    };
    let word = request::with_registers(request.tracer, request.target, |saved| {
        if is_set {
            registers::set(saved, index, request.addr).map_err(|_| Errno::EPERM)?;
        }
        Ok(registers::get(saved, index).unwrap_or(0))
    })?;
    if is_set {
        return Ok(());
    }
    memory::user::write(UserAddr(request.addr), &word)
}

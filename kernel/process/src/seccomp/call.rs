//! [`CallData`]: a system call as a filter sees it.

use bpf::Source;
use machine::user_mode::UserContext;
use zerocopy::{Immutable, IntoBytes};

/// `AUDIT_ARCH_X86_64`: the only kind of system call there is here.
pub(super) const ARCHITECTURE: u32 = 0xc000_003e;

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct CallData {
    /// Which call.
    pub number: u32,
    /// By which convention.
    pub architecture: u32,
    /// The address behind the instruction that made it.
    pub instruction_pointer: u64,
    /// What it was given.
    pub arguments: [u64; 6],
}

impl CallData {
    /// The call that the registers of `user` ask for.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the number of a call is the lower half"
    )]
    pub fn of(user: &UserContext) -> Self {
        let regs = &user.regs;
        Self {
            number: regs.rax as u32,
            architecture: ARCHITECTURE,
            instruction_pointer: regs.rip,
            arguments: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9],
        }
    }
}

fn word_of(bytes: &[u8], at: u32) -> Option<u32> {
    let word = bytes.get(at as usize..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

/// Filters of calls read words, in the machine's order; nothing else passes the check.
impl Source for CallData {
    fn word(&self, at: u32) -> Option<u32> {
        word_of(self.as_bytes(), at)
    }

    fn half(&self, _at: u32) -> Option<u16> {
        None
    }

    fn byte(&self, _at: u32) -> Option<u8> {
        None
    }

    fn len(&self) -> u32 {
        64
    }
}

/// What is the same of all calls with a number: a program that asks for more has no verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberOnly(pub(super) u32);

impl Source for NumberOnly {
    fn word(&self, at: u32) -> Option<u32> {
        match at {
            0 => Some(self.0),
            4 => Some(ARCHITECTURE),
            _ => None,
        }
    }

    fn half(&self, _at: u32) -> Option<u16> {
        None
    }

    fn byte(&self, _at: u32) -> Option<u8> {
        None
    }

    fn len(&self) -> u32 {
        64
    }
}

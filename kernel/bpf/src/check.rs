//! What a program has to be before it may run, as Linux checks it (`bpf_check_classic`, `seccomp_check_filter`).

use abi::{Errno, Result};
use collections::Vec;

use crate::instruction::{Instruction, code};
use crate::program::{ANCILLARY, translate};

/// The most instructions that a program has (`BPF_MAXINSNS`).
pub const MOST_INSTRUCTIONS: usize = 4096;
/// Words of memory that a program has (`BPF_MEMWORDS`).
pub(crate) const SLOTS: usize = 16;
/// Bytes of `struct seccomp_data`.
pub(crate) const SYSTEM_CALL_LEN: u32 = 64;

/// What a program decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A system call: `struct seccomp_data`, whose words it reads at their offsets.
    SystemCalls,
    /// A packet, in network order.
    Packets,
}

/// Whether the program may run.
pub(crate) fn check(program: &[Instruction], what: Use) -> Result<()> {
    if program.is_empty() || program.len() > MOST_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    for (at, instruction) in program.iter().enumerate() {
        // A code that is none, or a slot that is not there.
        translate(*instruction, what)?;
        let is_ok = operand_is_right(*instruction)
            && stays_inside(*instruction, program.len() - at - 1)
            && match what {
                Use::SystemCalls => may_decide_calls(*instruction),
                Use::Packets => may_read_packets(*instruction),
            };
        if !is_ok {
            return Err(Errno::EINVAL);
        }
    }
    let last = program.last().map_or(0, |last| last.code);
    if last != code::RET | code::K && last != code::RET | code::A {
        return Err(Errno::EINVAL);
    }
    reads_what_it_wrote(program)
}

fn operand_is_right(instruction: Instruction) -> bool {
    use code::{ALU, DIV, K, LSH, MOD, RSH};
    let k = instruction.k;
    match instruction.code {
        c if c == ALU | DIV | K || c == ALU | MOD | K => k != 0,
        c if c == ALU | LSH | K || c == ALU | RSH | K => k < 32,
        _ => true,
    }
}

/// Whether a jump lands on one of the `left` instructions behind it.
fn stays_inside(instruction: Instruction, left: usize) -> bool {
    let Instruction { code, jt, jf, k } = instruction;
    if code & 7 != code::JMP {
        return true;
    }
    if code == code::JMP | code::JA {
        return (k as usize) < left;
    }
    usize::from(jt.max(jf)) < left
}

fn may_decide_calls(instruction: Instruction) -> bool {
    use code::{ABS, ALU, B, H, IND, LD, LDX, MOD, MSH, W};
    let Instruction { code, k, .. } = instruction;
    if code == LD | W | ABS {
        return k < SYSTEM_CALL_LEN && k.is_multiple_of(4);
    }
    let reads = [
        LD | H | ABS,
        LD | B | ABS,
        LD | W | IND,
        LD | H | IND,
        LD | B | IND,
        LDX | B | MSH,
    ];
    let is_remainder = code & !code::X == ALU | MOD;
    !reads.contains(&code) && !is_remainder
}

/// The offsets that mean something beside the packet on Linux (its protocol, its interface) mean nothing here yet.
fn may_read_packets(instruction: Instruction) -> bool {
    use code::{ABS, B, H, LD, W};
    let Instruction { code, k, .. } = instruction;
    let is_absolute = [LD | W | ABS, LD | H | ABS, LD | B | ABS].contains(&code);
    !is_absolute || k < ANCILLARY
}

/// Whether each slot of memory is written before it is read, on every way there.
fn reads_what_it_wrote(program: &[Instruction]) -> Result<()> {
    use code::{JA, JMP, LD, LDX, MEM, ST, STX};
    // Of each instruction: the slots that are written on all jumps to it.
    let mut on_arrival: Vec<u16> = Vec::try_from_elem(u16::MAX, program.len())?;
    let mut written = 0_u16;
    for (at, instruction) in program.iter().enumerate() {
        written &= on_arrival[at];
        let Instruction { code, jt, jf, k } = *instruction;
        let slot = 1_u16.checked_shl(k).unwrap_or(0);
        match code {
            ST | STX => written |= slot,
            c if (c == LD | MEM || c == LDX | MEM) && written & slot == 0 => {
                return Err(Errno::EINVAL);
            }
            c if c & 7 == JMP => {
                let skips = if c == JMP | JA {
                    [k as usize, k as usize]
                } else {
                    [usize::from(jt), usize::from(jf)]
                };
                for skip in skips {
                    on_arrival[at + 1 + skip] &= written;
                }
                // What follows is reached by jumps alone.
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

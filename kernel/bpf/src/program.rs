//! [`Program`]: instructions that have been checked, as dense steps.

use abi::{Errno, Result};
use collections::Vec;

use crate::check::{self, Use};
use crate::instruction::{Instruction, code};
use crate::run::Step;

/// What reads words of the input with a meaning of their own (`SKF_AD_OFF`).
pub(crate) const ANCILLARY: u32 = 0xffff_f000;

/// A program that may run.
#[derive(Debug)]
pub struct Program {
    pub(crate) steps: Vec<Step>,
}

impl Program {
    /// Checks `instructions` as Linux does for what they are for.
    ///
    /// # Errors
    /// `EINVAL` for a program that it refuses, `ENOMEM`.
    pub fn new(instructions: &[Instruction], what: Use) -> Result<Self> {
        check::check(instructions, what)?;
        let mut steps = Vec::try_with_capacity(instructions.len())?;
        for instruction in instructions {
            steps.try_push(translate(*instruction, what)?)?;
        }
        Ok(Self { steps })
    }

    /// How many instructions it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it has none, which [`Program::new`] refuses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// `EINVAL` for a code that is none. That is the one list of them: [`check`] asks here.
pub(crate) fn translate(from: Instruction, what: Use) -> Result<Step> {
    use code::{ABS, B, H, IMM, IND, LD, LDX, LEN, MEM, MSH, ST, STX, W};
    use code::{ALU, JMP, MISC, RET};
    const LD_LEN: u16 = LD | W | LEN;
    const LDX_LEN: u16 = LDX | W | LEN;
    let Instruction { code, jt, jf, k } = from;
    let step = match code {
        c if c == LD | IMM => Step::Load(k),
        c if c == LD | W | ABS => Step::LoadWord(k),
        c if c == LD | H | ABS => Step::LoadHalf(k),
        c if c == LD | B | ABS => Step::LoadByte(k),
        c if c == LD | W | IND => Step::LoadWordAtX(k),
        c if c == LD | H | IND => Step::LoadHalfAtX(k),
        c if c == LD | B | IND => Step::LoadByteAtX(k),
        c if c == LD | MEM => Step::LoadSlot(slot(k)?),
        // What a system call looks like to a filter has always the same length.
        LD_LEN if what == Use::SystemCalls => Step::Load(check::SYSTEM_CALL_LEN),
        LDX_LEN if what == Use::SystemCalls => Step::LoadX(check::SYSTEM_CALL_LEN),
        LD_LEN => Step::LoadLength,
        LDX_LEN => Step::LoadLengthX,
        c if c == LDX | IMM => Step::LoadX(k),
        c if c == LDX | MEM => Step::LoadSlotX(slot(k)?),
        c if c == LDX | B | MSH => Step::LoadHeaderLengthX(k),
        c if c == ST => Step::Store(slot(k)?),
        c if c == STX => Step::StoreX(slot(k)?),
        c if c == RET | code::K => Step::Return(k),
        c if c == RET | code::A => Step::ReturnA,
        c if c == MISC | code::TAX => Step::AToX,
        c if c == MISC | code::TXA => Step::XToA,
        c if c == JMP | code::JA => Step::Jump(k),
        c if c == ALU | code::NEG => Step::Negate,
        c if c & 7 == ALU => return arithmetic(c, k),
        c if c & 7 == JMP => return branch(c, k, (jt, jf)),
        _ => return Err(Errno::EINVAL),
    };
    Ok(step)
}

fn slot(k: u32) -> Result<u8> {
    u8::try_from(k)
        .ok()
        .filter(|slot| usize::from(*slot) < check::SLOTS)
        .ok_or(Errno::EINVAL)
}

fn arithmetic(code: u16, k: u32) -> Result<Step> {
    use code::{ADD, ALU, AND, DIV, LSH, MOD, MUL, OR, RSH, SUB, X, XOR};
    let is_x = code & X != 0;
    let step = match (code & !(ALU | X), is_x) {
        (ADD, false) => Step::Add(k),
        (SUB, false) => Step::Subtract(k),
        (MUL, false) => Step::Multiply(k),
        (DIV, false) => Step::Divide(k),
        (MOD, false) => Step::Remainder(k),
        (AND, false) => Step::And(k),
        (OR, false) => Step::Or(k),
        (XOR, false) => Step::Xor(k),
        (LSH, false) => Step::ShiftLeft(k),
        (RSH, false) => Step::ShiftRight(k),
        (ADD, true) => Step::AddX,
        (SUB, true) => Step::SubtractX,
        (MUL, true) => Step::MultiplyX,
        (DIV, true) => Step::DivideX,
        (MOD, true) => Step::RemainderX,
        (AND, true) => Step::AndX,
        (OR, true) => Step::OrX,
        (XOR, true) => Step::XorX,
        (LSH, true) => Step::ShiftLeftX,
        (RSH, true) => Step::ShiftRightX,
        _ => return Err(Errno::EINVAL),
    };
    Ok(step)
}

fn branch(code: u16, k: u32, (jt, jf): (u8, u8)) -> Result<Step> {
    use code::{JEQ, JGE, JGT, JMP, JSET, X};
    let is_x = code & X != 0;
    let step = match (code & !(JMP | X), is_x) {
        (JEQ, false) => Step::IfEqual(k, jt, jf),
        (JGT, false) => Step::IfGreater(k, jt, jf),
        (JGE, false) => Step::IfNotLess(k, jt, jf),
        (JSET, false) => Step::IfSet(k, jt, jf),
        (JEQ, true) => Step::IfEqualX(jt, jf),
        (JGT, true) => Step::IfGreaterX(jt, jf),
        (JGE, true) => Step::IfNotLessX(jt, jf),
        (JSET, true) => Step::IfSetX(jt, jf),
        _ => return Err(Errno::EINVAL),
    };
    Ok(step)
}

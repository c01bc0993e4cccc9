//! Running a program: registers A and X, sixteen slots of memory, words of what is decided about.

use crate::check::SLOTS;
use crate::program::Program;

/// One step of a program. Register A is what most work on, X the other one; where a jump skips, it skips steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Load(u32),
    LoadWord(u32),
    LoadHalf(u32),
    LoadByte(u32),
    LoadWordAtX(u32),
    LoadHalfAtX(u32),
    LoadByteAtX(u32),
    LoadSlot(u8),
    LoadLength,
    LoadX(u32),
    LoadSlotX(u8),
    LoadLengthX,
    /// Four times the lower half of the byte there: how long an IPv4 header says it is.
    LoadHeaderLengthX(u32),
    Store(u8),
    StoreX(u8),
    AToX,
    XToA,
    Add(u32),
    Subtract(u32),
    Multiply(u32),
    Divide(u32),
    Remainder(u32),
    And(u32),
    Or(u32),
    Xor(u32),
    ShiftLeft(u32),
    ShiftRight(u32),
    AddX,
    SubtractX,
    MultiplyX,
    DivideX,
    RemainderX,
    AndX,
    OrX,
    XorX,
    ShiftLeftX,
    ShiftRightX,
    Negate,
    Jump(u32),
    IfEqual(u32, u8, u8),
    IfGreater(u32, u8, u8),
    IfNotLess(u32, u8, u8),
    IfSet(u32, u8, u8),
    IfEqualX(u8, u8),
    IfGreaterX(u8, u8),
    IfNotLessX(u8, u8),
    IfSetX(u8, u8),
    Return(u32),
    ReturnA,
}

/// What a program reads.
pub trait Source {
    /// The word at a byte offset; `None` ends the run without a verdict.
    fn word(&self, at: u32) -> Option<u32>;
    /// The half word there.
    fn half(&self, at: u32) -> Option<u16>;
    /// The byte there.
    fn byte(&self, at: u32) -> Option<u8>;
    /// How many bytes there are.
    fn len(&self) -> u32;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The bytes of a packet, in network order.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a>(pub &'a [u8]);

impl Packet<'_> {
    fn bytes<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.0.get(at..at.checked_add(N)?)?;
        bytes.try_into().ok()
    }
}

impl Source for Packet<'_> {
    fn word(&self, at: u32) -> Option<u32> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn half(&self, at: u32) -> Option<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }

    fn byte(&self, at: u32) -> Option<u8> {
        self.bytes(at).map(u8::from_be_bytes)
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

#[derive(Default)]
struct Registers {
    a: u32,
    x: u32,
    slots: [u32; SLOTS],
}

impl Program {
    /// The verdict on `source`; `None` when it reads what is not there, which is "no" of a packet filter.
    #[must_use]
    pub fn run(&self, source: &impl Source) -> Option<u32> {
        let mut registers = Registers::default();
        let mut at = 0;
        // Forward only, and the last step returns: as checked.
        while let Some(step) = self.steps.get(at) {
            at += 1;
            at += match *step {
                Step::Return(k) => return Some(k),
                Step::ReturnA => return Some(registers.a),
                Step::Jump(k) => k as usize,
                // Division by zero is the verdict 0.
                Step::DivideX | Step::RemainderX if registers.x == 0 => return Some(0),
                step => {
                    if let Some(skip) = registers.branch(step) {
                        usize::from(skip)
                    } else {
                        registers.step(step, source)?;
                        0
                    }
                }
            };
        }
        Some(0)
    }
}

impl Registers {
    /// How many steps a conditional jump skips; `None` of any other step.
    #[inline]
    fn branch(&self, step: Step) -> Option<u8> {
        let choose = |holds: bool, jt: u8, jf: u8| Some(if holds { jt } else { jf });
        let (a, x) = (self.a, self.x);
        match step {
            Step::IfEqual(k, jt, jf) => choose(a == k, jt, jf),
            Step::IfGreater(k, jt, jf) => choose(a > k, jt, jf),
            Step::IfNotLess(k, jt, jf) => choose(a >= k, jt, jf),
            Step::IfSet(k, jt, jf) => choose(a & k != 0, jt, jf),
            Step::IfEqualX(jt, jf) => choose(a == x, jt, jf),
            Step::IfGreaterX(jt, jf) => choose(a > x, jt, jf),
            Step::IfNotLessX(jt, jf) => choose(a >= x, jt, jf),
            Step::IfSetX(jt, jf) => choose(a & x != 0, jt, jf),
            _ => None,
        }
    }

    #[inline]
    fn step(&mut self, step: Step, source: &impl Source) -> Option<()> {
        let x = self.x;
        let beyond = |k: u32| x.checked_add(k);
        match step {
            Step::Load(k) => self.a = k,
            Step::LoadWord(k) => self.a = source.word(k)?,
            Step::LoadHalf(k) => self.a = source.half(k)?.into(),
            Step::LoadByte(k) => self.a = source.byte(k)?.into(),
            Step::LoadWordAtX(k) => self.a = source.word(beyond(k)?)?,
            Step::LoadHalfAtX(k) => self.a = source.half(beyond(k)?)?.into(),
            Step::LoadByteAtX(k) => self.a = source.byte(beyond(k)?)?.into(),
            Step::LoadSlot(slot) => self.a = self.slots[usize::from(slot) % SLOTS],
            Step::LoadLength => self.a = source.len(),
            Step::LoadX(k) => self.x = k,
            Step::LoadSlotX(slot) => self.x = self.slots[usize::from(slot) % SLOTS],
            Step::LoadLengthX => self.x = source.len(),
            Step::LoadHeaderLengthX(k) => self.x = u32::from(source.byte(k)? & 0xf) * 4,
            Step::Store(slot) => self.slots[usize::from(slot) % SLOTS] = self.a,
            Step::StoreX(slot) => self.slots[usize::from(slot) % SLOTS] = x,
            Step::AToX => self.x = self.a,
            Step::XToA => self.a = x,
            _ => self.a = self.compute(step),
        }
        Some(())
    }

    /// What an arithmetic step makes of A; of no other, which all stand in [`Self::step`] or before it.
    #[inline]
    fn compute(&self, step: Step) -> u32 {
        let (a, x) = (self.a, self.x);
        match step {
            Step::Add(k) => a.wrapping_add(k),
            Step::Subtract(k) => a.wrapping_sub(k),
            Step::Multiply(k) => a.wrapping_mul(k),
            Step::Divide(k) => a.checked_div(k).unwrap_or(0),
            Step::Remainder(k) => a.checked_rem(k).unwrap_or(0),
            Step::And(k) => a & k,
            Step::Or(k) => a | k,
            Step::Xor(k) => a ^ k,
            Step::ShiftLeft(k) => a.wrapping_shl(k),
            Step::ShiftRight(k) => a.wrapping_shr(k),
            Step::AddX => a.wrapping_add(x),
            Step::SubtractX => a.wrapping_sub(x),
            Step::MultiplyX => a.wrapping_mul(x),
            Step::DivideX => a.checked_div(x).unwrap_or(0),
            Step::RemainderX => a.checked_rem(x).unwrap_or(0),
            Step::AndX => a & x,
            Step::OrX => a | x,
            Step::XorX => a ^ x,
            Step::ShiftLeftX => a.wrapping_shl(x),
            Step::ShiftRightX => a.wrapping_shr(x),
            Step::Negate => a.wrapping_neg(),
            _ => a,
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;

//! `struct user_regs_struct` of x86-64, which debuggers know a thread's registers as (sys/user.h).

use abi::{Errno, Result};
use machine::UserAddr;
use machine::user_mode::Registers;

use crate::task::traced::Saved;

/// Words in the structure.
pub const WORDS: usize = 27;
const CODE_SELECTOR: u64 = 0x33;
const DATA_SELECTOR: u64 = 0x2b;
/// CF, PF, AF, ZF, SF, TF, DF, OF, NT, RF, AC: what a tracer may change.
const FLAGS: u64 = 0x5_4dd5;

/// A place in the structure.
enum Field<'a> {
    Plain(&'a mut u64),
    /// `fs_base` and `gs_base`.
    Base(&'a mut u64),
    Flags(&'a mut u64),
    /// A segment that is what it is.
    Fixed(u64),
}

fn field(saved: &mut Saved, index: usize) -> Option<Field<'_>> {
    let Registers {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rsp,
        rflags,
        fs_base,
        gs_base,
    } = &mut saved.regs;
    Some(match index {
        0 => Field::Plain(r15),
        1 => Field::Plain(r14),
        2 => Field::Plain(r13),
        3 => Field::Plain(r12),
        4 => Field::Plain(rbp),
        5 => Field::Plain(rbx),
        6 => Field::Plain(r11),
        7 => Field::Plain(r10),
        8 => Field::Plain(r9),
        9 => Field::Plain(r8),
        10 => Field::Plain(rax),
        11 => Field::Plain(rcx),
        12 => Field::Plain(rdx),
        13 => Field::Plain(rsi),
        14 => Field::Plain(rdi),
        15 => Field::Plain(&mut saved.orig_rax),
        16 => Field::Plain(rip),
        17 => Field::Fixed(CODE_SELECTOR),
        18 => Field::Flags(rflags),
        19 => Field::Plain(rsp),
        20 => Field::Fixed(DATA_SELECTOR),
        21 => Field::Base(fs_base),
        22 => Field::Base(gs_base),
        23..WORDS => Field::Fixed(0),
        _ => return None,
    })
}

/// Word `index` of the structure; `None` behind its end.
#[must_use]
pub fn get(saved: &mut Saved, index: usize) -> Option<u64> {
    Some(match field(saved, index)? {
        Field::Plain(word) | Field::Base(word) | Field::Flags(word) => *word,
        Field::Fixed(word) => word,
    })
}

/// Sets word `index` of the structure.
///
/// # Errors
/// `EIO` behind its end, for a base that is not user memory's and for other segments than there are.
pub fn set(saved: &mut Saved, index: usize, value: u64) -> Result<()> {
    match field(saved, index).ok_or(Errno::EIO)? {
        Field::Plain(word) => *word = value,
        Field::Base(word) if value < UserAddr::LIMIT.0 => *word = value,
        Field::Flags(word) => *word = *word & !FLAGS | value & FLAGS,
        Field::Fixed(word) if value & 0xffff == word => {}
        Field::Base(_) | Field::Fixed(_) => return Err(Errno::EIO),
    }
    Ok(())
}

/// All of the structure.
#[must_use]
pub fn all(saved: &mut Saved) -> [u64; WORDS] {
    core::array::from_fn(|index| get(saved, index).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_is_where_sys_user_h_has_it() {
        let mut saved = Saved::default();
        saved.regs.r15 = 15;
        saved.regs.rip = 0x1234;
        saved.regs.rsp = 0x5678;
        saved.orig_rax = 39;
        let words = all(&mut saved);
        assert_eq!(
            (words[0], words[15], words[16], words[19]),
            (15, 39, 0x1234, 0x5678)
        );
        assert_eq!((words[17], words[20], words[23]), (0x33, 0x2b, 0));
    }

    #[test]
    fn what_was_read_can_be_written_back() {
        let mut saved = Saved::default();
        saved.regs.fs_base = 0x7000;
        let words = all(&mut saved);
        for (index, word) in words.into_iter().enumerate() {
            assert_eq!(set(&mut saved, index, word), Ok(()));
        }
        assert_eq!(all(&mut saved), words);
        assert_eq!(set(&mut saved, WORDS, 0), Err(Errno::EIO));
    }

    #[test]
    fn a_tracer_gives_no_more_than_user_mode_may_have() {
        const IOPL: u64 = 3 << 12;
        let mut saved = Saved::default();
        assert_eq!(set(&mut saved, 17, 0x10), Err(Errno::EIO));
        assert_eq!(set(&mut saved, 23, 0x10), Err(Errno::EIO));
        assert_eq!(set(&mut saved, 21, 1 << 63), Err(Errno::EIO));
        assert_eq!(set(&mut saved, 18, IOPL | 1), Ok(()));
        assert_eq!(saved.regs.rflags, 1);
    }
}

//! What is refused, as Linux refuses it; what the guest program `seccomp_programs` tries with thousands of programs is tried
//! here one by one.

use super::*;
use crate::Program;
use crate::instruction::code::*;

const NOTHING: Instruction = Instruction::new(RET | K, 0);

fn calls(program: &[Instruction]) -> Result<()> {
    Program::new(program, Use::SystemCalls).map(|_| ())
}

fn packets(program: &[Instruction]) -> Result<()> {
    Program::new(program, Use::Packets).map(|_| ())
}

fn before_return(instruction: Instruction) -> [Instruction; 2] {
    [instruction, NOTHING]
}

#[test]
fn programs_have_a_length_and_an_end() {
    assert_eq!(calls(&[]), Err(Errno::EINVAL));
    assert_eq!(calls(&[NOTHING; MOST_INSTRUCTIONS]), Ok(()));
    assert_eq!(calls(&[NOTHING; MOST_INSTRUCTIONS + 1]), Err(Errno::EINVAL));
    assert_eq!(calls(&[Instruction::new(LD | IMM, 1)]), Err(Errno::EINVAL));
    assert_eq!(calls(&[Instruction::new(RET | X, 1)]), Err(Errno::EINVAL));
    assert_eq!(calls(&[Instruction::new(RET | A, 1)]), Ok(()));
}

#[test]
fn every_code_that_there_is_is_known_and_no_other() {
    let is_known = |code| packets(&before_return(Instruction::new(code, 1))).is_ok();
    let mut known = std::collections::BTreeSet::new();
    for x in [K, X] {
        for op in [ADD, SUB, MUL, DIV, MOD, AND, OR, XOR, LSH, RSH] {
            known.insert(ALU | op | x);
        }
        known.extend([JEQ, JGT, JGE, JSET].map(|op| JMP | op | x));
    }
    known.extend([
        ALU | NEG,
        LD | IMM,
        LD | W | LEN,
        LDX | IMM,
        LDX | W | LEN,
        LDX | B | MSH,
    ]);
    for size in [W, H, B] {
        known.extend([LD | size | ABS, LD | size | IND]);
    }
    known.extend([ST, STX, MISC | TAX, MISC | TXA, RET | K, RET | A]);
    // These need something before them, or lead too far here.
    let special = [LD | MEM, LDX | MEM, JMP | JA];
    for code in (0..=u16::MAX).filter(|code| !special.contains(code)) {
        assert_eq!(is_known(code), known.contains(&code), "{code:#x}");
    }
}

#[test]
fn a_filter_of_calls_reads_whole_words_of_what_there_is() {
    let load = |k| calls(&before_return(Instruction::new(LD | W | ABS, k)));
    for k in (0..64).step_by(4) {
        assert_eq!(load(k), Ok(()));
    }
    for k in [1, 2, 3, 62, 64, 68, u32::MAX - 3, u32::MAX] {
        assert_eq!(load(k), Err(Errno::EINVAL), "{k}");
    }
    for code in [
        LD | H | ABS,
        LD | B | ABS,
        LD | W | IND,
        LDX | B | MSH,
        ALU | MOD | K,
        ALU | MOD | X,
    ] {
        let program = before_return(Instruction::new(code, 4));
        assert_eq!(calls(&program), Err(Errno::EINVAL), "{code:#x}");
        assert_eq!(packets(&program), Ok(()), "{code:#x}");
    }
    let beside = before_return(Instruction::new(LD | W | ABS, ANCILLARY + 4));
    assert_eq!(packets(&beside), Err(Errno::EINVAL));
}

#[test]
fn constants_that_cannot_be_meant_are_refused() {
    for (code, bad, good) in [
        (ALU | DIV | K, 0, 1),
        (ALU | LSH | K, 32, 31),
        (ALU | RSH | K, u32::MAX, 0),
        (ST, 16, 15),
        (STX, 1 << 31, 0),
    ] {
        assert_eq!(
            calls(&before_return(Instruction::new(code, bad))),
            Err(Errno::EINVAL)
        );
        assert_eq!(calls(&before_return(Instruction::new(code, good))), Ok(()));
    }
    let nothing = before_return(Instruction::new(ALU | MOD | K, 0));
    assert_eq!(packets(&nothing), Err(Errno::EINVAL));
}

#[test]
fn jumps_stay_inside() {
    let always = |k| calls(&before_return(Instruction::new(JMP | JA, k)));
    assert_eq!((always(0), always(1)), (Ok(()), Err(Errno::EINVAL)));
    assert_eq!(always(u32::MAX), Err(Errno::EINVAL));
    for (jt, jf, is_ok) in [
        (0, 0, true),
        (1, 0, false),
        (0, 1, false),
        (255, 255, false),
    ] {
        let program = before_return(Instruction::jump(JMP | JEQ | K, 0, jt, jf));
        assert_eq!(calls(&program).is_ok(), is_ok);
    }
}

#[test]
fn memory_is_written_before_it_is_read_on_every_way() {
    let read = Instruction::new(LD | MEM, 3);
    let write = Instruction::new(ST, 3);
    let branch = |jt, jf| Instruction::jump(JMP | JEQ | K, 0, jt, jf);
    assert_eq!(calls(&[read, NOTHING]), Err(Errno::EINVAL));
    assert_eq!(calls(&[write, read, NOTHING]), Ok(()));
    assert_eq!(
        calls(&[Instruction::new(ST, 2), read, NOTHING]),
        Err(Errno::EINVAL)
    );
    // One way goes round the store.
    assert_eq!(
        calls(&[branch(1, 0), write, read, NOTHING]),
        Err(Errno::EINVAL)
    );
    let both = [
        branch(0, 2),
        write,
        Instruction::new(JMP | JA, 1),
        write,
        read,
        NOTHING,
    ];
    assert_eq!(calls(&both), Ok(()));
    // What nobody reaches counts as reached with everything written, as on Linux.
    assert_eq!(
        calls(&[Instruction::new(JMP | JA, 1), read, NOTHING]),
        Ok(())
    );
}

#[test]
fn without_memory_nothing_is_made() {
    for nth in 1..=2 {
        collections::testing::fail_nth(nth);
        assert_eq!(calls(&[NOTHING]), Err(Errno::ENOMEM), "{nth}");
    }
    collections::testing::fail_never();
}

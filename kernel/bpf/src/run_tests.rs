//! What programs compute.

use super::*;
use crate::instruction::code::*;
use crate::{Instruction, Use};

fn packet(program: &[Instruction], bytes: &[u8]) -> Option<u32> {
    Program::new(program, Use::Packets)
        .unwrap()
        .run(&Packet(bytes))
}

fn compute(op: u16, a: u32, operand: u32) -> Option<u32> {
    let by_x = [
        Instruction::new(LD | IMM, a),
        Instruction::new(LDX | IMM, operand),
        Instruction::new(ALU | op | X, 0),
        Instruction::new(RET | A, 0),
    ];
    let by_x = packet(&by_x, &[]);
    let by_k = [
        Instruction::new(LD | IMM, a),
        Instruction::new(ALU | op | K, operand),
        Instruction::new(RET | A, 0),
    ];
    if let Ok(by_k) = Program::new(&by_k, Use::Packets) {
        assert_eq!(by_k.run(&Packet(&[])), by_x);
    }
    by_x
}

#[test]
fn arithmetic_wraps_and_division_by_zero_says_no() {
    assert_eq!(compute(ADD, u32::MAX, 2), Some(1));
    assert_eq!(compute(SUB, 1, 2), Some(u32::MAX));
    assert_eq!(compute(MUL, 1 << 31, 3), Some(1 << 31));
    assert_eq!((compute(DIV, 7, 2), compute(DIV, 7, 0)), (Some(3), Some(0)));
    assert_eq!((compute(MOD, 7, 4), compute(MOD, 7, 0)), (Some(3), Some(0)));
    assert_eq!(compute(AND, 0b110, 0b011), Some(0b010));
    assert_eq!(compute(OR, 0b110, 0b011), Some(0b111));
    assert_eq!(compute(XOR, 0b110, 0b011), Some(0b101));
    assert_eq!(
        (compute(LSH, 1, 31), compute(LSH, 1, 33)),
        (Some(1 << 31), Some(2))
    );
    assert_eq!(
        (compute(RSH, 1 << 31, 31), compute(RSH, 8, 35)),
        (Some(1), Some(1))
    );
    let negated = [
        Instruction::new(LD | IMM, 5),
        Instruction::new(ALU | NEG, 0),
        Instruction::new(RET | A, 0),
    ];
    assert_eq!(packet(&negated, &[]), Some(5_u32.wrapping_neg()));
}

#[test]
fn comparisons_are_of_unsigned_numbers() {
    let decide = |op, a, operand| {
        let program = [
            Instruction::new(LD | IMM, a),
            Instruction::new(LDX | IMM, operand),
            Instruction::jump(JMP | op | K, operand, 0, 1),
            Instruction::jump(JMP | op | X, 0, 1, 2),
            Instruction::jump(JMP | op | X, 0, 2, 1),
            Instruction::new(RET | K, 1),
            Instruction::new(RET | K, 0),
            Instruction::new(RET | K, 2),
        ];
        packet(&program, &[])
    };
    for (op, a, operand, holds) in [
        (JEQ, 3, 3, true),
        (JEQ, 3, 4, false),
        (JGT, u32::MAX, 1, true),
        (JGT, 1, 1, false),
        (JGE, 1, 1, true),
        (JGE, 0, u32::MAX, false),
        (JSET, 6, 2, true),
        (JSET, 5, 2, false),
    ] {
        assert_eq!(
            decide(op, a, operand),
            Some(u32::from(holds)),
            "{op:#x} {a} {operand}"
        );
    }
}

#[test]
fn packets_are_in_network_order_and_end_somewhere() {
    let bytes = [0x45, 1, 2, 3, 4];
    let load = |code, k| {
        packet(
            &[Instruction::new(code, k), Instruction::new(RET | A, 0)],
            &bytes,
        )
    };
    assert_eq!(load(LD | W | ABS, 1), Some(0x0102_0304));
    assert_eq!(load(LD | H | ABS, 3), Some(0x0304));
    assert_eq!(load(LD | B | ABS, 4), Some(4));
    assert_eq!(load(LD | W | LEN, 0), Some(5));
    for (code, k) in [
        (LD | W | ABS, 2),
        (LD | H | ABS, 4),
        (LD | B | ABS, 5),
        (LD | B | ABS, ANCILLARY - 1),
    ] {
        assert_eq!(load(code, k), None, "{code:#x} {k}");
    }
    let header = [
        Instruction::new(LDX | B | MSH, 0),
        Instruction::new(MISC | TXA, 0),
        Instruction::new(RET | A, 0),
    ];
    assert_eq!(packet(&header, &bytes), Some(20));
    let beyond = [
        Instruction::new(LDX | IMM, u32::MAX),
        Instruction::new(LD | B | IND, 1),
        Instruction::new(RET | A, 0),
    ];
    assert_eq!(packet(&beyond, &bytes), None);
}

#[test]
fn memory_and_registers_keep_what_they_are_given() {
    let program = [
        Instruction::new(LD | IMM, 7),
        Instruction::new(ST, 15),
        Instruction::new(LDX | MEM, 15),
        Instruction::new(LD | IMM, 1),
        Instruction::new(STX, 0),
        Instruction::new(MISC | TAX, 0),
        Instruction::new(LD | MEM, 0),
        Instruction::new(ALU | ADD | X, 0),
        Instruction::new(RET | A, 0),
    ];
    assert_eq!(packet(&program, &[]), Some(8));
}

use crate::program::ANCILLARY;

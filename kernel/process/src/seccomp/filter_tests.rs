//! Chains of filters: what they say together, what is found out about them, how long they get.

use bpf::{Instruction, Use, code};
use std::vec::Vec;

use super::super::action::Action;
use super::*;

const ALLOW: u32 = 0x7fff_0000;

fn program(instructions: &[Instruction]) -> Program {
    Program::new(instructions, Use::SystemCalls).unwrap()
}

fn saying(result: u32) -> Program {
    program(&[Instruction::new(code::RET | code::K, result)])
}

/// `number` gets `result`, all others are allowed.
fn about(number: u32, result: u32) -> Program {
    program(&[
        Instruction::new(code::LD | code::W | code::ABS, 0),
        Instruction::jump(code::JMP | code::JEQ | code::K, number, 0, 1),
        Instruction::new(code::RET | code::K, result),
        Instruction::new(code::RET | code::K, ALLOW),
    ])
}

/// Filters in the order in which they were set.
fn chain(programs: impl IntoIterator<Item = Program>) -> Arc<Filter> {
    let mut newest = None;
    for program in programs {
        let mut filter = Filter::new(program, false, None);
        filter.put_before(newest).unwrap();
        newest = Some(Arc::new(filter));
    }
    newest.unwrap()
}

fn call(number: u32) -> CallData {
    CallData {
        number,
        architecture: super::super::call::ARCHITECTURE,
        instruction_pointer: 0x1000,
        arguments: [1, 2, 3, 4, 5, u64::MAX],
    }
}

#[test]
fn the_hardest_verdict_wins_and_of_equals_the_newest() {
    let by_rank: Vec<u32> = Action::ALL.iter().map(|(_, value, _)| *value).collect();
    for (rank, hard) in by_rank.iter().enumerate() {
        for soft in &by_rank[rank..] {
            for pair in [[*hard, *soft | 7], [*soft | 7, *hard]] {
                let filters = chain(pair.map(saying));
                let (verdict, by) = filters.judge(&call(39));
                assert_eq!(verdict.value, *hard, "{pair:x?}");
                assert_eq!(verdict.action(), Action::ALL[rank].0);
                if hard == soft && *hard != ALLOW {
                    assert!(core::ptr::eq(by, &raw const *filters));
                }
            }
        }
    }
    let (verdict, _) = chain([saying(0x0001_0000)]).judge(&call(39));
    assert_eq!(
        verdict.action(),
        Action::KillProcess,
        "of a value that is none"
    );
}

#[test]
fn a_call_is_known_to_be_allowed_when_nobody_looks_at_more_than_its_number() {
    let by_argument = program(&[
        Instruction::new(code::LD | code::W | code::ABS, 0),
        Instruction::jump(code::JMP | code::JEQ | code::K, 5, 0, 2),
        Instruction::new(code::LD | code::W | code::ABS, 16),
        Instruction::jump(code::JMP | code::JEQ | code::K, 9, 1, 0),
        Instruction::new(code::RET | code::K, ALLOW),
        Instruction::new(code::RET | code::K, 0),
    ]);
    let filters = chain([about(3, 0x0005_0001), by_argument, about(4, 0x7ffc_0000)]);
    for (number, is_known) in [(3, false), (4, false), (5, false), (6, true), (511, true)] {
        assert!(!filters.always_allows(number), "nobody has looked");
        for _ in 0..2 {
            assert_eq!(filters.find_out(number), is_known, "{number}");
            assert_eq!(filters.always_allows(number), is_known, "{number}");
        }
    }
    for number in [512, 0x4000_0000, u32::MAX] {
        assert!(!filters.find_out(number));
        assert_eq!(filters.judge(&call(number)).0, Verdict::ALLOW);
    }
}

#[test]
fn arguments_are_words_of_the_call() {
    for (at, expected) in [
        (0, 39),
        (4, 0xc000_003e),
        (8, 0x1000),
        (16, 1),
        (56, u32::MAX),
        (60, u32::MAX),
    ] {
        let answer = program(&[
            Instruction::new(code::LD | code::W | code::ABS, at),
            Instruction::new(code::RET | code::A, 0),
        ]);
        assert_eq!(answer.run(&call(39)), Some(expected), "{at}");
    }
}

#[test]
fn a_chain_has_a_length_and_any_chain_can_be_dropped() {
    let mut newest = Arc::new(Filter::new(saying(ALLOW), false, None));
    let refused = loop {
        let mut filter = Filter::new(saying(ALLOW), false, None);
        match filter.put_before(Some(newest.clone())) {
            Ok(()) => newest = Arc::new(filter),
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::ENOMEM);
    // One instruction each, and four for all but the first.
    assert_eq!(newest.depth(), 6554);
    drop(newest);
}

#[test]
fn actions_have_names() {
    let all = "kill_process kill_thread trap errno user_notif trace log allow";
    assert_eq!(Action::names(u32::MAX).unwrap().as_str(), all);
    let some = Action::parse("errno  allow trap").unwrap();
    assert_eq!(Action::names(some).unwrap().as_str(), "trap errno allow");
    assert_eq!((Action::parse("kill"), Action::parse("")), (None, Some(0)));
    assert!(
        Action::ALL
            .iter()
            .all(|(action, value, _)| action.value() == *value)
    );
}

//! Writing the program: a tree of comparisons of the call's number, whose leaves say what happens or look at arguments.
//!
//! A jump leads over at most 255 instructions; where more are to be skipped, an unconditional one does it.

use super::profile::{Comparison, Condition, Fate, NOT_IMPLEMENTED, Outcome, Profile, Rule};
use crate::{OciError, invalid};

/// `AUDIT_ARCH_X86_64`.
const ARCHITECTURE: u32 = 0xc000_003e;
/// What calls of other architectures get, as libseccomp has it: the thread ends.
const FOREIGN: Outcome = 0;
/// The most instructions that a program has.
const MOST: usize = 4096;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has its fields.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

impl Instruction {
    fn new(code: u16, k: u32) -> Self {
        Self {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }

    /// As it stands in memory.
    pub(super) fn bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }
}

/// The program for a profile.
pub(super) fn write(profile: &Profile) -> Result<Vec<Instruction>, OciError> {
    let mut program = vec![
        Instruction::new(LOAD, ARCHITECTURE_AT),
        Instruction {
            jt: 1,
            ..Instruction::new(IF_EQUAL, ARCHITECTURE)
        },
        Instruction::new(RETURN, FOREIGN),
        Instruction::new(LOAD, NUMBER_AT),
    ];
    let leaves = leaves(profile)?;
    program.extend(tree(&leaves)?);
    if program.len() > MOST {
        return Err(invalid(&format!(
            "linux.seccomp takes a filter of {} instructions, and the kernel takes {MOST}",
            program.len()
        )));
    }
    Ok(program)
}

/// What happens to the calls from a number on, up to the next leaf's.
struct Leaf {
    from: u32,
    code: Vec<Instruction>,
}

fn leaves(profile: &Profile) -> Result<Vec<Leaf>, OciError> {
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut put = |from: u32, code: Vec<Instruction>| {
        if leaves.last().is_none_or(|last| last.code != code) {
            leaves.push(Leaf { from, code });
        }
    };
    let says = |outcome| vec![Instruction::new(RETURN, outcome)];
    let mut next = 0;
    for (number, fate) in &profile.calls {
        if *number > next {
            put(next, says(profile.default));
        }
        put(
            *number,
            match fate {
                Fate::Always(outcome) => says(*outcome),
                Fate::Depends(rules) => depends(rules, profile.default)?,
            },
        );
        next = number + 1;
    }
    let newest = profile.newest.map(|newest| newest + 1);
    if newest.is_none_or(|newest| newest > next) {
        put(next, says(profile.default));
    }
    if let Some(newest) = newest {
        put(newest, says(NOT_IMPLEMENTED));
    }
    Ok(leaves)
}

/// Halves the leaves until one is left.
fn tree(leaves: &[Leaf]) -> Result<Vec<Instruction>, OciError> {
    let (low, high) = match leaves {
        [] => return Ok(Vec::new()),
        [leaf] => return Ok(leaf.code.clone()),
        _ => leaves.split_at(leaves.len() / 2),
    };
    let from = high.first().map_or(0, |leaf| leaf.from);
    let (low, high) = (tree(low)?, tree(high)?);
    let mut program = match u8::try_from(low.len()) {
        Ok(over) => vec![Instruction {
            jt: over,
            ..Instruction::new(IF_NOT_LESS, from)
        }],
        Err(_) => vec![
            Instruction {
                jf: 1,
                ..Instruction::new(IF_NOT_LESS, from)
            },
            Instruction::new(JUMP, length(low.len())?),
        ],
    };
    program.extend(low);
    program.extend(high);
    Ok(program)
}

fn length(count: usize) -> Result<u32, OciError> {
    u32::try_from(count).map_err(|_| invalid("linux.seccomp is too large"))
}

/// The rules one after the other; `default` behind them.
fn depends(rules: &[Rule], default: Outcome) -> Result<Vec<Instruction>, OciError> {
    let mut program = Vec::new();
    for rule in rules {
        program.extend(one_rule(rule)?);
    }
    program.push(Instruction::new(RETURN, default));
    Ok(program)
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    /// The instruction behind it.
    Next,
    /// Behind the condition: it holds.
    Holds,
    /// Behind the rule: it does not apply.
    Fails,
}

/// An instruction whose jumps have no lengths yet.
type Draft = (u16, u32, To, To);

fn one_rule(rule: &Rule) -> Result<Vec<Instruction>, OciError> {
    let conditions: Vec<Vec<Draft>> = rule.conditions.iter().map(drafts).collect();
    let total: usize = conditions.iter().map(Vec::len).sum();
    let mut program = Vec::with_capacity(total + 1);
    let mut end_of_condition = 0;
    for drafts in conditions {
        end_of_condition += drafts.len();
        for (code, k, yes, no) in drafts {
            let behind = program.len() + 1;
            let skip = |to: To| {
                let target = match to {
                    To::Next => behind,
                    To::Holds => end_of_condition,
                    // Over the verdict, too.
                    To::Fails => total + 1,
                };
                u8::try_from(target - behind)
                    .map_err(|_| invalid("linux.seccomp has a rule that is too long"))
            };
            let (jt, jf) = (skip(yes)?, skip(no)?);
            program.push(Instruction { code, jt, jf, k });
        }
    }
    program.push(Instruction::new(RETURN, rule.outcome));
    Ok(program)
}

/// Arguments are of 64 bits and registers of 32: the upper half decides unless it is equal.
fn drafts(condition: &Condition) -> Vec<Draft> {
    use To::{Fails, Holds, Next};
    let at = ARGUMENTS_AT + 8 * u32::try_from(condition.argument).unwrap_or(0);
    let low = (LOAD, at, Next, Next);
    let high = (LOAD, at + 4, Next, Next);
    match condition.comparison {
        Comparison::Equal(value) => vec![
            high,
            (IF_EQUAL, upper(value), Next, Fails),
            low,
            (IF_EQUAL, lower(value), Next, Fails),
        ],
        Comparison::NotEqual(value) => vec![
            high,
            (IF_EQUAL, upper(value), Next, Holds),
            low,
            (IF_EQUAL, lower(value), Fails, Next),
        ],
        Comparison::Masked(mask, value) => vec![
            high,
            (AND, upper(mask), Next, Next),
            (IF_EQUAL, upper(value), Next, Fails),
            low,
            (AND, lower(mask), Next, Next),
            (IF_EQUAL, lower(value), Next, Fails),
        ],
        Comparison::Greater(value) => ordered(high, low, value, IF_GREATER, [Holds, Fails]),
        Comparison::NotLess(value) => ordered(high, low, value, IF_NOT_LESS, [Holds, Fails]),
        Comparison::Less(value) => ordered(high, low, value, IF_NOT_LESS, [Fails, Holds]),
        Comparison::NotGreater(value) => ordered(high, low, value, IF_GREATER, [Fails, Holds]),
    }
}

/// `yes` when the argument is greater than the value, or (by `code`) not less.
fn ordered(high: Draft, low: Draft, value: u64, code: u16, [yes, no]: [To; 2]) -> Vec<Draft> {
    vec![
        high,
        (IF_GREATER, upper(value), yes, To::Next),
        (IF_EQUAL, upper(value), To::Next, no),
        low,
        (code, lower(value), yes, no),
    ]
}

fn upper(value: u64) -> u32 {
    u32::try_from(value >> 32).unwrap_or(u32::MAX)
}

fn lower(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

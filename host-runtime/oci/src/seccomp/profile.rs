//! [`Profile`]: what is said about each call, by its number.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use syscalls::Sysno;

use crate::{OciError, invalid, unsupported};

/// Arguments of a call.
const ARGUMENTS: usize = 6;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The highest error number.
const HIGHEST_ERRNO: u32 = 4095;

/// What a filter returns to the kernel (`SECCOMP_RET_*`).
pub(super) type Outcome = u32;

/// What an argument is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal(u64),
    NotEqual(u64),
    Greater(u64),
    NotLess(u64),
    Less(u64),
    NotGreater(u64),
    /// Of the bits in the first, those in the second are set and no others.
    Masked(u64, u64),
}

/// What holds of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: usize,
    pub(super) comparison: Comparison,
}

/// What happens to a call when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) outcome: Outcome,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Always(Outcome),
    /// As the first rule says that holds, else as all other calls.
    Depends(Vec<Rule>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) default: Outcome,
    pub(super) calls: BTreeMap<u32, Fate>,
    /// The call behind which all are newer than the profile, if they are to be "not implemented".
    pub(super) newest: Option<u32>,
}

/// What calls get that are newer than the profile.
pub(super) const NOT_IMPLEMENTED: Outcome = 0x0005_0000 | ENOSYS;

impl Profile {
    pub(super) fn read(seccomp: &LinuxSeccomp) -> Result<Self, OciError> {
        let default = outcome(seccomp.default_action(), seccomp.default_errno_ret())?;
        let mut calls = BTreeMap::new();
        let mut newest = None;
        for said in seccomp.syscalls().iter().flatten() {
            let rules = rules(said)?;
            for number in said.names().iter().filter_map(|name| number(name)) {
                newest = newest.max(Some(number));
                add(&mut calls, number, &rules, default);
            }
        }
        Ok(Self {
            default,
            calls,
            newest: newest.filter(|_| !lets_calls_be(seccomp.default_action())),
        })
    }
}

/// The call of x86-64 that goes by this name, if there is one.
fn number(name: &str) -> Option<u32> {
    let call: Sysno = name.parse().ok()?;
    u32::try_from(call.id()).ok()
}

/// Whether calls that the profile does not name are made (or left to a tracer), so that new ones need no word of their own.
fn lets_calls_be(action: LinuxSeccompAction) -> bool {
    matches!(
        action,
        LinuxSeccompAction::ScmpActAllow
            | LinuxSeccompAction::ScmpActLog
            | LinuxSeccompAction::ScmpActTrace
    )
}

fn outcome(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Outcome, OciError> {
    let errno = errno.unwrap_or(EPERM);
    if errno > HIGHEST_ERRNO {
        return Err(invalid(&format!(
            "linux.seccomp has the error number {errno}, and {HIGHEST_ERRNO} is the highest"
        )));
    }
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Ok(0),
        LinuxSeccompAction::ScmpActKillProcess => Ok(0x8000_0000),
        LinuxSeccompAction::ScmpActTrap => Ok(0x0003_0000),
        LinuxSeccompAction::ScmpActErrno => Ok(0x0005_0000 | errno),
        LinuxSeccompAction::ScmpActTrace => Ok(0x7ff0_0000 | errno),
        LinuxSeccompAction::ScmpActLog => Ok(0x7ffc_0000),
        LinuxSeccompAction::ScmpActAllow => Ok(0x7fff_0000),
        LinuxSeccompAction::ScmpActNotify => Err(unsupported(
            "the action SCMP_ACT_NOTIFY in linux.seccomp (a program of the host that decides about calls of the guest)",
        )),
    }
}

/// The rules that one entry of the profile makes, for each of its names.
fn rules(said: &LinuxSyscall) -> Result<Vec<Rule>, OciError> {
    let outcome = outcome(said.action(), said.errno_ret())?;
    let conditions: Vec<Condition> = said
        .args()
        .iter()
        .flatten()
        .map(condition)
        .collect::<Result<_, _>>()?;
    let twice = |condition: &Condition| {
        let same = |other: &&Condition| other.argument == condition.argument;
        conditions.iter().filter(same).count() > 1
    };
    if !conditions.iter().any(twice) {
        return Ok(vec![Rule {
            conditions,
            outcome,
        }]);
    }
    let alone = |condition| Rule {
        conditions: vec![condition],
        outcome,
    };
    Ok(conditions.into_iter().map(alone).collect())
}

fn condition(said: &LinuxSeccompArg) -> Result<Condition, OciError> {
    if said.index() >= ARGUMENTS {
        return Err(invalid(&format!(
            "linux.seccomp is about argument {} of a call, and the last one is {}",
            said.index(),
            ARGUMENTS - 1
        )));
    }
    let value = said.value();
    let comparison = match said.op() {
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal(value),
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater(value),
        LinuxSeccompOperator::ScmpCmpGe => Comparison::NotLess(value),
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Comparison::NotGreater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Comparison::Masked(value, said.value_two().unwrap_or(0) & value)
        }
    };
    Ok(Condition {
        argument: said.index(),
        comparison,
    })
}

/// Adds `rules` to what is said about a call.
fn add(calls: &mut BTreeMap<u32, Fate>, number: u32, rules: &[Rule], default: Outcome) {
    for rule in rules.iter().filter(|rule| rule.outcome != default) {
        let fate = calls.entry(number).or_insert(Fate::Depends(Vec::new()));
        match fate {
            Fate::Always(_) => {}
            Fate::Depends(_) if rule.conditions.is_empty() => *fate = Fate::Always(rule.outcome),
            Fate::Depends(known) => known.push(rule.clone()),
        }
    }
}

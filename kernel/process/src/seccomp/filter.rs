//! [`Filter`]: one program, and those that were there before it.
//!
//! Filters do not change; who has the newest has them all. What is found out about them (which calls they allow whatever the
//! arguments) stands in bits that only ever get set, and are read without a lock.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use bpf::Program;

use super::action::Verdict;
use super::call::{CallData, NumberOnly};
use super::notify::Notifier;

/// Calls that the bits are for; those beyond are decided by the programs.
const NUMBERS: usize = 512;
/// The most instructions on a way through all filters, each counting some more than it has.
const MOST_ON_A_WAY: usize = 32768;
const COST_OF_ONE: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Filter {
    program: Program,
    parent: Option<Arc<Filter>>,
    depth: u32,
    /// Instructions of this and those before it, with what each costs beside.
    weight: usize,
    /// Whether what it refuses is logged (`SECCOMP_FILTER_FLAG_LOG`).
    pub(super) logs: bool,
    /// Whom it asks.
    pub(super) notifier: Option<Arc<Notifier>>,
    /// Calls whose bit in `allowed` is right; of others nobody has looked yet.
    looked: Bits,
    /// Calls that this and those before it allow whatever the arguments.
    allowed: Bits,
}

#[derive(Debug)]
struct Bits([AtomicU64; NUMBERS / 64]);

impl Bits {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; NUMBERS / 64])
    }

    #[inline]
    fn has(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 != 0)
    }

    fn set(&self, number: u32) {
        if let Some(word) = self.0.get(number as usize / 64) {
            word.fetch_or(1 << (number % 64), Ordering::Relaxed);
        }
    }
}

impl Filter {
    /// A filter that stands before no other yet.
    #[must_use]
    pub(super) fn new(program: Program, logs: bool, notifier: Option<Arc<Notifier>>) -> Self {
        Self {
            weight: program.len(),
            program,
            parent: None,
            depth: 1,
            logs,
            notifier,
            looked: Bits::new(),
            allowed: Bits::new(),
        }
    }

    /// Puts it before `parent`, which its thread has.
    ///
    /// # Errors
    /// `ENOMEM` when all of them have too many instructions.
    pub(super) fn put_before(&mut self, parent: Option<Arc<Filter>>) -> Result<()> {
        let behind = parent
            .as_ref()
            .map_or(0, |parent| parent.weight + COST_OF_ONE);
        let weight = self.program.len() + behind;
        if weight > MOST_ON_A_WAY {
            return Err(Errno::ENOMEM);
        }
        self.weight = weight;
        self.depth = parent.as_ref().map_or(1, |parent| parent.depth + 1);
        self.parent = parent;
        Ok(())
    }

    /// How many there are, with those before it.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// It and those before it, newest first.
    pub(super) fn chain(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |filter| filter.parent.as_deref())
    }

    /// Whether all calls of `number` are known to be allowed.
    #[inline]
    #[must_use]
    pub(super) fn always_allows(&self, number: u32) -> bool {
        self.allowed.has(number)
    }

    /// As [`Self::always_allows`], found out if it is not known yet.
    pub(super) fn find_out(&self, number: u32) -> bool {
        if number as usize >= NUMBERS || self.looked.has(number) {
            return self.always_allows(number);
        }
        let allows = self.chain().all(|filter| {
            let verdict = filter.program.run(&NumberOnly(number));
            verdict
                .map(Verdict::new)
                .is_some_and(|verdict| verdict.value == Verdict::ALLOW.value)
        });
        if allows {
            self.allowed.set(number);
        }
        self.looked.set(number);
        allows
    }

    /// What they say to `call`, and the one whose word it is: of several that say the same, the newest.
    pub(super) fn judge(&self, call: &CallData) -> (Verdict, &Self) {
        let mut strongest = (Verdict::ALLOW, self);
        for filter in self.chain() {
            // Everything that a checked program can read is there.
            let verdict = Verdict::new(filter.program.run(call).unwrap_or(0));
            if verdict.wins_over(strongest.0) {
                strongest = (verdict, filter);
            }
            sched::cond_resched();
        }
        strongest
    }
}

impl Drop for Filter {
    /// One after the other: thousands of them would not fit on the stack.
    fn drop(&mut self) {
        if let Some(notifier) = &self.notifier {
            notifier.abandon();
        }
        let mut next = self.parent.take();
        while let Some(mut last) = next.and_then(Arc::into_inner) {
            next = last.parent.take();
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;

//! The semaphores of a set, and what operations do to them.

use abi::{Errno, Result};
use collections::Vec;

use super::{Operation, Semaphore, Times, VALUE_MAX};

/// What is locked of a set.
#[derive(Debug)]
pub(super) struct State {
    /// Empty when the set is removed.
    pub(super) semaphores: Vec<Semaphore>,
    pub(super) undos: Undos,
    pub(super) times: Times,
}

/// How far the operations of a call got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Done,
    /// The operation at this index cannot be done yet.
    Blocked(usize),
}

/// By the number of an [`UndoList`](super::UndoList), what its end adds to each semaphore. Later lists have higher
/// numbers, so that most come at the end.
#[derive(Debug, Default)]
pub(super) struct Undos(Vec<(u64, Vec<i16>)>);

impl Undos {
    fn find(&self, list: u64) -> core::result::Result<usize, usize> {
        self.0.binary_search_by_key(&list, |(list, _)| *list)
    }

    pub(super) fn get(&self, list: u64) -> Option<&Vec<i16>> {
        self.find(list).ok().map(|at| &self.0[at].1)
    }

    fn get_mut(&mut self, list: u64) -> Option<&mut Vec<i16>> {
        let at = self.find(list).ok()?;
        Some(&mut self.0[at].1)
    }

    /// Adds a list that undoes `none`, unless it is there.
    pub(super) fn insert(&mut self, list: u64, none: Vec<i16>) -> Result<()> {
        if let Err(at) = self.find(list) {
            self.0.try_insert(at, (list, none))?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, list: u64) -> Option<Vec<i16>> {
        let at = self.find(list).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Nobody undoes anything of this semaphore any more.
    pub(super) fn forget(&mut self, index: usize) {
        for (_, undo) in &mut self.0 {
            undo[index] = 0;
        }
    }
}

impl State {
    /// Counts who waits for an operation in or out.
    pub(super) fn count(&mut self, waits_for: Option<Operation>, is_in: bool) {
        let Some(op) = waits_for else { return };
        let Some(semaphore) = self.semaphores.get_mut(usize::from(op.number)) else {
            return;
        };
        let count = if op.change == 0 {
            &mut semaphore.waiting_for_zero
        } else {
            &mut semaphore.waiting
        };
        *count = if is_in { *count + 1 } else { *count - 1 };
    }

    /// Does all operations or none.
    pub(super) fn attempt(
        &mut self,
        operations: &[Operation],
        undo: Option<u64>,
    ) -> Result<Attempt> {
        for (index, op) in operations.iter().enumerate() {
            match self.apply(*op, undo) {
                Ok(true) => continue,
                outcome => {
                    for done in operations[..index].iter().rev() {
                        self.add(*done, undo, -i32::from(done.change));
                    }
                    return outcome.map(|_| Attempt::Blocked(index));
                }
            }
        }
        Ok(Attempt::Done)
    }

    /// Does one operation; whether it could be done.
    fn apply(&mut self, op: Operation, undo: Option<u64>) -> Result<bool> {
        let value = self.semaphores[usize::from(op.number)].value;
        let new = value + i32::from(op.change);
        if op.change == 0 && value != 0 || new < 0 {
            return Ok(false);
        }
        if new > VALUE_MAX || self.undone(op, undo).is_some_and(is_too_much) {
            return Err(Errno::ERANGE);
        }
        self.add(op, undo, i32::from(op.change));
        Ok(true)
    }

    /// What would be undone at the operation's semaphore after it.
    fn undone(&self, op: Operation, undo: Option<u64>) -> Option<i32> {
        let list = self.undos.get(undo.filter(|_| op.is_undone())?)?;
        Some(i32::from(list[usize::from(op.number)]) - i32::from(op.change))
    }

    fn add(&mut self, op: Operation, undo: Option<u64>, change: i32) {
        let index = usize::from(op.number);
        self.semaphores[index].value += change;
        let list = undo.filter(|_| op.is_undone());
        if let Some(undo) = list.and_then(|list| self.undos.get_mut(list)) {
            let new = i32::from(undo[index]) - change;
            undo[index] = i16::try_from(new).unwrap_or(0);
        }
    }
}

/// Whether more would be undone than fits (`SEMAEM`).
fn is_too_much(undone: i32) -> bool {
    !(-VALUE_MAX - 1..=VALUE_MAX).contains(&undone)
}

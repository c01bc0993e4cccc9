//! PID namespaces (pid_namespaces(7)): one [`Pid`], a number in each namespace that sees it.
//!
//! A namespace knows which numbers are taken and by what; a [`Pid`] knows its numbers. Both are under the lock of
//! the [`Tree`].

use alloc::sync::Arc;
use core::ops::Bound;

use abi::{Errno, Result};
use collections::{Map, try_arc};
use fs::UserNamespace;
use machine::sync::LockedBy;
use sched::WaitQueue;

use crate::task::numbers::{PID_MAX, PidNumber};
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::tree::{self, TREE, Tree};

/// Where numbers go on after the highest was used: low ones stay with the first processes.
const WRAP: PidNumber = 300;
/// How deep namespaces nest below the initial one (Linux's `MAX_PID_NS_LEVEL`).
const MOST_LEVELS: u32 = 32;
/// The number of a namespace's first process, which adopts its orphans.
const INIT: PidNumber = 1;

/// A PID namespace; the default is the initial one.
#[derive(Debug, Clone, Default)]
pub struct PidNamespace(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    ino: u32,
    parent: PidNamespace,
    /// Whose capabilities count in it.
    owner: UserNamespace,
    level: u32,
    table: LockedBy<Table, Tree>,
    /// Woken when a process in it, or below it, has ended.
    members_changed: WaitQueue,
}

/// What is taken.
#[derive(Debug)]
struct Table {
    last: PidNumber,
    /// Its first process has ended, or is ending: nobody can join.
    closed: bool,
    /// Processes in it and below that are not dead.
    living: usize,
    pids: Map<PidNumber, Arc<Pid>>,
}

static INITIAL: LockedBy<Table, Tree> = LockedBy::new(&TREE, Table::new());

impl PidNamespace {
    /// The initial one, which sees everything.
    pub const INITIAL: Self = Self(None);

    /// An empty namespace below this one, owned by `owner`. The first process in it is its init.
    ///
    /// # Errors
    /// `ENOSPC` when namespaces nest too deep, `ENOMEM`.
    pub fn below(&self, owner: &UserNamespace) -> Result<Self> {
        let level = self.level() + 1;
        if level > MOST_LEVELS {
            return Err(Errno::ENOSPC);
        }
        Ok(Self(Some(try_arc(Inner {
            ino: fs::next_namespace_id(),
            parent: self.clone(),
            owner: owner.clone(),
            level,
            table: LockedBy::new(&TREE, Table::new()),
            members_changed: WaitQueue::new(),
        })?)))
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.0.as_ref().map(|inner| inner.ino)
    }

    /// How many it lies below.
    #[inline]
    #[must_use]
    pub fn level(&self) -> u32 {
        self.0.as_ref().map_or(0, |inner| inner.level)
    }

    /// The one that it lies in; `None` for the initial one.
    #[must_use]
    pub fn parent(&self) -> Option<&Self> {
        self.0.as_ref().map(|inner| &inner.parent)
    }

    /// It, the one that it lies in, and so on to the initial one.
    pub(crate) fn and_above(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |at| at.parent())
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> UserNamespace {
        self.0
            .as_ref()
            .map_or(UserNamespace::INITIAL, |inner| inner.owner.clone())
    }

    /// Whether this is the initial namespace.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_initial() || self.and_above().any(|at| at == other)
    }

    /// Calls `show` with each namespace from `top` down to this one.
    ///
    /// # Errors
    /// What `show` gives.
    pub fn for_each_below<E>(
        &self,
        top: &Self,
        show: &mut dyn FnMut(&Self) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        if self != top
            && let Some(parent) = self.parent()
        {
            parent.for_each_below(top, show)?;
        }
        show(self)
    }

    fn cell(&self) -> &LockedBy<Table, Tree> {
        self.0.as_ref().map_or(&INITIAL, |inner| &inner.table)
    }

    /// What it calls `number`.
    #[must_use]
    pub fn find<'a>(&'a self, tree: &'a Tree, number: PidNumber) -> Option<&'a Arc<Pid>> {
        self.cell().get(tree).pids.get(&number)
    }

    /// What has a number above `last`, by number.
    pub fn above<'a>(
        &'a self,
        tree: &'a Tree,
        last: PidNumber,
    ) -> impl Iterator<Item = (PidNumber, &'a Arc<Pid>)> {
        let above = (Bound::Excluded(last), Bound::Unbounded);
        let pids = self.cell().get(tree).pids.range(above);
        pids.map(|(number, pid)| (*number, pid))
    }

    /// The first process with a number above `last`, dead or alive.
    #[must_use]
    pub fn process_after<'a>(
        &'a self,
        tree: &'a Tree,
        last: PidNumber,
    ) -> Option<(PidNumber, &'a Arc<Process>)> {
        let mut pids = self.above(tree, last);
        pids.find_map(|(number, pid)| Some((number, pid.process(tree)?)))
    }

    /// The number given out last (/proc/loadavg).
    #[must_use]
    pub fn last_number(&self, tree: &Tree) -> PidNumber {
        self.cell().get(tree).last
    }

    /// Has numbers be given behind `last` (/proc/sys/kernel/ns_last_pid).
    pub(crate) fn set_last_number(&self, tree: &mut Tree, last: PidNumber) {
        self.cell().get_mut(tree).last = last;
    }

    /// A number that is free.
    ///
    /// # Errors
    /// `EAGAIN` when there is none, `ENOMEM` when it has lost its init.
    pub(crate) fn free_number(&self, tree: &mut Tree) -> Result<PidNumber> {
        let table = self.cell().get_mut(tree);
        if table.closed {
            return Err(Errno::ENOMEM);
        }
        if table.pids.is_empty() {
            // The first clone into it may have failed with a number in hand. Another attempt must not make a process that is
            // no init, and whose end would leave the namespace open.
            table.last = 0;
        }
        for _ in 0..PID_MAX {
            table.last += 1;
            if table.last >= PID_MAX {
                table.last = WRAP;
            }
            if !table.pids.contains_key(&table.last) {
                return Ok(table.last);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// `number`, which is free, is `pid`'s.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn take_number(
        &self,
        tree: &mut Tree,
        number: PidNumber,
        pid: &Arc<Pid>,
    ) -> Result<()> {
        self.cell()
            .get_mut(tree)
            .pids
            .try_insert(number, pid.clone())?;
        Ok(())
    }

    /// `number` is free, if it was `pid`'s.
    pub(crate) fn give_number(&self, tree: &mut Tree, number: PidNumber, pid: &Pid) {
        let pids = &mut self.cell().get_mut(tree).pids;
        if pids
            .get(&number)
            .is_some_and(|its| core::ptr::eq(Arc::as_ptr(its), pid))
        {
            pids.remove(&number);
        }
    }

    /// Its init: the one that adopts orphans.
    #[must_use]
    pub fn init<'a>(&'a self, tree: &'a Tree) -> Option<&'a Arc<Process>> {
        self.find(tree, INIT)?.process(tree)
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self, tree: &mut Tree) {
        self.cell().get_mut(tree).closed = true;
    }

    /// Whether it takes a new process.
    ///
    /// # Errors
    /// `ENOMEM` when it has lost its init.
    pub(crate) fn check_open(&self, tree: &Tree) -> Result<()> {
        if self.cell().get(tree).closed {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Counts a new process in it and above.
    pub(crate) fn member_came(&self, tree: &mut Tree) {
        for at in self.and_above() {
            at.cell().get_mut(tree).living += 1;
        }
    }

    /// A process in it, or below it, is dead.
    pub(crate) fn member_ended(&self, tree: &mut Tree) {
        for at in self.and_above() {
            at.cell().get_mut(tree).living -= 1;
        }
    }

    /// Wakes who waits for the last members, here and above. Without the tree's lock.
    pub(crate) fn wake_waiting(&self) {
        for inner in self.and_above().filter_map(|at| at.0.as_ref()) {
            inner.members_changed.wake_all();
        }
    }

    /// Waits, deaf to signals, until only its init is left.
    pub(crate) fn wait_for_last_member(&self) {
        if let Some(inner) = &self.0 {
            let is_last = || (inner.table.get(&tree::lock()).living <= 1).then_some(());
            inner.members_changed.wait_until(is_last);
        }
    }
}

impl PartialEq for PidNamespace {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl Table {
    const fn new() -> Self {
        Self {
            last: 0,
            closed: false,
            living: 0,
            pids: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_who_comes_is_init_whoever_has_failed_before() {
        let namespace = PidNamespace::default()
            .below(&UserNamespace::INITIAL)
            .expect("a namespace");
        let mut tree = tree::lock();
        let failed = Pid::new(&mut tree, &namespace).expect("a number");
        failed.release(&mut tree);
        let first = Pid::new(&mut tree, &namespace).expect("a number");
        assert_eq!((failed.number(), first.number()), (INIT, INIT));
        first.release(&mut tree);
    }

    #[test]
    fn a_namespace_without_its_init_takes_nobody() {
        let owner = UserNamespace::INITIAL;
        let outer = PidNamespace::default().below(&owner).expect("a namespace");
        let inner = outer.below(&owner).expect("a namespace");
        assert!(inner.is_within(&outer) && inner.is_within(&PidNamespace::default()));
        assert!(!outer.is_within(&inner));
        let mut tree = tree::lock();
        outer.close(&mut tree);
        assert_eq!(Pid::new(&mut tree, &inner).err(), Some(Errno::ENOMEM));
        assert!(inner.above(&tree, 0).next().is_none());
        assert_eq!(outer.check_open(&tree), Err(Errno::ENOMEM));
    }
}

//! PID namespaces (pid_namespaces(7)): one process, a number in each namespace that sees it.
//!
//! Everywhere in the kernel an id is what the initial namespace calls it. Only what shows ids to
//! programs or takes them from programs translates: system calls, the `si_pid` of signals, /proc.
//! A namespace below the initial one keeps a table of both directions. An id is entered before its
//! thread is known and struck off when the tree has no more use for it, as the id of a group or
//! session included.
//!
//! Lock order: the tree, then one table at a time.

use alloc::sync::Arc;
use core::ops::Bound;

use abi::{Errno, Result};
use collections::{Map, try_arc};
use fs::UserNamespace;
use machine::sync::SpinLock;
use sched::WaitQueue;

use crate::tree::PID_MAX;
use crate::{Pid, Process};

/// How deep namespaces nest below the initial one (Linux's `MAX_PID_NS_LEVEL`).
const MOST_LEVELS: u32 = 32;
/// The number of a namespace's first process, which adopts its orphans.
const INIT: Pid = 1;
/// Where numbers go on after the highest was used.
const WRAP: Pid = 300;

/// A PID namespace; the default is the initial one, where every id stands for itself.
#[derive(Debug, Clone, Default)]
pub struct PidNamespace(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    ino: u32,
    parent: PidNamespace,
    /// Whose capabilities count in it.
    owner: UserNamespace,
    level: u32,
    numbers: SpinLock<Numbers>,
    /// Woken when a process in it, or below it, has ended.
    members_changed: WaitQueue,
}

/// Both directions of the translation.
#[derive(Debug, Default)]
struct Numbers {
    last: Pid,
    /// Its first process has ended, or is ending: nobody can join.
    closed: bool,
    /// Processes in it and below that are not dead.
    living: usize,
    ids: Map<Pid, Pid>,
    numbers: Map<Pid, Pid>,
}

impl PidNamespace {
    /// An empty namespace below this one, owned by `owner`. The first process entered is its init.
    ///
    /// # Errors
    /// `ENOSPC` when namespaces nest too deep, `ENOMEM`.
    pub fn below(&self, owner: &UserNamespace) -> Result<Self> {
        let level = self.0.as_ref().map_or(0, |inner| inner.level) + 1;
        if level > MOST_LEVELS {
            return Err(Errno::ENOSPC);
        }
        Ok(Self(Some(try_arc(Inner {
            ino: fs::next_namespace_id(),
            parent: self.clone(),
            owner: owner.clone(),
            level,
            numbers: SpinLock::new(Numbers::default()),
            members_changed: WaitQueue::new(),
        })?)))
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.0.as_ref().map(|inner| inner.ino)
    }

    /// The one that it lies in; `None` for the initial one.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.as_ref().map(|inner| inner.parent.clone())
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

    /// What this namespace calls `id`; 0 when it does not see it.
    #[must_use]
    pub fn shown(&self, id: Pid) -> Pid {
        match &self.0 {
            None => id,
            Some(inner) => {
                let numbers = inner.numbers.lock();
                numbers.numbers.get(&id).copied().unwrap_or(0)
            }
        }
    }

    /// The id that this namespace calls `number`.
    #[must_use]
    pub fn find(&self, number: Pid) -> Option<Pid> {
        match &self.0 {
            None => Some(number),
            Some(inner) => inner.numbers.lock().ids.get(&number).copied(),
        }
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let mut above = Some(self);
        while let Some(namespace) = above {
            if namespace == other {
                return true;
            }
            above = namespace.0.as_ref().map(|inner| &inner.parent);
        }
        false
    }

    /// Calls `show` with what each namespace from `top` down to this one calls `id`.
    ///
    /// # Errors
    /// What `show` gives.
    pub fn for_each_below<E>(
        &self,
        top: &Self,
        id: Pid,
        show: &mut dyn FnMut(Pid) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        if self != top
            && let Some(inner) = &self.0
        {
            inner.parent.for_each_below(top, id, show)?;
        }
        show(self.shown(id))
    }

    /// Gives `id` a number here and in each namespace above.
    ///
    /// # Errors
    /// `EAGAIN` when a namespace is full, `ENOMEM` when this one has lost its init.
    pub(crate) fn enter(&self, id: Pid) -> Result<()> {
        let Some(inner) = &self.0 else {
            return Ok(());
        };
        inner.numbers.lock().enter(id)?;
        inner
            .parent
            .enter(id)
            .inspect_err(|_| inner.numbers.lock().strike(id))
    }

    /// Takes `id`'s numbers away again.
    pub(crate) fn strike(&self, id: Pid) {
        let mut at = self;
        while let Some(inner) = &at.0 {
            inner.numbers.lock().strike(id);
            at = &inner.parent;
        }
    }

    /// The id of its init: the one that adopts orphans.
    pub(crate) fn init(&self) -> Option<Pid> {
        self.find(INIT)
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.numbers.lock().closed = true;
        }
    }

    /// Counts a new process, which is about to enter the tree, in it and above.
    ///
    /// # Errors
    /// `ENOMEM` when it has lost its init.
    pub(crate) fn member_came(&self) -> Result<()> {
        let mut at = self;
        while let Some(inner) = &at.0 {
            let mut numbers = inner.numbers.lock();
            if numbers.closed && core::ptr::eq(at, self) {
                return Err(Errno::ENOMEM);
            }
            numbers.living += 1;
            drop(numbers);
            at = &inner.parent;
        }
        Ok(())
    }

    /// A process in it, or below it, is dead.
    pub(crate) fn member_ended(&self) {
        let mut at = self;
        while let Some(inner) = &at.0 {
            let mut numbers = inner.numbers.lock();
            numbers.living -= 1;
            let is_last = numbers.living <= 1;
            drop(numbers);
            if is_last {
                inner.members_changed.wake_all();
            }
            at = &inner.parent;
        }
    }

    /// Waits, deaf to signals, until only its init is left.
    pub(crate) fn wait_for_last_member(&self) {
        if let Some(inner) = &self.0 {
            let is_last = || (inner.numbers.lock().living <= 1).then_some(());
            inner.members_changed.wait_until(is_last);
        }
    }

    /// The ids that it has numbers for, one after the other.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Pid> {
        let mut last = 0;
        core::iter::from_fn(move || {
            sched::cond_resched();
            let numbers = self.0.as_ref()?.numbers.lock();
            let above = (Bound::Excluded(last), Bound::Unbounded);
            let (number, id) = numbers.ids.range(above).next()?;
            last = *number;
            Some(*id)
        })
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

impl Numbers {
    fn enter(&mut self, id: Pid) -> Result<()> {
        if self.closed {
            return Err(Errno::ENOMEM);
        }
        // Left over when the last that went by it, as a group, was in a namespace above.
        self.strike(id);
        for _ in 0..PID_MAX {
            self.last += 1;
            if self.last >= PID_MAX {
                self.last = WRAP;
            }
            if !self.ids.contains_key(&self.last) {
                self.ids.try_insert(self.last, id)?;
                if let Err(error) = self.numbers.try_insert(id, self.last) {
                    self.ids.remove(&self.last);
                    return Err(error.into());
                }
                return Ok(());
            }
        }
        Err(Errno::EAGAIN)
    }

    fn strike(&mut self, id: Pid) {
        if let Some(number) = self.numbers.remove(&id) {
            self.ids.remove(&number);
        }
    }
}

impl Process {
    /// Whether it is the init of its namespace.
    #[must_use]
    pub fn is_namespace_init(&self) -> bool {
        self.pid_namespace().shown(self.pid()) == INIT
    }

    /// What this process calls `id`; 0 when it cannot see it.
    #[must_use]
    pub fn shown(&self, id: Pid) -> Pid {
        self.pid_namespace().shown(id)
    }

    /// The id that this process calls `number`. Zero and negative numbers have meanings of their own.
    #[must_use]
    pub fn find(&self, number: Pid) -> Option<Pid> {
        self.pid_namespace().find(number)
    }
}

#[cfg(test)]
mod tests {
    use abi::Errno;

    use super::{PidNamespace, UserNamespace};

    #[test]
    fn each_namespace_counts_from_one_and_those_above_see_all() {
        let initial = PidNamespace::default();
        let outer = initial.below(&UserNamespace::INITIAL).expect("a namespace");
        let inner = outer.below(&UserNamespace::INITIAL).expect("a namespace");
        outer.enter(40).expect("a number");
        inner.enter(41).expect("a number");
        assert_eq!([40, 41].map(|id| outer.shown(id)), [1, 2]);
        assert_eq!([40, 41].map(|id| inner.shown(id)), [0, 1]);
        assert_eq!(initial.shown(41), 41);
        assert_eq!(
            (outer.find(2), inner.find(1), inner.find(2)),
            (Some(41), Some(41), None)
        );
        assert!(inner.is_within(&outer) && inner.is_within(&initial) && !outer.is_within(&inner));
        inner.strike(41);
        assert_eq!((outer.shown(41), inner.shown(41)), (0, 0));
    }

    #[test]
    fn a_namespace_without_its_init_takes_nobody() {
        let outer = PidNamespace::default()
            .below(&UserNamespace::INITIAL)
            .expect("a namespace");
        let inner = outer.below(&UserNamespace::INITIAL).expect("a namespace");
        outer.close();
        assert_eq!(inner.enter(7), Err(Errno::ENOMEM));
        assert_eq!(inner.shown(7), 0);
    }
}

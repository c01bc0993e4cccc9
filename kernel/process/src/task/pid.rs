//! [`Pid`]: what goes by an id (Linux's `struct pid`): a thread, the process that it is the first of, a process group,
//! a session. It has a number in its PID namespace and in each above; whoever means one of them keeps the object, and
//! never finds what has its numbers later.
//!
//! Its numbers are taken until nothing goes by it any more. All of it is under the lock of the [`Tree`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::LockedBy;

use crate::task::numbers::PidNumber;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::relations::node::{Group, Session};
use crate::task::thread::Thread;
use crate::task::tree::{TREE, Tree};

/// Levels whose numbers need no memory of their own.
const NEAR: usize = 3;

/// See the module.
#[derive(Debug)]
pub struct Pid {
    /// The deepest that sees it.
    namespace: PidNamespace,
    /// By the level of the namespace.
    near: [PidNumber; NEAR],
    far: Vec<PidNumber>,
    users: LockedBy<Users, Tree>,
}

/// What goes by a [`Pid`].
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// A living thread, or the first of a process that was not waited for.
    pub(crate) thread: Option<Arc<Thread>>,
    /// The process whose first thread has it, until that was waited for.
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) group: Option<Group>,
    pub(crate) session: Option<Session>,
}

impl Users {
    /// Whether nothing goes by it any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.thread.is_none()
            && self.process.is_none()
            && self.group.is_none()
            && self.session.is_none()
    }
}

impl Pid {
    /// That of what was before the first process: number 0, which nobody finds.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn idle() -> Result<Arc<Self>> {
        Self::without_number(&PidNamespace::default())
    }

    fn without_number(namespace: &PidNamespace) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            namespace: namespace.clone(),
            near: [0; NEAR],
            far: Vec::new(),
            users: LockedBy::new(&TREE, Users::default()),
        })?)
    }

    /// A new one, with a number in `namespace` and in each above that nothing goes by.
    ///
    /// # Errors
    /// `EAGAIN` when a namespace has no number left, `ENOMEM` also when one has lost its init.
    pub(crate) fn new(tree: &mut Tree, namespace: &PidNamespace) -> Result<Arc<Self>> {
        let mut new = Self::without_number(namespace)?;
        // Nobody else has it yet.
        let fields = Arc::get_mut(&mut new).ok_or(Errno::ENOMEM)?;
        let levels = namespace.level() as usize + 1;
        for _ in NEAR..levels {
            fields.far.try_push(0)?;
        }
        for at in namespace.and_above() {
            let number = at.free_number(tree)?;
            let level = at.level() as usize;
            match fields.near.get_mut(level) {
                Some(near) => *near = number,
                None => fields.far[level - NEAR] = number,
            }
        }
        for at in namespace.and_above() {
            if let Err(errno) = at.take_number(tree, new.at_level(at.level()), &new) {
                new.strike(tree);
                return Err(errno);
            }
        }
        Ok(new)
    }

    /// Takes its numbers away.
    fn strike(&self, tree: &mut Tree) {
        for at in self.namespace.and_above() {
            at.give_number(tree, self.at_level(at.level()), self);
        }
    }

    /// Takes its numbers away if nothing goes by it any more.
    pub(crate) fn release(&self, tree: &mut Tree) {
        if self.users.get(tree).is_empty() {
            self.strike(tree);
        }
    }

    fn at_level(&self, level: u32) -> PidNumber {
        let level = level as usize;
        match self.near.get(level) {
            Some(number) => *number,
            None => self.far.get(level - NEAR).copied().unwrap_or(0),
        }
    }

    /// The deepest namespace that sees it.
    #[must_use]
    pub fn namespace(&self) -> &PidNamespace {
        &self.namespace
    }

    /// Its number in the deepest namespace that sees it.
    #[inline]
    #[must_use]
    pub fn number(&self) -> PidNumber {
        self.at_level(self.namespace.level())
    }

    /// Its number in the initial namespace: for the log, and to tell it from others at the moment.
    #[must_use]
    pub fn global(&self) -> PidNumber {
        self.near[0]
    }

    /// What `namespace` calls it; 0 when that does not see it.
    #[must_use]
    pub fn number_in(&self, namespace: &PidNamespace) -> PidNumber {
        if self.namespace.is_within(namespace) {
            self.at_level(namespace.level())
        } else {
            0
        }
    }

    /// The thread: a living one, or the first of a process that was not waited for.
    #[must_use]
    pub fn thread<'a>(&'a self, tree: &'a Tree) -> Option<&'a Arc<Thread>> {
        self.users(tree).thread.as_ref()
    }

    /// The process whose first thread goes by it, dead or alive.
    #[must_use]
    pub fn process<'a>(&'a self, tree: &'a Tree) -> Option<&'a Arc<Process>> {
        self.users(tree).process.as_ref()
    }

    /// The process, dead or alive, or that of the thread: nearly every call takes any thread for its process.
    #[must_use]
    pub fn process_of<'a>(&'a self, tree: &'a Tree) -> Option<&'a Arc<Process>> {
        let users = self.users(tree);
        let of_thread = || users.thread.as_ref().map(|thread| thread.process());
        users.process.as_ref().or_else(of_thread)
    }

    pub(crate) fn users<'a>(&'a self, tree: &'a Tree) -> &'a Users {
        self.users.get(tree)
    }

    pub(crate) fn users_mut<'a>(&'a self, tree: &'a mut Tree) -> &'a mut Users {
        self.users.get_mut(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{relations, tree};
    use crate::tests::process;
    use fs::UserNamespace;

    #[test]
    fn each_namespace_counts_from_one_and_those_above_see_all() {
        let initial = PidNamespace::default();
        let mut chain = Vec::new();
        let mut deepest = initial.clone();
        for _ in 0..NEAR + 2 {
            deepest = deepest.below(&UserNamespace::INITIAL).unwrap();
            chain.try_push(deepest.clone()).unwrap();
        }
        let mut tree = tree::lock();
        let outer = Pid::new(&mut tree, &chain[0]).unwrap();
        let inner = Pid::new(&mut tree, &deepest).unwrap();
        assert_eq!((outer.number(), inner.number()), (1, 1));
        assert_eq!(inner.number_in(&chain[0]), 2);
        assert!(chain[1..].iter().all(|at| inner.number_in(at) == 1));
        assert!(chain[1..].iter().all(|at| outer.number_in(at) == 0));
        assert_eq!(inner.number_in(&initial), inner.global());
        for (at, number, wanted) in [
            (&chain[0], 2, &inner),
            (&chain[0], 1, &outer),
            (&deepest, 1, &inner),
        ] {
            assert!(
                at.find(&tree, number)
                    .is_some_and(|found| Arc::ptr_eq(found, wanted))
            );
        }
        inner.release(&mut tree);
        outer.release(&mut tree);
        assert!(deepest.find(&tree, 1).is_none() && chain[0].find(&tree, 2).is_none());
        assert!(initial.find(&tree, inner.global()).is_none());
    }

    #[test]
    fn a_pid_that_is_kept_never_finds_what_has_its_number_later() {
        let first = process(None);
        let pid = first.process().pid().clone();
        let mut tree = tree::lock();
        assert!(
            pid.thread(&tree)
                .is_some_and(|found| Arc::ptr_eq(found, &first))
        );
        let gone = relations::reap(&mut tree, first.process());
        assert!(gone.is_some() && pid.process_of(&tree).is_none());
        let found = PidNamespace::default();
        let found = found.find(&tree, pid.global());
        assert!(found.is_none_or(|found| !Arc::ptr_eq(found, &pid)));
        drop(tree);
        drop(gone);
    }

    #[test]
    fn a_number_is_taken_while_anything_goes_by_it() {
        let (first, second) = (process(None), process(None));
        let pid = first.process().pid().clone();
        let initial = PidNamespace::default();
        let mut tree = tree::lock();
        let is_taken = |tree: &Tree| {
            initial
                .find(tree, pid.global())
                .is_some_and(|it| Arc::ptr_eq(it, &pid))
        };
        relations::leave_group(&mut tree, second.process());
        relations::join_group(&mut tree, second.process(), pid.clone(), pid.clone());
        let gone = relations::reap(&mut tree, first.process());
        // The group and the session have outlived their leader.
        assert!(pid.process_of(&tree).is_none() && is_taken(&tree));
        let last = relations::reap(&mut tree, second.process());
        assert!(!is_taken(&tree));
        drop(tree);
        drop((gone, last));
    }
}

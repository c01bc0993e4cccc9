//! Ids and what goes by each (Linux's `struct pid`): a thread, the process that it is the first of, a process
//! group, a session. An id is free when nothing is left; its number is then another's.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Bound;

use abi::{Errno, Result};
use fs::job_control::Id;

use super::groups::Group;
use super::{Node, PID_MAX, PID_WRAP, Session, Tree};
use crate::thread::Thread;
use crate::{Pid, Process};

/// What goes by an id.
#[derive(Debug)]
pub(super) struct Entry {
    /// Tells it from what had the number before, and will have it.
    serial: u64,
    /// A living thread, or the first of a process that was not waited for.
    pub(super) thread: Option<Arc<Thread>>,
    pub(super) node: Option<Box<Node>>,
    pub(super) group: Option<Group>,
    pub(super) session: Option<Session>,
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.thread.is_none()
            && self.node.is_none()
            && self.group.is_none()
            && self.session.is_none()
    }
}

impl Tree {
    /// An id that nothing goes by.
    ///
    /// # Errors
    /// `EAGAIN` when all are taken.
    pub fn allocate_pid(&mut self) -> Result<Pid> {
        for _ in 0..PID_MAX {
            self.last_pid += 1;
            if self.last_pid >= PID_MAX {
                self.last_pid = PID_WRAP;
            }
            if !self.pids.contains_key(&self.last_pid) {
                return Ok(self.last_pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The id given out last (/proc/loadavg).
    #[must_use]
    pub fn last_pid(&self) -> Pid {
        self.last_pid
    }

    /// What remembers whatever goes by `pid` now.
    #[must_use]
    pub fn remember(&self, pid: Pid) -> Option<Id> {
        let entry = self.pids.get(&pid)?;
        Some(Id::new(pid, entry.serial))
    }

    /// The number of `id`, while it is still what it was made of.
    #[must_use]
    pub fn current(&self, id: Id) -> Option<Pid> {
        let now = self.remember(id.number())?;
        (now == id).then_some(id.number())
    }

    /// The entry of `pid`, made if it is not there: the caller puts something into it.
    pub(super) fn entry(&mut self, pid: Pid) -> Result<&mut Entry> {
        let serial = &mut self.last_serial;
        let entry = self.pids.try_get_or_insert_with(&pid, || {
            *serial += 1;
            Entry {
                serial: *serial,
                thread: None,
                node: None,
                group: None,
                session: None,
            }
        })?;
        Ok(entry)
    }

    /// Frees an id that nothing goes by any more, and takes its numbers in namespaces away. `user` is the last that
    /// did: the id was entered in its namespace or in one above.
    pub(super) fn release(&mut self, pid: Pid, user: &Process) {
        if self.release_unnumbered(pid) {
            user.pid_namespace().strike(pid);
        }
    }

    /// As [`Self::release`] where there are no numbers to be taken away; whether the id is free now.
    pub(super) fn release_unnumbered(&mut self, pid: Pid) -> bool {
        let is_free = self.pids.get(&pid).is_some_and(Entry::is_empty);
        if is_free {
            self.pids.remove(&pid);
        }
        is_free
    }

    /// Threads there are, those of zombies included.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads
    }

    /// Processes there are, dead ones included.
    #[must_use]
    pub fn process_count(&self) -> usize {
        self.processes
    }

    /// The node of `pid`.
    #[must_use]
    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.pids.get(&pid)?.node.as_deref()
    }

    /// The node of `pid`, to change.
    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.pids.get_mut(&pid)?.node.as_deref_mut()
    }

    /// The node of `process`, unless it was waited for: another may have its id then.
    #[must_use]
    pub fn node_of(&self, process: &Process) -> Option<&Node> {
        let node = self.node(process.pid())?;
        core::ptr::eq(Arc::as_ptr(&node.process), process).then_some(node)
    }

    /// Takes the node of `pid` out. Its id goes with its first thread.
    pub(super) fn take_node(&mut self, pid: Pid) -> Option<Box<Node>> {
        let node = self.pids.get_mut(&pid)?.node.take()?;
        self.processes -= 1;
        self.release(pid, &node.process);
        Some(node)
    }

    /// The first node with an id above `pid`.
    #[must_use]
    pub fn node_after(&self, pid: Pid) -> Option<&Node> {
        let above = (Bound::Excluded(pid), Bound::Unbounded);
        let mut entries = self.pids.range(above);
        entries.find_map(|(_, entry)| entry.node.as_deref())
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.pids.values().filter_map(|entry| entry.node.as_deref())
    }

    /// As [`super::thread`].
    #[must_use]
    pub fn thread(&self, tid: Pid) -> Option<&Arc<Thread>> {
        self.pids.get(&tid)?.thread.as_ref()
    }

    /// Adds a thread under its id.
    ///
    /// # Errors
    /// `ENOMEM`; nothing has changed then.
    pub fn add_thread(&mut self, thread: &Arc<Thread>) -> Result<()> {
        self.count_user(thread.real_uid())?;
        match self.entry(thread.tid()) {
            Ok(entry) => entry.thread = Some(thread.clone()),
            Err(errno) => {
                self.uncount_user(thread.real_uid());
                return Err(errno);
            }
        }
        self.threads += 1;
        Ok(())
    }

    fn take_thread(&mut self, tid: Pid) -> Option<Arc<Thread>> {
        let thread = self.pids.get_mut(&tid)?.thread.take()?;
        self.threads -= 1;
        self.release(tid, thread.process());
        Some(thread)
    }

    /// exec by a thread that is not the first makes it the first. What comes back (its old place and who had
    /// the new one) is for dropping without the lock.
    pub(crate) fn take_over(
        &mut self,
        thread: &Arc<Thread>,
        leader: Pid,
    ) -> [Option<Arc<Thread>>; 2] {
        let own = self.take_thread(thread.tid());
        // The first thread stays in the table until its process ends.
        let place = self.pids.get_mut(&leader).and_then(|e| e.thread.as_mut());
        let old = place.map(|place| core::mem::replace(place, thread.clone()));
        if let Some(old) = &old {
            self.uncount_user(old.real_uid());
        }
        thread.set_tid(leader);
        [own, old]
    }

    /// Takes a thread out. The caller drops what comes back without the lock.
    #[must_use]
    pub fn remove_thread(&mut self, tid: Pid) -> Option<Arc<Thread>> {
        let thread = self.take_thread(tid)?;
        self.uncount_user(thread.real_uid());
        Some(thread)
    }

    /// As [`Self::remove_thread`], unless the id has passed to another (exec).
    #[must_use]
    pub fn remove_this(&mut self, thread: &Arc<Thread>) -> Option<Arc<Thread>> {
        let own = self.thread(thread.tid())?;
        if Arc::ptr_eq(own, thread) {
            self.remove_thread(thread.tid())
        } else {
            None
        }
    }

    pub(super) fn group(&self, group: Pid) -> Option<&Group> {
        self.pids.get(&group)?.group.as_ref()
    }

    pub(super) fn group_mut(&mut self, group: Pid) -> Option<&mut Group> {
        self.pids.get_mut(&group)?.group.as_mut()
    }

    /// A session.
    pub fn session_mut(&mut self, session: Pid) -> Option<&mut Session> {
        self.pids.get_mut(&session)?.session.as_mut()
    }

    /// Whether a group or session goes by `id`.
    pub(super) fn is_group_or_session(&self, id: Pid) -> bool {
        let entry = self.pids.get(&id);
        entry.is_some_and(|entry| entry.group.is_some() || entry.session.is_some())
    }

    pub(super) fn take_group(&mut self, group: Pid) -> Option<Group> {
        self.pids.get_mut(&group)?.group.take()
    }

    pub(super) fn take_session(&mut self, session: Pid) -> Option<Session> {
        self.pids.get_mut(&session)?.session.take()
    }
}

#[cfg(test)]
mod tests {
    use collections::try_arc;
    use machine::sync::SpinLock;

    use super::*;
    use crate::group::Relations;
    use crate::pid_namespace::PidNamespace;
    use crate::rlimit::Limits;
    use crate::signal::Actions;

    fn leader(pid: Pid) -> Arc<Process> {
        let relations = Relations {
            parent: 0,
            group: pid,
            session: pid,
        };
        let actions = try_arc(SpinLock::new(Actions::default())).unwrap();
        let namespace = PidNamespace::default();
        Process::new(pid, namespace, relations, None, actions, Limits::default()).unwrap()
    }

    #[test]
    fn a_remembered_id_never_finds_what_has_its_number_later() {
        let mut tree = Tree::new();
        let first = leader(7);
        tree.add_process(&first, None).unwrap();
        let id = tree.remember(7).unwrap();
        assert_eq!(tree.current(id), Some(7));
        assert!(tree.reap(7).is_some() && tree.current(id).is_none());
        assert!(tree.pids.is_empty() && tree.process_count() == 0);
        let second = leader(7);
        tree.add_process(&second, None).unwrap();
        assert_eq!(tree.current(id), None);
        assert!(tree.node_of(&first).is_none() && tree.node_of(&second).is_some());
    }

    #[test]
    fn an_id_is_taken_while_anything_goes_by_it() {
        let mut tree = Tree::new();
        let (first, second) = (leader(5), leader(6));
        tree.add_process(&first, None).unwrap();
        tree.add_process(&second, None).unwrap();
        tree.leave_group(&second);
        tree.join_group(&second, 5, 5);
        tree.reap(5);
        // The group and the session have outlived their leader.
        assert!(tree.node(5).is_none() && tree.pids.contains_key(&5));
        tree.reap(6);
        assert!(tree.pids.is_empty());
    }
}

//! Process groups and sessions: setpgid(2), setsid(2), orphaned groups.
//!
//! A group counts its ties: living members whose parent is outside the group but in its session. Without
//! one it is orphaned (POSIX): nobody could continue its members when they stop.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::job_control::Terminal;

use super::list::Of;
use super::node::{Group, List};
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::tree::Tree;

/// The global init is nobody's tie: it does no job control for others.
const INIT: PidNumber = 1;

/// The processes of a group, dead ones included.
pub(super) fn members<'a>(
    tree: &'a Tree,
    group: &'a Pid,
) -> impl Iterator<Item = &'a Arc<Process>> {
    Of::Members(group).follow(tree)
}

/// Calls `act` for each process of a group, dead ones included; whether there was one.
pub fn for_each_member(
    tree: &mut Tree,
    group: &Pid,
    act: impl FnMut(&mut Tree, &Arc<Process>),
) -> bool {
    let any = Of::Members(group).first(tree).is_some();
    Of::Members(group).for_each(tree, act);
    any
}

/// The session that `group` is in; `None` when no group goes by it.
#[must_use]
pub fn session_of_group<'a>(tree: &'a Tree, group: &'a Pid) -> Option<&'a Arc<Pid>> {
    group.users(tree).group.as_ref().map(|group| &group.session)
}

/// Whether nobody outside `group`, in its session, is a parent of one of its members.
#[must_use]
pub fn is_orphaned(tree: &Tree, group: &Pid) -> bool {
    group
        .users(tree)
        .group
        .as_ref()
        .is_none_or(|group| group.ties == 0)
}

pub(super) fn has_stopped_member(tree: &Tree, group: &Pid) -> bool {
    members(tree, group).any(|member| {
        member.node.get(tree).zombie.is_none() && member.signals.lock().stop.is_some()
    })
}

fn ties_to_outside(tree: &Tree, process: &Process) -> bool {
    let node = process.node.get(tree);
    if node.zombie.is_some() {
        return false;
    }
    node.parent.as_ref().is_some_and(|parent| {
        let above = parent.node.get(tree);
        parent.pid().global() != INIT
            && !Arc::ptr_eq(&above.group, &node.group)
            && Arc::ptr_eq(&above.session, &node.session)
    })
}

/// Counts `process` as a tie of its group or no longer; its group, if that orphaned it.
pub(super) fn update_tie(tree: &mut Tree, process: &Process) -> Option<Arc<Pid>> {
    let is_tie = ties_to_outside(tree, process);
    let group = set_tie(tree, process, is_tie)?;
    (!is_tie && is_orphaned(tree, &group)).then_some(group)
}

/// Its group, if that has changed.
fn set_tie(tree: &mut Tree, process: &Process, is_tie: bool) -> Option<Arc<Pid>> {
    let node = process.node.get_mut(tree);
    if core::mem::replace(&mut node.is_tie, is_tie) == is_tie {
        return None;
    }
    let pid = node.group.clone();
    if let Some(group) = pid.users_mut(tree).group.as_mut() {
        if is_tie {
            group.ties += 1;
        } else {
            group.ties -= 1;
        }
    }
    Some(pid)
}

/// As [`update_tie`], for a process that has changed its group and its children.
fn update_ties_around(tree: &mut Tree, process: &Process) {
    update_tie(tree, process);
    Of::Children(process).for_each(tree, |tree, child| {
        update_tie(tree, child);
    });
}

/// setpgid(2): `caller` puts `process` in the group of `group` (`None`: one of its own).
///
/// # Errors
/// As setpgid(2): `ESRCH`, `EPERM`, `EACCES`.
pub fn set_group(
    tree: &mut Tree,
    caller: &Arc<Process>,
    process: &Arc<Process>,
    group: Option<&Arc<Pid>>,
) -> Result<()> {
    let node = process.known(tree).ok_or(Errno::ESRCH)?;
    let session = caller.node.get(tree).session.clone();
    if node
        .parent
        .as_ref()
        .is_some_and(|parent| Arc::ptr_eq(parent, caller))
    {
        if !Arc::ptr_eq(&node.session, &session) {
            return Err(Errno::EPERM);
        }
        if node.has_execed {
            return Err(Errno::EACCES);
        }
    } else if !Arc::ptr_eq(process, caller) {
        return Err(Errno::ESRCH);
    }
    if process.leads_session(tree) {
        return Err(Errno::EPERM);
    }
    let pid = process.pid();
    let group = group.unwrap_or(pid);
    let is_there = || {
        let its = session_of_group(tree, group);
        its.is_some_and(|its| Arc::ptr_eq(its, &session))
    };
    if !Arc::ptr_eq(group, pid) && !is_there() {
        return Err(Errno::EPERM);
    }
    if !Arc::ptr_eq(&node.group, group) {
        make_group(tree, group, &session);
        // The session stays: its terminal does, too.
        leave_group(tree, process);
        join_group(tree, process, group.clone(), session);
    }
    Ok(())
}

/// setsid(2): a new session and group for `process`. What comes back (the old session's terminal, if
/// that was its last process) is for dropping without the lock.
///
/// # Errors
/// `EPERM` when it leads a group, or a group with its id is left from before.
pub fn set_session(tree: &mut Tree, process: &Arc<Process>) -> Result<Option<Terminal>> {
    let pid = process.pid();
    let users = pid.users(tree);
    if users.group.is_some() || users.session.is_some() {
        return Err(Errno::EPERM);
    }
    make_group(tree, pid, pid);
    let old = leave_group(tree, process);
    join_group(tree, process, pid.clone(), pid.clone());
    Ok(old)
}

/// Makes a group in a session, and the session, unless they are there.
pub(super) fn make_group(tree: &mut Tree, group: &Arc<Pid>, session: &Arc<Pid>) {
    if group.users(tree).group.is_some() {
        return;
    }
    session
        .users_mut(tree)
        .session
        .get_or_insert_default()
        .groups += 1;
    group.users_mut(tree).group = Some(Group {
        members: List::default(),
        session: session.clone(),
        ties: 0,
    });
}

/// Counts one group less; what comes back is the terminal of a session that had no other.
fn drop_from_session(tree: &mut Tree, pid: &Pid) -> Option<Terminal> {
    let users = pid.users_mut(tree);
    let session = users.session.as_mut()?;
    session.groups -= 1;
    if session.groups > 0 {
        return None;
    }
    let terminal = users.session.take()?.terminal;
    pid.release(tree);
    terminal
}

/// Puts a process that is in no group into one that is there.
pub(crate) fn join_group(
    tree: &mut Tree,
    process: &Arc<Process>,
    group: Arc<Pid>,
    session: Arc<Pid>,
) {
    Of::Members(&group).append(tree, process);
    let node = process.node.get_mut(tree);
    node.group = group;
    node.session = session;
    update_ties_around(tree, process);
}

/// Takes a process out of its group. What comes back is as of [`set_session`].
pub(crate) fn leave_group(tree: &mut Tree, process: &Arc<Process>) -> Option<Terminal> {
    set_tie(tree, process, false);
    let group = process.node.get(tree).group.clone();
    Of::Members(&group).unlink(tree, process);
    if Of::Members(&group).first(tree).is_some() {
        return None;
    }
    let session = group.users_mut(tree).group.take()?.session;
    group.release(tree);
    drop_from_session(tree, &session)
}

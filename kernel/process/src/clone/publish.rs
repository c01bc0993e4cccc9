//! The end of clone(2): the child becomes known, or nothing of it stays.

use alloc::sync::Arc;

use abi::{Errno, Result};

use crate::clone::CloneArgs;
use crate::clone::flags::CloneFlags;
use crate::own::Own;
use crate::task::cgroup::members;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::relations::{self, Relations};
use crate::task::thread::Thread;
use crate::task::tree::{self, Tree};
use crate::trace::Inherited;
use crate::{pidfd, timer};

/// What was made: the id of the child, the child, and how it is traced.
pub(super) type Made<'a> = (&'a Arc<Pid>, &'a Arc<Thread>, Option<&'a Inherited>);

/// Writes the ids that the caller wants, then makes the child known.
pub(super) fn make_known(
    parent: &Arc<Thread>,
    own: &mut Own,
    made: Made<'_>,
    args: &CloneArgs,
    multi: u64,
) -> Result<()> {
    let (pid, child, _) = made;
    if args.flags.contains(CloneFlags::PARENT_SETTID) {
        // The address is the program's: a bad one is its own affair, as on Linux.
        let _ = memory::user::write(args.parent_tid, &parent.process().shown(pid));
    }
    if !args.flags.contains(CloneFlags::PIDFD) {
        return publish(parent, made, args, multi);
    }
    let fd = pidfd::install(parent, own, child.process())?;
    let known = memory::user::write(args.pidfd, &fd);
    let known = known.and_then(|()| publish(parent, made, args, multi));
    known.inspect_err(|_| drop(own.files.remove(fd)))
}

/// Makes the child known: from here on others can find and signal it. `multi` is from before it was begun:
/// a signal to a group or to all that came since must not miss the child.
fn publish(parent: &Thread, made: Made<'_>, args: &CloneArgs, multi: u64) -> Result<()> {
    let published = publish_locked(&mut tree::lock(), parent, made, args, multi);
    // Of a failure, too, if that was for a limit.
    let group = args.cgroup.clone().or_else(|| parent.cgroup_if_any());
    if let Some(group) = group {
        group.tell();
    }
    published
}

fn publish_locked(
    tree: &mut Tree,
    parent: &Thread,
    (pid, child, inherited): Made<'_>,
    args: &CloneArgs,
    multi: u64,
) -> Result<()> {
    let process = child.process();
    {
        let state = parent.process().signals.lock();
        if state.must_exit(parent) {
            return Err(Errno::EINTR);
        }
        if state.multi != multi && !state.ready(parent).is_empty() {
            return Err(Errno::ERESTARTNOINTR);
        }
    }
    if !args.flags.contains(CloneFlags::THREAD) {
        process.pid_namespace().check_open(tree)?;
    }
    if let Some(inherited) = inherited {
        inherited.reserve(tree)?;
    }
    members::join(tree, parent, child, args.cgroup.as_ref())?;
    if let Err(errno) = enter_tree(tree, parent, (pid, child), args) {
        members::cancel(tree, child);
        return Err(errno);
    }
    if let Some(inherited) = inherited {
        inherited.apply(tree, parent, child);
    }
    let state = process.signals.lock();
    if state.has_work(child) {
        child.notify();
    }
    drop(state);
    timer::thread_joins(parent, child);
    Ok(())
}

/// Enters the child where it is looked for. On failure it is nowhere.
fn enter_tree(
    tree: &mut Tree,
    parent: &Thread,
    (pid, child): (&Pid, &Arc<Thread>),
    args: &CloneArgs,
) -> Result<()> {
    let process = child.process();
    relations::add_thread(tree, pid, child)?;
    let entered = {
        let mut state = process.signals.lock();
        // With the lock that the filters of all threads of a process are changed under.
        inherit_seccomp(parent, child);
        state.threads.push(child)
    };
    if let Err(errno) = entered {
        // Not the last reference: the caller has one.
        drop(relations::remove_this(tree, child));
        return Err(errno);
    }
    if !args.flags.contains(CloneFlags::THREAD) {
        enter_process(tree, parent, process, args);
    }
    Ok(())
}

/// The child may make the calls that its parent may.
fn inherit_seccomp(parent: &Thread, child: &Thread) {
    child.seccomp.inherit(&parent.seccomp);
    // Behind that: who is given filters is first kept from gaining privileges.
    if parent.no_new_privs() {
        child.set_no_new_privs();
    }
}

fn enter_process(tree: &mut Tree, parent: &Thread, process: &Arc<Process>, args: &CloneArgs) {
    // As they are now: what was so before may have changed.
    let caller = parent.process();
    if !args.flags.contains(CloneFlags::PARENT) {
        process.set_maker(parent.place());
    }
    let (parent, exit_signal) = match caller.known(tree) {
        Some(node) if args.flags.contains(CloneFlags::PARENT) => {
            (node.parent().cloned(), node.exit_signal)
        }
        _ => (Some(caller.clone()), args.exit_signal),
    };
    let relations = Relations::like(tree, caller, parent);
    relations::add_process(tree, process, relations, exit_signal);
}

#[cfg(test)]
mod tests {
    use collections::testing::{fail_never, fail_nth};
    use collections::try_arc;
    use machine::sync::SpinLock;

    use super::*;
    use crate::exit;
    use crate::rlimit::Limits;
    use crate::signal::{Actions, SignalSet};
    use crate::task::ns_proxy::NsProxy;
    use crate::task::pid_namespace::PidNamespace;
    use crate::task::thread::{Resources, Start};
    use crate::task::tree;

    fn user() -> fs::Kuid {
        fs::UserNamespace::INITIAL.kuid(54321).unwrap()
    }

    fn start() -> Result<Start> {
        Ok(Start {
            resources: Resources::default(),
            credentials: try_arc(fs::Credentials::user(54321, 54321))?,
            blocked: SignalSet::EMPTY,
            alternate_stack: Default::default(),
            no_new_privs: false,
            name: [0; 16],
            namespaces: NsProxy {
                uts: crate::uts::initial(),
                ipc: crate::ipc::initial(),
                net: Default::default(),
                cgroup: None,
                pid_for_children: PidNamespace::default(),
            },
            undo_list: None,
        })
    }

    fn make(parent: &Arc<Thread>, pid: &Arc<Pid>, flags: CloneFlags) -> Result<Arc<Thread>> {
        let process = if flags.contains(CloneFlags::THREAD) {
            parent.process().clone()
        } else {
            let actions = try_arc(SpinLock::new(Actions::default()))?;
            Process::new(pid.clone(), None, actions, Limits::default())?
        };
        let child = Thread::new(pid.clone(), &process, start()?)?;
        let args = CloneArgs::plain(flags);
        publish(parent, (pid, &child, None), &args, 0)?;
        Ok(child)
    }

    /// Whichever allocation fails, nobody finds a child that is not there.
    #[test]
    fn a_clone_without_memory_leaves_nothing_behind() {
        let parent = crate::tests::process(None);
        for flags in [CloneFlags::empty(), CloneFlags::THREAD] {
            let threads = parent.process().thread_count();
            for nth in 1.. {
                fail_nth(nth);
                let pid = Pid::new(&mut tree::lock(), &PidNamespace::INITIAL);
                let made = pid.and_then(|pid| {
                    let made = make(&parent, &pid, flags);
                    made.inspect_err(|_| pid.release(&mut tree::lock()))
                });
                if fail_never() {
                    assert!(made.is_ok());
                    break;
                }
                assert_eq!(made.err(), Some(Errno::ENOMEM), "allocation {nth}");
                let tree = tree::lock();
                assert_eq!(relations::children(&tree, parent.process()).count(), 0);
                assert_eq!(tree.threads_of(user()), 0);
                drop(tree);
                assert_eq!(parent.process().thread_count(), threads);
            }
            // The next round begins without children.
            let child = {
                let tree = tree::lock();
                relations::children(&tree, parent.process()).next().cloned()
            };
            if let Some(child) = child {
                let thread = child.main_thread().unwrap();
                exit::exit_thread(&thread, 0);
                exit::finish(&thread, None);
                let reaped = relations::reap(&mut tree::lock(), &child);
                drop(reaped);
            }
        }
    }
}

//! The end of clone(2): the child becomes known, or nothing of it stays.

use alloc::sync::Arc;

use abi::{Errno, Result};

use super::{CloneArgs, CloneFlags};
use crate::own::Own;
use crate::thread::Thread;
use crate::tree::{self, Tree};
use crate::{Process, pidfd, timer};

/// Writes the ids that the caller wants, then makes the child known.
pub(super) fn make_known(
    parent: &Arc<Thread>,
    own: &mut Own,
    child: &Arc<Thread>,
    args: &CloneArgs,
    multi: u64,
) -> Result<()> {
    if args.flags.contains(CloneFlags::PARENT_SETTID) {
        // The address is the program's: a bad one is its own affair, as on Linux.
        let _ = memory::user::write(args.parent_tid, &parent.process().shown(child.tid()));
    }
    if !args.flags.contains(CloneFlags::PIDFD) {
        return publish(parent, child, args, multi);
    }
    let fd = pidfd::install(parent, own, child.process())?;
    let known = memory::user::write(args.pidfd, &fd);
    let known = known.and_then(|()| publish(parent, child, args, multi));
    known.inspect_err(|_| drop(own.files.remove(fd)))
}

/// Makes the child known: from here on others can find and signal it. `multi` is from before it was begun:
/// a signal to a group or to all that came since must not miss the child.
fn publish(parent: &Thread, child: &Arc<Thread>, args: &CloneArgs, multi: u64) -> Result<()> {
    let process = child.process();
    let mut tree = tree::lock();
    {
        let state = parent.process().signals.lock();
        if state.must_exit(parent) {
            return Err(Errno::EINTR);
        }
        if state.multi != multi && !state.ready(parent).is_empty() {
            return Err(Errno::ERESTARTNOINTR);
        }
    }
    let is_process = !args.flags.contains(CloneFlags::THREAD);
    if is_process {
        process.pid_namespace().member_came()?;
    }
    enter_tree(&mut tree, parent, child, args).inspect_err(|_| {
        if is_process {
            process.pid_namespace().member_ended();
        }
    })?;
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
    child: &Arc<Thread>,
    args: &CloneArgs,
) -> Result<()> {
    let process = child.process();
    tree.add_thread(child)?;
    let listed = process.signals.lock().threads.push(child);
    let entered = listed.and_then(|()| enter_process(tree, parent, process, args));
    if entered.is_err() {
        process.signals.lock().threads.remove(child);
        // Not the last reference: the caller has one.
        drop(tree.remove_this(child));
    }
    entered
}

fn enter_process(
    tree: &mut Tree,
    parent: &Thread,
    process: &Arc<Process>,
    args: &CloneArgs,
) -> Result<()> {
    if args.flags.contains(CloneFlags::THREAD) {
        return Ok(());
    }
    // As they are now: what was read before may have changed.
    let caller = parent.process();
    process.set_group_id(caller.group_id());
    process.set_session_id(caller.session_id());
    if !args.flags.contains(CloneFlags::PARENT) {
        return tree.add_process(process, args.exit_signal);
    }
    process.set_parent_pid(caller.parent_pid());
    let exit_signal = tree.node(caller.pid()).and_then(|node| node.exit_signal);
    tree.add_process(process, exit_signal)
}

#[cfg(test)]
mod tests {
    use collections::testing::{fail_never, fail_nth};
    use collections::try_arc;
    use machine::sync::SpinLock;

    use super::*;
    use crate::exit;
    use crate::group::Relations;
    use crate::namespace::NsProxy;
    use crate::pid_namespace::PidNamespace;
    use crate::rlimit::Limits;
    use crate::signal::{Actions, SignalSet};
    use crate::thread::{Resources, Start};
    use crate::{Pid, tree};

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
                pid_for_children: PidNamespace::default(),
            },
        })
    }

    fn make(parent: &Arc<Thread>, pid: Pid, flags: CloneFlags) -> Result<Arc<Thread>> {
        let process = if flags.contains(CloneFlags::THREAD) {
            parent.process().clone()
        } else {
            let relations = Relations {
                parent: parent.tid(),
                group: parent.process().group_id(),
                session: parent.process().session_id(),
            };
            let actions = try_arc(SpinLock::new(Actions::default()))?;
            let namespace = PidNamespace::default();
            Process::new(pid, namespace, relations, None, actions, Limits::default())?
        };
        let child = Thread::new(pid, &process, start()?)?;
        let args = CloneArgs::plain(flags);
        publish(parent, &child, &args, 0)?;
        Ok(child)
    }

    /// Whichever allocation fails, nobody finds a child that is not there.
    #[test]
    fn a_clone_without_memory_leaves_nothing_behind() {
        let parent = crate::tests::process(None);
        for flags in [CloneFlags::empty(), CloneFlags::THREAD] {
            let threads = parent.process().thread_count();
            for nth in 1.. {
                let pid = tree::lock().allocate_pid().unwrap();
                fail_nth(nth);
                let made = make(&parent, pid, flags);
                if fail_never() {
                    assert!(made.is_ok());
                    break;
                }
                assert_eq!(made.err(), Some(Errno::ENOMEM), "allocation {nth}");
                let tree = tree::lock();
                assert!(tree.node(pid).is_none() && tree.thread(pid).is_none());
                assert_eq!(tree.children(parent.tid()).count(), 0);
                assert_eq!(tree.threads_of(user()), 0);
                drop(tree);
                assert_eq!(parent.process().thread_count(), threads);
            }
            // The next round begins without children.
            let child = tree::lock()
                .children(parent.tid())
                .next()
                .map(|n| n.process.pid());
            if let Some(pid) = child {
                let thread = tree::thread(pid).unwrap();
                exit::exit_thread(&thread, 0);
                exit::finish(&thread, None);
                let reaped = tree::lock().reap(pid);
                drop(reaped);
            }
        }
    }
}

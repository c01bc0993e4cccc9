//! Sending signals: to a thread, a process, a group, everyone.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::post::{Target, deliver_to};
use super::state::check_permission;
use super::{Disposition, SigInfo, Signal, SignalSet, stop};
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::relations;
use crate::task::thread::Thread;
use crate::task::tree::{self, Tree};

/// Sends `info` to a process: any thread that does not block it may take it.
///
/// # Errors
/// `EAGAIN` when a queued (sigqueue) signal finds no room.
pub fn to_process(process: &Arc<Process>, info: &SigInfo) -> Result<()> {
    send(process, Target::Process(None), info)
}

/// Sends `info` to the process of `thread`, which takes it if it does not block it: what a thread's own CPU
/// time causes is shown to that thread (profilers rely on it).
///
/// # Errors
/// `EAGAIN` when a queued (sigqueue) signal finds no room.
pub(crate) fn to_process_by(thread: &Arc<Thread>, info: &SigInfo) -> Result<()> {
    let to = Target::Process(Some(thread));
    send(thread.process(), to, info)
}

/// Sends `info` to one thread.
///
/// # Errors
/// `EAGAIN` when a queued (sigqueue) signal finds no room.
pub fn to_thread(thread: &Arc<Thread>, info: &SigInfo) -> Result<()> {
    send(thread.process(), Target::Thread(thread), info)
}

/// Has an instruction's fault delivered to the thread that ran it: a blocked or ignored signal
/// is forced to its default.
pub fn force(thread: &Arc<Thread>, info: &SigInfo) {
    let process = thread.process();
    {
        let state = process.signals.lock();
        let actions = process.actions();
        let mut actions = actions.lock();
        let action = actions.get(info.signal);
        let blocked = thread.blocked();
        let is_blocked = blocked.contains(info.signal);
        if is_blocked || action.disposition == Disposition::Ignore {
            actions.set(info.signal, super::Action::default());
            process.is_init.store(false, Ordering::Relaxed);
        }
        if is_blocked {
            thread.store_blocked(blocked.without(SignalSet::of(info.signal)));
        }
        if action.disposition == Disposition::Default && !thread.is_traced() {
            // Even PID 1 cannot go on from here.
            process.is_init.store(false, Ordering::Relaxed);
        }
        drop(actions);
        thread.private.lock().push(*info, false);
        drop(state);
    }
    thread.notify();
}

/// Sends a signal of the kernel's own to every member of a group; whether there was one.
pub(crate) fn to_group(tree: &mut Tree, group: &Pid, info: &SigInfo) -> bool {
    relations::for_each_member(tree, group, |tree, member| {
        // A standard signal always finds room.
        let _ = to_member(tree, member, info);
    })
}

/// kill(2): `pid` as there and as the sender's PID namespace counts, `signal` `None` only checks.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EAGAIN`.
pub fn kill(
    sender: &Thread,
    pid: PidNumber,
    signal: Option<Signal>,
    info: Option<&SigInfo>,
) -> Result<()> {
    let namespace = sender.process().pid_namespace();
    let message = Message {
        sender,
        signal,
        info,
    };
    match pid {
        1.. => {
            let tree = tree::lock();
            let target = namespace.find(&tree, pid);
            let target = target.and_then(|target| target.process_of(&tree));
            let target = target.ok_or(Errno::ESRCH)?.clone();
            let info = message.for_target(&tree, &target);
            drop(tree);
            info?.map_or(Ok(()), |info| to_process(&target, &info))
        }
        0 => message.send_to_group(&sender.process().read_group()),
        -1 => message.send_to_all(),
        PidNumber::MIN => Err(Errno::ESRCH),
        _ => {
            let group = relations::find_pid(namespace, -pid).ok_or(Errno::ESRCH)?;
            message.send_to_group(&group)
        }
    }
}

/// What one kill(2) sends.
struct Message<'a> {
    sender: &'a Thread,
    signal: Option<Signal>,
    info: Option<&'a SigInfo>,
}

impl Message<'_> {
    /// What `target` is sent; `None` when it was only to be checked.
    fn for_target(&self, tree: &Tree, target: &Process) -> Result<Option<SigInfo>> {
        check_permission(tree, self.sender, target, self.signal)?;
        let Some(signal) = self.signal else {
            return Ok(None);
        };
        let pid = target.shown(self.sender.process().pid());
        let uid = || target.shown_uid(self.sender.credentials().uid);
        let own = || SigInfo::user(signal, pid, uid());
        Ok(Some(self.info.copied().unwrap_or_else(own)))
    }

    fn send_in(&self, tree: &mut Tree, target: &Arc<Process>) -> Result<()> {
        match self.for_target(tree, target)? {
            Some(info) => to_member(tree, target, &info),
            None => Ok(()),
        }
    }

    /// One success is enough. The tree stays locked, as on Linux: a fork cannot slip through.
    fn send_to_group(&self, group: &Pid) -> Result<()> {
        let mut result = Err(Errno::ESRCH);
        let mut succeeded = false;
        relations::for_each_member(&mut tree::lock(), group, |tree, member| {
            result = self.send_in(tree, member);
            succeeded |= result.is_ok();
        });
        if succeeded { Ok(()) } else { result }
    }

    /// An init is spared, as everywhere; what the caller does not see, it does not reach. Like on Linux,
    /// those that it may not signal do not make it fail.
    fn send_to_all(&self) -> Result<()> {
        let own = self.sender.process();
        let namespace = own.pid_namespace();
        let mut result = Err(Errno::ESRCH);
        let mut last = 0;
        let mut tree = tree::lock();
        while let Some((number, target)) = namespace.process_after(&tree, last) {
            last = number;
            let target = target.clone();
            if number > 1 && !Arc::ptr_eq(&target, own) {
                let sent = self.send_in(&mut tree, &target);
                if sent != Err(Errno::EPERM) {
                    result = sent;
                } else if result == Err(Errno::ESRCH) {
                    result = Ok(());
                }
            }
        }
        result
    }
}

/// Sends what several processes are sent at once, with the tree locked: a member that is forking does so
/// again behind it.
pub(crate) fn to_member(tree: &mut Tree, process: &Arc<Process>, info: &SigInfo) -> Result<()> {
    process.signals.lock().multi += 1;
    let (result, continued) = deliver_to(process, Target::Process(None), info);
    if continued {
        stop::report_continued(tree, process);
    }
    result
}

fn send(process: &Arc<Process>, to: Target<'_>, info: &SigInfo) -> Result<()> {
    let (result, continued) = deliver_to(process, to, info);
    if continued {
        stop::report_continued(&mut tree::lock(), process);
    }
    result
}

//! New threads and processes: clone(2), clone3(2), fork(2), vfork(2).
//!
//! All that can fail is made first; [`publish`] makes the child known, from where on others find it.

pub mod flags;
mod publish;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::{try_arc, try_box};
use fs::{FdTable, FdView};
use machine::UserAddr;
use machine::sync::SpinLock;
use machine::user_mode::UserContext;
use memory::AddressSpace;
use sched::{ThreadBuilder, ThreadRef};

use self::flags::CloneFlags;
use crate::completion::Completion;
use crate::ipc::undo::UndoList;
use crate::namespace;
use crate::own::Own;
use crate::signal::{Actions, Signal};
use crate::task::cgroup::{Cgroup, freezer, members};
use crate::task::ns_proxy::NsProxy;
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::thread::{Resources, SharedFs, Start, Thread};
use crate::task::traced::TraceFlags;
use crate::task::tree;
use crate::{exit, timer, trace, user_loop};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct CloneArgs {
    /// Flags.
    pub flags: CloneFlags,
    /// What the parent is sent when the child dies; `None` for nothing.
    pub exit_signal: Option<Signal>,
    /// The child's stack pointer; 0 for the caller's.
    pub stack: u64,
    /// The child's FS base, with SETTLS.
    pub tls: u64,
    /// Where the parent finds the child's id, with PARENT_SETTID.
    pub parent_tid: UserAddr,
    /// Where the child finds its id, or it is cleared.
    pub child_tid: UserAddr,
    /// Where the parent finds the pidfd, with PIDFD.
    pub pidfd: UserAddr,
    /// The control group that it starts in, with INTO_CGROUP; `None` for the caller's.
    pub cgroup: Option<Arc<Cgroup>>,
}

impl CloneArgs {
    /// What fork(2) asks for, and `flags`.
    #[must_use]
    pub fn plain(flags: CloneFlags) -> Self {
        Self {
            flags,
            exit_signal: Some(Signal::CHLD),
            stack: 0,
            tls: 0,
            parent_tid: UserAddr(0),
            child_tid: UserAddr(0),
            pidfd: UserAddr(0),
            cgroup: None,
        }
    }

    /// The combinations that clone(2) refuses.
    fn check(&self) -> Result<()> {
        use CloneFlags as F;
        let flags = self.flags;
        let needs = |flag: F, needed: F| !flags.contains(flag) || flags.contains(needed);
        let refuses = |a: F, b: F| !flags.contains(a | b);
        let ok = needs(F::SIGHAND, F::VM)
            && needs(F::THREAD, F::SIGHAND)
            && refuses(F::NEWNS, F::FS)
            && refuses(F::NEWPID, F::THREAD)
            && refuses(F::NEWIPC, F::SYSVSEM)
            && refuses(F::PIDFD, F::THREAD)
            && refuses(F::PIDFD, F::DETACHED)
            && refuses(F::CLEAR_SIGHAND, F::SIGHAND);
        if !ok {
            return Err(Errno::EINVAL);
        }
        if flags.contains(F::SETTLS) && self.tls >= UserAddr::LIMIT.0 {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

/// Makes a thread or a process that goes on where the caller is; its id.
///
/// # Errors
/// As clone(2): `EINVAL`, `EAGAIN`, `ENOMEM`, `EPERM`, `EMFILE`, `EFAULT`.
pub fn clone(
    parent: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    args: &CloneArgs,
) -> Result<PidNumber> {
    args.check()?;
    if !exit::may_add_thread(parent) {
        return Err(Errno::EAGAIN);
    }
    if args.cgroup.is_none() {
        members::check_room(parent)?;
    }
    memory::pressure::ensure_headroom()?;
    let namespaces = child_namespaces(parent, args.flags)?;
    let pid = Pid::new(&mut tree::lock(), &namespaces.pid_for_children)?;
    let made = clone_as(parent, own, user, args, &pid, namespaces);
    made.inspect_err(|_| pid.release(&mut tree::lock()))
}

/// As [`clone`], with the id that the child gets; gives what the parent calls it.
fn clone_as(
    parent: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    args: &CloneArgs,
    pid: &Arc<Pid>,
    namespaces: NsProxy,
) -> Result<PidNumber> {
    let flags = args.flags;
    let multi = parent.process().signals.lock().multi;
    let process = if flags.contains(CloneFlags::THREAD) {
        parent.process().clone()
    } else {
        child_process(parent, pid, args)?
    };
    let files = if flags.contains(CloneFlags::FILES) {
        own.files.share()
    } else {
        own.files.duplicate()?
    };
    let start = child_start(parent, files.view(), flags, namespaces)?;
    let child = Thread::new(pid.clone(), &process, start)?;
    let slack = parent.timer_slack_ns.load(Ordering::Relaxed);
    child.timer_slack_ns.store(slack, Ordering::Relaxed);
    let priority = parent.io_priority.load(Ordering::Relaxed);
    child.io_priority.store(priority, Ordering::Relaxed);
    if flags.contains(CloneFlags::CHILD_CLEARTID) {
        child.set_clear_child_tid(args.child_tid.0);
    }
    let vfork = if flags.contains(CloneFlags::VFORK) {
        Some(try_arc(Completion::default())?)
    } else {
        None
    };
    child.vfork.lock().clone_from(&vfork);
    let inherited = trace::inherit(parent, args)?;
    let kernel = prepare(parent, &child, files, user, args)?;
    // Before it can have ended and lost its number.
    let shown = parent.process().shown(pid);
    let child_of = (pid, &child, inherited.as_ref());
    if let Err(errno) = publish::make_known(parent, own, child_of, args, multi) {
        // Thread and kernel thread refer to each other.
        child.set_kernel(None);
        return Err(errno);
    }
    sched::thread::start(&kernel);
    drop(kernel);
    trace::new_child_stop(parent, user, args, pid);
    if let Some(vfork) = vfork {
        freezer::enter_group(parent);
        parent.wait_killable(&vfork.queue, || vfork.is_complete().then_some(()));
        freezer::leave(parent);
        trace::vfork_done_stop(parent, user, pid);
    }
    Ok(shown)
}

/// The namespaces of what is cloned.
fn child_namespaces(parent: &Thread, flags: CloneFlags) -> Result<NsProxy> {
    let own = parent.process().pid_namespace();
    if flags.contains(CloneFlags::THREAD) && parent.children_namespace() != *own {
        return Err(Errno::EINVAL);
    }
    // Its children would be siblings of an init that has none.
    if flags.contains(CloneFlags::PARENT) && parent.process().is_namespace_init() {
        return Err(Errno::EINVAL);
    }
    namespace::unshare(parent, flags)
}

fn child_process(parent: &Thread, pid: &Arc<Pid>, args: &CloneArgs) -> Result<Arc<Process>> {
    let old = parent.process();
    let memory = old.memory().ok_or(Errno::ESRCH)?;
    let memory = if args.flags.contains(CloneFlags::VM) {
        memory
    } else {
        memory.fork()?
    };
    let limits = old.limits().duplicate();
    let actions = child_actions(old, args.flags)?;
    let process = Process::new(pid.clone(), Some(memory), actions, limits)?;
    process.set_image(old.image());
    process.inherit(old);
    timer::watch_cpu_limit(&process);
    Ok(process)
}

fn child_actions(parent: &Process, flags: CloneFlags) -> Result<Arc<SpinLock<Actions>>> {
    let actions = parent.actions();
    if flags.contains(CloneFlags::SIGHAND) {
        return Ok(actions);
    }
    let mut copy = actions.lock().clone();
    if flags.contains(CloneFlags::CLEAR_SIGHAND) {
        copy.reset_for_exec();
    }
    Ok(try_arc(SpinLock::new(copy))?)
}

fn child_start(
    parent: &Thread,
    files: FdView,
    flags: CloneFlags,
    namespaces: NsProxy,
) -> Result<Start> {
    let fs = parent.shared_fs().ok_or(Errno::ESRCH)?;
    let fs = child_fs(parent, &fs, flags)?;
    // A new stack means that the alternate one is somebody else's, except in vfork(2).
    let shares_memory = flags.contains(CloneFlags::VM) && !flags.contains(CloneFlags::VFORK);
    let stack = *parent.alternate_stack.lock();
    Ok(Start {
        resources: Resources {
            files: Some(files),
            fs: Some(fs),
        },
        credentials: parent.credentials(),
        blocked: parent.blocked(),
        alternate_stack: if shares_memory {
            Default::default()
        } else {
            stack
        },
        no_new_privs: parent.no_new_privs(),
        name: parent.name(),
        namespaces,
        undo_list: match flags.contains(CloneFlags::SYSVSEM) {
            true => Some(UndoList::of(parent)?),
            false => None,
        },
    })
}

fn child_fs(parent: &Thread, fs: &Arc<SharedFs>, flags: CloneFlags) -> Result<Arc<SharedFs>> {
    if flags.contains(CloneFlags::FS) {
        return fs.share();
    }
    let copy = fs.context.duplicate()?;
    if flags.contains(CloneFlags::NEWNS) {
        copy.unshare_namespace(&parent.credentials().user_namespace)?;
    }
    SharedFs::new(copy)
}

/// The kernel thread for `child`, ready but not running.
fn prepare(
    parent: &Thread,
    child: &Arc<Thread>,
    files: FdTable,
    user: &UserContext,
    args: &CloneArgs,
) -> Result<ThreadRef> {
    let mut context = try_box(user.duplicate()?)?;
    context.regs.rax = 0;
    if parent.trace_flags().contains(TraceFlags::FORCED_TRAP) {
        // Who steps through the parent does not step through the child.
        context.regs.rflags &= !trace::TRAP_FLAG;
    }
    if args.stack != 0 {
        context.regs.rsp = args.stack;
    }
    if args.flags.contains(CloneFlags::SETTLS) {
        context.regs.fs_base = args.tls;
    }
    let set_tid = args
        .flags
        .contains(CloneFlags::CHILD_SETTID)
        .then_some(args.child_tid);
    let memory = child.process().memory().ok_or(Errno::ESRCH)?;
    let thread = child.clone();
    let entry = move || {
        let process = thread.process();
        process.charge_to_group(&sched::thread::current());
        if let Some(addr) = set_tid {
            // The address is the program's: a bad one is its own affair, as on Linux.
            let _ = memory::user::write(addr, &thread.tid());
        }
        let own = Own::new(&thread, files);
        user_loop::run(&thread, context.start(), own);
    };
    let mut builder = builder_for(child, &memory, entry);
    if let Some(kernel) = parent.kernel() {
        builder = builder
            .attributes(kernel.attributes().for_child())
            .affinity(kernel.affinity());
    }
    let kernel = builder.prepare()?;
    child.set_kernel(Some(kernel.clone()));
    Ok(kernel)
}

/// A builder for the kernel thread of `thread`.
pub(crate) fn builder_for(
    thread: &Arc<Thread>,
    memory: &Arc<AddressSpace>,
    entry: impl FnOnce() + Send + 'static,
) -> ThreadBuilder {
    let page_table = memory.page_table().clone();
    ThreadBuilder::new(&thread.name(), entry)
        .extension(thread.clone())
        .memory(memory.clone(), page_table)
}

//! A user thread: what the kernel knows of it beside its registers.
//!
//! [`resources`] has what it may share with others, [`running`] the kernel thread under it and what stays of
//! that; what is done with them is in [`sharing`] and [`kernel`], with signals and waits in [`attention`]. Its fields are
//! locked one by one; what other locks cover says so.

mod attention;
mod kernel;
mod resources;
mod running;
mod sharing;
mod tracing;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::Result;
use collections::try_arc;
use fs::{Credentials, Kuid};
use machine::sync::{LockedBy, SpinLock};

use crate::cgroup::CgroupNamespace;
use crate::completion::Completion;
use crate::ipc::IpcNamespace;
use crate::ipc::undo::UndoList;
use crate::restart::RestartBlock;
use crate::seccomp;
use crate::signal::number::SignalSet;
use crate::signal::queue::Queue;
use crate::task::cgroup::Cgroup;
use crate::task::ns_proxy::NsProxy;
use crate::task::numbers::{PidNumber, Place};
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::traced::Traced;
use crate::task::tree::{self, TREE, Tree};

pub(crate) use resources::{Resources, SharedFs};
use running::Running;

/// A user thread; the extension of its kernel thread.
#[derive(Debug)]
pub struct Thread {
    /// Its id. exec by a thread that is not the first makes it the first, so it can change.
    pid: LockedBy<Arc<Pid>, Tree>,
    /// The number of its id in its own PID namespace.
    tid: AtomicI32,
    /// Its place among the threads of its process.
    pub(crate) place: AtomicU64,
    process: Arc<Process>,
    /// The kernel thread it runs on.
    running: SpinLock<Running>,
    /// Something is to be done before user code runs again: a signal, a stop, an exit.
    pub(crate) attention: AtomicBool,
    /// Its CPU-time alarm has rung: it is to look at the timers on CPU time.
    pub(crate) cpu_alarm: AtomicBool,
    /// It is to exit, on its own (exit(2)) or with all (exit_group(2), a fatal signal, exec).
    pub(crate) exiting: AtomicBool,
    /// The wait status it exits with, should it be the last.
    pub(crate) exit_status: AtomicI32,
    /// It waits for the end of a stop.
    pub(crate) parked: AtomicBool,
    /// What it is to do for who traces it; 0 when nobody does.
    pub(crate) trace_flags: AtomicU32,
    /// Put and taken with the tree locked.
    pub(crate) traced: SpinLock<Option<Arc<Traced>>>,
    /// It has traced others. Set with the signal state locked, while it lives.
    pub(crate) is_tracer: AtomicBool,
    blocked: AtomicU64,
    /// Signals for this thread alone. Used with the process's signal state locked.
    pub(crate) private: SpinLock<Queue>,
    /// The mask to return to after a handler that interrupted sigsuspend(2) and kin.
    pub(crate) saved_mask: SpinLock<Option<SignalSet>>,
    /// Signals that sigtimedwait(2) waits for: they wake it although it blocks them.
    pub(crate) awaited: AtomicU64,
    pub(crate) alternate_stack: SpinLock<AlternateStack>,
    /// What the last exception said, for signal frames.
    pub(crate) fault: SpinLock<FaultRecord>,
    pub(crate) restart: SpinLock<Option<RestartBlock>>,
    resources: SpinLock<Resources>,
    credentials: SpinLock<Arc<Credentials>>,
    /// The real user id that it counts for; changed with the tree locked.
    real_uid: SpinLock<Kuid>,
    name: SpinLock<[u8; 16]>,
    /// Where to write 0 and wake when it exits (CLONE_CHILD_CLEARTID, set_tid_address(2)).
    pub(crate) clear_child_tid: AtomicU64,
    /// Head of its robust futexes (set_robust_list(2)).
    pub(crate) robust_list: AtomicU64,
    no_new_privs: AtomicBool,
    /// Which system calls it may make.
    pub seccomp: seccomp::State,
    /// Signal to get when the parent dies (PR_SET_PDEATHSIG); 0 for none.
    pub(crate) parent_death_signal: AtomicU8,
    namespaces: SpinLock<NsProxy>,
    /// What its end undoes of semaphores, if it is the last that has it (`CLONE_SYSVSEM`).
    undo_list: SpinLock<Option<Arc<UndoList>>>,
    /// The control group that it is in; none for the root.
    cgroup: LockedBy<Option<Arc<Cgroup>>, Tree>,
    /// It lives and is in another group than the root.
    pub(crate) in_cgroup: AtomicBool,
    /// Its group is frozen: it is to wait on its way to user mode.
    pub(crate) freeze: AtomicBool,
    /// It waits so, or where it could not run programs either. Changed with the tree locked.
    pub(crate) frozen: AtomicBool,
    /// The parent waits in vfork(2) until this thread has let go of its memory.
    pub(crate) vfork: SpinLock<Option<Arc<Completion>>>,
    pub(crate) minor_faults: AtomicU64,
    /// Timer slack in nanoseconds (PR_SET_TIMERSLACK); kept, not used.
    pub timer_slack_ns: AtomicU64,
    /// I/O priority (ioprio_set(2)); kept, not used.
    pub io_priority: AtomicU32,
    start_ns: u64,
}

/// `sigaltstack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 for none.
    pub size: u64,
    /// Disarmed while in use (`SS_AUTODISARM`).
    pub autodisarm: bool,
}

impl AlternateStack {
    /// Whether `sp` is on it. With autodisarm it never counts as in use.
    #[must_use]
    pub fn contains(&self, sp: u64) -> bool {
        !self.autodisarm && sp > self.base && sp - self.base <= self.size
    }
}

/// The last exception of a thread: `err`, `trapno` and `cr2` of `sigcontext`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FaultRecord {
    pub(crate) error_code: u64,
    pub(crate) vector: u64,
    pub(crate) addr: u64,
}

/// What a new thread starts with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) resources: Resources,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) blocked: SignalSet,
    pub(crate) alternate_stack: AlternateStack,
    pub(crate) no_new_privs: bool,
    pub(crate) name: [u8; 16],
    pub(crate) namespaces: NsProxy,
    pub(crate) undo_list: Option<Arc<UndoList>>,
}

impl Thread {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(pid: Arc<Pid>, process: &Arc<Process>, start: Start) -> Result<Arc<Self>> {
        let thread = try_arc(Self {
            tid: AtomicI32::new(pid.number()),
            pid: LockedBy::new(&TREE, pid),
            place: AtomicU64::new(0),
            process: process.clone(),
            running: SpinLock::new(Running::default()),
            attention: AtomicBool::new(false),
            cpu_alarm: AtomicBool::new(false),
            exiting: AtomicBool::new(false),
            exit_status: AtomicI32::new(0),
            parked: AtomicBool::new(false),
            trace_flags: AtomicU32::new(0),
            traced: SpinLock::new(None),
            is_tracer: AtomicBool::new(false),
            blocked: AtomicU64::new(start.blocked.0),
            private: SpinLock::new(Queue::new()),
            saved_mask: SpinLock::new(None),
            awaited: AtomicU64::new(0),
            alternate_stack: SpinLock::new(start.alternate_stack),
            fault: SpinLock::new(FaultRecord::default()),
            restart: SpinLock::new(None),
            resources: SpinLock::new(start.resources),
            real_uid: SpinLock::new(start.credentials.uid),
            credentials: SpinLock::new(start.credentials),
            name: SpinLock::new(start.name),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            no_new_privs: AtomicBool::new(start.no_new_privs),
            seccomp: seccomp::State::default(),
            parent_death_signal: AtomicU8::new(0),
            namespaces: SpinLock::new(start.namespaces),
            undo_list: SpinLock::new(start.undo_list),
            cgroup: LockedBy::new(&TREE, None),
            in_cgroup: AtomicBool::new(false),
            freeze: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            vfork: SpinLock::new(None),
            minor_faults: AtomicU64::new(0),
            timer_slack_ns: AtomicU64::new(50_000),
            io_priority: AtomicU32::new(0),
            start_ns: sched::clock::boottime_ns(),
        })?;
        Ok(thread)
    }

    /// What its PID namespace calls it.
    #[inline]
    #[must_use]
    pub fn tid(&self) -> PidNumber {
        self.tid.load(Ordering::Relaxed)
    }

    /// Which of its process's threads it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place(self.place.load(Ordering::Relaxed))
    }

    /// Whether it is the first of its process: its id is the process's.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.tid() == self.process.pid().number()
    }

    /// Its id. Takes the tree's lock.
    #[must_use]
    pub fn read_pid(&self) -> Arc<Pid> {
        self.pid.get(&tree::lock()).clone()
    }

    pub(crate) fn pid_in<'a>(&'a self, tree: &'a Tree) -> &'a Arc<Pid> {
        self.pid.get(tree)
    }

    pub(crate) fn set_pid(&self, tree: &mut Tree, pid: Arc<Pid>) {
        self.tid.store(pid.number(), Ordering::Relaxed);
        let old = core::mem::replace(self.pid.get_mut(tree), pid);
        drop(old);
    }

    /// The process it belongs to.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// When it started, in nanoseconds since boot.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// The namespaces that it is in.
    #[must_use]
    pub fn namespaces(&self) -> NsProxy {
        self.namespaces.lock().clone()
    }

    /// The IPC namespace that it is in.
    #[must_use]
    pub fn ipc_namespace(&self) -> Arc<IpcNamespace> {
        self.namespaces.lock().ipc.clone()
    }

    /// What its end undoes of semaphores.
    #[must_use]
    pub fn undo_list(&self) -> Option<Arc<UndoList>> {
        self.undo_list.lock().clone()
    }

    /// Lets go of what it would undo, which happens now if nobody else has it; has another list.
    pub fn set_undo_list(&self, list: Option<Arc<UndoList>>) {
        let old = core::mem::replace(&mut *self.undo_list.lock(), list);
        drop(old);
    }

    /// The cgroup namespace that it is in; none for the initial one.
    #[must_use]
    pub fn cgroup_namespace(&self) -> Option<Arc<CgroupNamespace>> {
        self.namespaces.lock().cgroup.clone()
    }

    /// The PID namespace of the processes it makes.
    #[must_use]
    pub fn children_namespace(&self) -> PidNamespace {
        self.namespaces.lock().pid_for_children.clone()
    }

    /// The network that it is in.
    #[must_use]
    pub fn network(&self) -> net::Network {
        self.namespaces.lock().net.clone()
    }

    /// Has it be in other namespaces (unshare(2), setns(2)).
    pub fn set_namespaces(&self, namespaces: NsProxy) {
        let old = core::mem::replace(&mut *self.namespaces.lock(), namespaces);
        drop(old);
    }

    /// The control group that it is in, or was at its end; none for the root. Takes the tree's lock.
    #[must_use]
    pub fn cgroup(&self) -> Option<Arc<Cgroup>> {
        self.cgroup.get(&tree::lock()).clone()
    }

    /// As [`Self::cgroup`], without a lock when it is in the root.
    pub(crate) fn cgroup_if_any(&self) -> Option<Arc<Cgroup>> {
        let is_in_one = self.in_cgroup.load(Ordering::Relaxed);
        if is_in_one { self.cgroup() } else { None }
    }

    pub(crate) fn cgroup_in<'a>(&'a self, tree: &'a Tree) -> &'a Option<Arc<Cgroup>> {
        self.cgroup.get(tree)
    }

    pub(crate) fn cgroup_mut<'a>(&'a self, tree: &'a mut Tree) -> &'a mut Option<Arc<Cgroup>> {
        self.cgroup.get_mut(tree)
    }

    /// Who it is: for permission checks.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// The real user id that it counts for (RLIMIT_NPROC).
    pub(crate) fn real_uid(&self) -> Kuid {
        *self.real_uid.lock()
    }

    /// Makes it someone else; through its [`Own`](crate::own::Own).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn set_credentials(&self, credentials: Credentials) -> Result<()> {
        let new = try_arc(credentials)?;
        if new.uid != self.real_uid() {
            let mut tree = tree::lock();
            tree.change_user(self.real_uid(), new.uid)?;
            *self.real_uid.lock() = new.uid;
        }
        self.put_credentials(new);
        Ok(())
    }

    /// As [`Self::set_credentials`], with the same real user id.
    pub(crate) fn put_credentials(&self, new: Arc<Credentials>) {
        let old = core::mem::replace(&mut *self.credentials.lock(), new);
        drop(old);
    }

    /// The command name, at most 15 bytes, padded with NULs.
    #[must_use]
    pub fn name(&self) -> [u8; 16] {
        *self.name.lock()
    }

    /// Sets the command name; bytes past the 15th are dropped.
    pub fn set_name(&self, name: &[u8]) {
        let mut padded = [0; 16];
        let len = name.len().min(15);
        padded[..len].copy_from_slice(&name[..len]);
        *self.name.lock() = padded;
        if let Some(kernel) = &self.running.lock().kernel {
            kernel.set_name(name);
        }
    }

    /// Whether exec may no longer give privileges.
    #[must_use]
    pub fn no_new_privs(&self) -> bool {
        self.no_new_privs.load(Ordering::Relaxed)
    }

    /// For good: exec gives no privileges any more.
    pub fn set_no_new_privs(&self) {
        self.no_new_privs.store(true, Ordering::Relaxed);
    }

    /// Where to write 0 when it exits.
    pub fn set_clear_child_tid(&self, addr: u64) {
        self.clear_child_tid.store(addr, Ordering::Relaxed);
    }

    /// Where it writes 0 when it exits; 0 for nowhere.
    #[must_use]
    pub fn clear_child_tid_addr(&self) -> u64 {
        self.clear_child_tid.load(Ordering::Relaxed)
    }

    /// The head of its robust futexes.
    #[must_use]
    pub fn robust_list(&self) -> u64 {
        self.robust_list.load(Ordering::Relaxed)
    }

    /// Sets the head of its robust futexes.
    pub fn set_robust_list(&self, head: u64) {
        self.robust_list.store(head, Ordering::Relaxed);
    }

    /// The signal it gets when its parent dies; 0 for none.
    #[must_use]
    pub fn parent_death_signal(&self) -> u8 {
        self.parent_death_signal.load(Ordering::Relaxed)
    }

    /// Sets the signal it gets when its parent dies; 0 for none.
    pub fn set_parent_death_signal(&self, signal: u8) {
        self.parent_death_signal.store(signal, Ordering::Relaxed);
    }

    /// Remembers how restart_syscall(2) is to go on with the call that was interrupted.
    pub fn set_restart(&self, block: RestartBlock) {
        *self.restart.lock() = Some(block);
    }

    /// Takes what [`Self::set_restart`] left.
    pub fn take_restart(&self) -> Option<RestartBlock> {
        self.restart.lock().take()
    }
}

/// The thread that runs, when it is a user thread.
#[must_use]
pub fn current() -> Option<Arc<Thread>> {
    let kernel = sched::thread::current();
    kernel.extension()?.clone().downcast().ok()
}

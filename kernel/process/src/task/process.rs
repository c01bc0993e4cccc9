//! A process: a thread group and what its threads share.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::Result;
use collections::try_arc;
use fs::{Credentials, Kuid, Path, UserNamespace};
use machine::PAGE_SIZE;
use machine::sync::{LockedBy, SpinLock};
use memory::{AddressSpace, MemoryGroup, OwnedGroup};
use sched::WaitQueue;

use crate::rlimit::Limits;
use crate::signal::action::Actions;
use crate::task::numbers::{PidNumber, Place};
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::proc_names::ProcNames;
use crate::task::relations::node::Node;
use crate::task::signals::SignalState;
use crate::task::thread::Thread;
use crate::task::tree::{TREE, Tree};
use crate::timer::state::Timers;
use crate::usage::Usage;

/// A thread group.
#[derive(Debug)]
pub struct Process {
    pid: Arc<Pid>,
    /// What it is to others.
    pub(crate) node: LockedBy<Node, Tree>,
    /// The place of the thread that made it among those of its parent; 0 when it has another parent.
    maker: AtomicU64,
    /// What its PID namespace calls its parent; written with the tree locked.
    pub(crate) parent_number: AtomicI32,
    /// Threads, pending signals, stop and exit.
    pub(crate) signals: SpinLock<SignalState>,
    /// Shared with other processes by CLONE_SIGHAND without CLONE_THREAD.
    actions: SpinLock<Arc<SpinLock<Actions>>>,
    memory: SpinLock<Option<Arc<AddressSpace>>>,
    /// Who is charged for what it allocates; the root without.
    memory_group: SpinLock<Option<Arc<OwnedGroup>>>,
    /// Woken when a child dies, stops or continues.
    pub(crate) child_events: WaitQueue,
    /// Where stopped threads wait.
    pub(crate) stop_queue: WaitQueue,
    /// Woken on each signal sent to it: signalfd.
    pub signal_arrived: Arc<WaitQueue>,
    /// Woken when it has died: pidfd.
    pub exited: Arc<WaitQueue>,
    limits: Limits,
    /// POSIX and interval timers.
    pub timers: Timers,
    image: SpinLock<Image>,
    accounts: SpinLock<Accounts>,
    /// Who it was, once it has no thread any more.
    last_credentials: SpinLock<Option<Arc<Credentials>>>,
    /// Names of folders of /proc that were looked up and mean it.
    pub(crate) proc_names: ProcNames,
    /// Whether it may be dumped and its /proc files belong to its user (PR_SET_DUMPABLE).
    pub dumpable: AtomicU32,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: AtomicI32,
    /// personality(2).
    pub personality: AtomicU32,
    /// /proc/PID/coredump_filter: which mappings a core dump has.
    pub coredump_filter: AtomicU32,
    /// The init of its PID namespace: signals that would kill it by default are dropped.
    pub(crate) is_init: AtomicBool,
    start_ns: u64,
}

/// What Linux starts with: anonymous memory, and the headers of ELF files.
const COREDUMP_FILTER: u32 = 0x33;

fn group_of(owned: Option<&Arc<OwnedGroup>>) -> MemoryGroup {
    owned.map_or(MemoryGroup::ROOT, |owned| owned.group())
}

/// The program that runs.
#[derive(Debug, Default, Clone)]
pub struct Image {
    /// Its file.
    pub exe: Option<Path>,
    /// The auxiliary vector, as bytes.
    pub auxv: Arc<[u8]>,
}

#[derive(Debug, Default)]
struct Accounts {
    /// Threads that have exited.
    dead_threads: Usage,
    /// Children that were waited for.
    children: Usage,
}

impl Process {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        pid: Arc<Pid>,
        memory: Option<Arc<AddressSpace>>,
        actions: Arc<SpinLock<Actions>>,
        limits: Limits,
    ) -> Result<Arc<Self>> {
        let is_init = pid.number() == 1;
        let node = Node::new(&pid);
        let process = try_arc(Self {
            pid,
            node: LockedBy::new(&TREE, node),
            maker: AtomicU64::new(0),
            parent_number: AtomicI32::new(0),
            signals: SpinLock::new(SignalState::default()),
            actions: SpinLock::new(actions),
            memory: SpinLock::new(memory),
            memory_group: SpinLock::new(None),
            child_events: WaitQueue::new(),
            stop_queue: WaitQueue::new(),
            signal_arrived: try_arc(WaitQueue::new())?,
            exited: try_arc(WaitQueue::new())?,
            limits,
            timers: Timers::default(),
            image: SpinLock::new(Image::default()),
            accounts: SpinLock::new(Accounts::default()),
            last_credentials: SpinLock::new(None),
            proc_names: ProcNames::default(),
            dumpable: AtomicU32::new(1),
            oom_score_adj: AtomicI32::new(0),
            personality: AtomicU32::new(0),
            coredump_filter: AtomicU32::new(COREDUMP_FILTER),
            is_init: AtomicBool::new(is_init),
            start_ns: sched::clock::boottime_ns(),
        })?;
        Ok(process)
    }

    /// Its id: that of its first thread.
    #[inline]
    #[must_use]
    pub fn pid(&self) -> &Arc<Pid> {
        &self.pid
    }

    /// The PID namespace it is in, for life: the deepest that sees it.
    #[must_use]
    pub fn pid_namespace(&self) -> &PidNamespace {
        self.pid.namespace()
    }

    /// Whether it is the init of its PID namespace.
    #[must_use]
    pub fn is_namespace_init(&self) -> bool {
        self.pid.number() == 1
    }

    /// What its PID namespace calls `pid`; 0 when it does not see it.
    #[must_use]
    pub fn shown(&self, pid: &Pid) -> PidNumber {
        pid.number_in(self.pid_namespace())
    }

    /// The place of the thread that made it among those of its parent, which nobody has when it has another parent.
    pub(crate) fn maker(&self) -> Place {
        Place(self.maker.load(Ordering::Relaxed))
    }

    pub(crate) fn set_maker(&self, place: Place) {
        self.maker.store(place.0, Ordering::Relaxed);
    }

    /// When it started, in nanoseconds since boot.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// Its address space; `None` once it has let go of it.
    #[must_use]
    pub fn memory(&self) -> Option<Arc<AddressSpace>> {
        self.memory.lock().clone()
    }

    /// The memory group that it is in.
    #[must_use]
    pub fn memory_group(&self) -> MemoryGroup {
        group_of(self.memory_group.lock().as_ref())
    }

    /// Moves it to another memory group, the root without. What it has stays charged where it is.
    pub fn set_memory_group(&self, group: Option<Arc<OwnedGroup>>) {
        let old = core::mem::replace(&mut *self.memory_group.lock(), group);
        for thread in self.threads() {
            if let Some(kernel) = thread.kernel() {
                self.charge_to_group(&kernel);
            }
        }
        // Until now threads charged it.
        drop(old);
    }

    /// Puts a process that has no thread yet into a group.
    pub(crate) fn start_in_memory_group(&self, group: Option<Arc<OwnedGroup>>) {
        *self.memory_group.lock() = group;
    }

    /// Has the process's memory group charged for what a thread of its allocates: each thread does it first of all, so
    /// that none misses a move.
    pub(crate) fn charge_to_group(&self, kernel: &sched::Thread) {
        let group = self.memory_group.lock();
        kernel.set_memory_account(group_of(group.as_ref()).account());
    }

    /// Whether all its threads have been told to end.
    pub(crate) fn is_exiting(&self) -> bool {
        self.signals.lock().exit.is_some()
    }

    pub(crate) fn replace_memory(
        &self,
        memory: Option<Arc<AddressSpace>>,
    ) -> Option<Arc<AddressSpace>> {
        core::mem::replace(&mut *self.memory.lock(), memory)
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it does on each signal.
    #[must_use]
    pub fn actions(&self) -> Arc<SpinLock<Actions>> {
        self.actions.lock().clone()
    }

    pub(crate) fn replace_actions(&self, actions: Arc<SpinLock<Actions>>) {
        let old = core::mem::replace(&mut *self.actions.lock(), actions);
        drop(old);
    }

    /// Takes over what a child inherits beside memory, files and signals.
    pub(crate) fn inherit(&self, parent: &Process) {
        let copy = |to: &AtomicU32, from: &AtomicU32| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&self.dumpable, &parent.dumpable);
        copy(&self.personality, &parent.personality);
        copy(&self.coredump_filter, &parent.coredump_filter);
        let group = parent.memory_group.lock().clone();
        *self.memory_group.lock() = group;
        let score = parent.oom_score_adj.load(Ordering::Relaxed);
        self.oom_score_adj.store(score, Ordering::Relaxed);
    }

    /// Its living threads, oldest first, as they are come to: takes no memory, and no lock between two of them.
    pub fn threads(&self) -> impl Iterator<Item = Arc<Thread>> {
        let mut place = Place::default();
        core::iter::from_fn(move || {
            let next = self.signals.lock().threads.behind(place).cloned()?;
            place = next.place();
            Some(next)
        })
    }

    /// The living thread at this place.
    #[must_use]
    pub fn thread_at(&self, place: Place) -> Option<Arc<Thread>> {
        self.signals.lock().threads.at(place).cloned()
    }

    /// How many threads it has.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.signals.lock().threads.len()
    }

    /// Who it is: the credentials of its oldest thread, of a zombie those of its last one.
    #[must_use]
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        match self.main_thread() {
            Some(thread) => Some(thread.credentials()),
            None => self.last_credentials.lock().clone(),
        }
    }

    /// The user namespace that it is in.
    #[must_use]
    pub fn user_namespace(&self) -> UserNamespace {
        self.credentials()
            .map_or(UserNamespace::INITIAL, |own| own.user_namespace.clone())
    }

    /// What it calls `user`.
    #[must_use]
    pub fn shown_uid(&self, user: Kuid) -> u32 {
        self.user_namespace().shown_uid(user)
    }

    pub(crate) fn leave_credentials(&self, credentials: Arc<Credentials>) {
        *self.last_credentials.lock() = Some(credentials);
    }

    /// Its first thread, or the oldest that lives.
    #[must_use]
    pub fn main_thread(&self) -> Option<Arc<Thread>> {
        self.signals.lock().threads.first().cloned()
    }

    /// The program that runs.
    #[must_use]
    pub fn image(&self) -> Image {
        self.image.lock().clone()
    }

    pub(crate) fn set_image(&self, image: Image) {
        let old = core::mem::replace(&mut *self.image.lock(), image);
        drop(old);
    }

    /// What its threads, living and dead, have used, without memory.
    #[must_use]
    pub fn cpu_usage(&self) -> Usage {
        let dead = self.accounts.lock().dead_threads;
        let state = self.signals.lock();
        let threads = state.threads.iter();
        threads.fold(dead, |sum, thread| sum.plus(thread.usage()))
    }

    /// What its threads, living and dead, have used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut sum = self.cpu_usage();
        if let Some(memory) = self.memory() {
            sum.max_resident = sum
                .max_resident
                .max(memory.peak_resident() * PAGE_SIZE as u64);
        }
        sum
    }

    /// What the children it waited for have used.
    #[must_use]
    pub fn children_usage(&self) -> Usage {
        self.accounts.lock().children
    }

    pub(crate) fn add_dead_thread(&self, usage: Usage) {
        let mut accounts = self.accounts.lock();
        accounts.dead_threads = accounts.dead_threads.plus(usage);
    }

    pub(crate) fn add_children_usage(&self, usage: Usage) {
        let mut accounts = self.accounts.lock();
        accounts.children = accounts.children.plus(usage);
    }
}

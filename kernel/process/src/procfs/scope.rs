//! What a node of /proc is about, and who may look at it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use fs::{FsContext, Kgid, Kuid, UserNamespace};
use memory::AddressSpace;

use crate::access::{self, By};
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::thread::Thread;
use crate::task::{relations, tree};

/// Which process, thread or descriptor a node is about. It keeps none of them: what is known of /proc may be kept long
/// after they are gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// That of this /proc: what ids are called in it.
    namespace: PidNamespace,
    process: Option<Arc<Pid>>,
    /// In a `task` folder: that thread alone.
    thread: Option<Arc<Pid>>,
    /// The thread names its process: /proc/TID.
    is_whole: bool,
    fd: Option<i32>,
}

impl Scope {
    pub(super) fn of_namespace(namespace: PidNamespace) -> Self {
        Self {
            namespace,
            ..Self::default()
        }
    }

    pub(super) fn with_process(&self, process: Arc<Pid>) -> Self {
        Self {
            process: Some(process),
            ..self.clone()
        }
    }

    /// What this /proc calls `pid`; 0 when it does not show it.
    pub(super) fn shown(&self, pid: &Pid) -> PidNumber {
        pid.number_in(&self.namespace)
    }

    /// That of this /proc.
    pub(super) fn namespace(&self) -> &PidNamespace {
        &self.namespace
    }

    /// What this /proc calls `number`.
    pub(super) fn find(&self, number: PidNumber) -> Option<Arc<Pid>> {
        relations::find_pid(&self.namespace, number)
    }

    /// Calls `show` with what each namespace from that of this /proc down to the process's own calls `pid`.
    pub(super) fn for_each_number<E>(
        &self,
        pid: &Pid,
        show: &mut dyn FnMut(PidNumber) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        let Ok(process) = self.process() else {
            return Ok(());
        };
        let own = process.pid_namespace();
        own.for_each_below(&self.namespace, &mut |at| show(pid.number_in(at)))
    }

    pub(super) fn with_thread(&self, pid: Arc<Pid>) -> Self {
        Self {
            thread: Some(pid),
            ..self.clone()
        }
    }

    /// The process, by the id of one of its threads.
    pub(super) fn seen_by_thread(&self, pid: Arc<Pid>) -> Self {
        Self {
            is_whole: true,
            ..self.with_thread(pid)
        }
    }

    pub(super) fn with_fd(&self, fd: i32) -> Self {
        Self {
            fd: Some(fd),
            ..self.clone()
        }
    }

    /// The process, unless it was waited for.
    pub(super) fn process(&self) -> Result<Arc<Process>> {
        let pid = self.process.as_ref().ok_or(Errno::ESRCH)?;
        pid.process(&tree::lock()).cloned().ok_or(Errno::ESRCH)
    }

    /// Whether this is about a process or a part of one.
    pub(super) fn is_of_process(&self) -> bool {
        self.process.is_some()
    }

    /// Whether this is about all of a process, by whichever thread it is named.
    pub(super) fn is_process(&self) -> bool {
        self.is_of_process() && !self.is_thread() && self.fd.is_none()
    }

    /// The name of its process's folder may be kept from here on: it is to be forgotten when the process is gone.
    ///
    /// # Errors
    /// `ENOMEM`, `ESRCH`.
    pub(super) fn note_name(&self, number: PidNumber) -> Result<()> {
        self.process()?
            .proc_names
            .note((self.namespace.ino(), number))
    }

    /// Whether this is one thread rather than the process.
    pub(super) fn is_thread(&self) -> bool {
        self.thread.is_some() && !self.is_whole
    }

    /// The thread, or the process's first one that lives.
    pub(super) fn thread(&self) -> Result<Arc<Thread>> {
        match &self.thread {
            Some(pid) => pid.thread(&tree::lock()).cloned().ok_or(Errno::ESRCH),
            None => self.process()?.main_thread().ok_or(Errno::ESRCH),
        }
    }

    /// The id of the thread, or of the process.
    pub(super) fn id(&self) -> Result<&Arc<Pid>> {
        self.thread
            .as_ref()
            .or(self.process.as_ref())
            .ok_or(Errno::ESRCH)
    }

    /// The descriptor number.
    pub(super) fn fd(&self) -> Result<i32> {
        self.fd.ok_or(Errno::ENOENT)
    }

    /// The root and the mounts that it sees.
    pub(super) fn mount_context(&self) -> Result<Arc<FsContext>> {
        self.thread()?.fs_if_alive().ok_or(Errno::EINVAL)
    }

    /// The command name, of the dead too.
    pub(super) fn name(&self) -> Result<[u8; 16]> {
        if let Ok(thread) = self.thread() {
            return Ok(thread.name());
        }
        let process = self.process()?;
        let tree = tree::lock();
        let node = process.known(&tree).ok_or(Errno::ESRCH)?;
        node.zombie.map(|zombie| zombie.name).ok_or(Errno::ESRCH)
    }

    /// What tells it from others, as numbers.
    pub(super) fn numbers(&self) -> [i32; 3] {
        let process = self.process.as_ref();
        [
            process.map_or(0, |pid| pid.global()),
            self.thread.as_ref().map_or(0, |pid| pid.global()),
            self.fd.map_or(0, |fd| fd + 1),
        ]
    }

    /// Whether what it is about is still there.
    pub(super) fn is_alive(&self) -> bool {
        if self.process.is_none() {
            return true;
        }
        let alive = self.process().is_ok();
        let thread_alive = self.thread.is_none() || self.thread().is_ok();
        let open = |fd| self.thread().ok()?.files_if_alive()?.get(fd).ok();
        alive && thread_alive && self.fd.is_none_or(|fd| open(fd).is_some())
    }

    /// Who owns its files: the process's user, or root when it must not be looked into.
    pub(super) fn owner(&self, is_folder: bool) -> (Kuid, Kgid) {
        let Ok(process) = self.process() else {
            return (Kuid::ROOT, Kgid::ROOT);
        };
        let dumpable = process.dumpable.load(Ordering::Relaxed) == 1;
        match self.thread() {
            Ok(thread) if dumpable || is_folder => {
                let credentials = thread.credentials();
                (credentials.euid, credentials.egid)
            }
            _ => (Kuid::ROOT, Kgid::ROOT),
        }
    }

    /// The user namespace whose numbers the reader goes by.
    pub(super) fn reader_namespace() -> UserNamespace {
        let reader = crate::task::thread::current();
        reader.map_or(UserNamespace::INITIAL, |reader| {
            reader.credentials().user_namespace.clone()
        })
    }

    /// The memory of the process, which the caller may look into; taken before the check, as [`access::memory_of`] does.
    pub(super) fn memory(&self) -> Result<Option<Arc<AddressSpace>>> {
        let memory = self.process()?.memory();
        self.check_access()?;
        Ok(memory)
    }

    /// Whether the caller may look into the process (ptrace(2), "access mode checking").
    pub(super) fn check_access(&self) -> Result<()> {
        let target = self.process()?;
        let Some(caller) = crate::task::thread::current() else {
            return Ok(());
        };
        access::check(&caller, &target, By::FileSystem).map_err(|_| Errno::EACCES)
    }
}

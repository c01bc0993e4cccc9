//! The pod: its containers, their processes, and what may happen to them.
//!
//! One lock guards the table; it is never held across a fork, a mount or anything else that may
//! take long. `changed` is notified whenever a process starts or ends. The reaper, which is the
//! main thread, is the only one that waits for children, so an exit is noted exactly once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use agent_protocol::FailureKind;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};
use tokio::sync::watch;

use crate::cgroups::Cgroup;
use crate::guest::Namespaces;
use crate::mounting::Prepared;
use crate::processes::{self, Snapshot};
use crate::refusal::{Answer, Refusal};
use crate::stats;
use crate::stdio::{self, Streams};

/// How long the processes of a container may take to be gone once they were killed.
const KILL_BOUND: Duration = Duration::from_secs(5);
const SIGKILL: u32 = 9;

/// The pod that this agent runs.
#[derive(Debug)]
pub(crate) struct Pod {
    table: Mutex<Table>,
    changed: Condvar,
    /// Changes at the same time, for who waits without a thread.
    told: watch::Sender<()>,
    pub(crate) streams: Streams,
    /// The shared directory, or why there is none.
    pub(crate) shared: Result<PathBuf, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    containers: HashMap<String, Container>,
    /// How many children were forked, helpers included.
    forked: u64,
    /// Processes that are being started, and the exits of children that are nobody's so far.
    starting: usize,
    early: HashMap<i32, Exit>,
    /// How many exits there have been: each has a number.
    exits: u64,
    /// The kernel's count of processes that died for want of memory, when it was last looked at.
    oom_kills_seen: u64,
}

/// One container.
#[derive(Debug, Default)]
pub(crate) struct Container {
    pub(crate) root: CString,
    /// Destinations of its mounts, in order.
    pub(crate) mounts: Vec<CString>,
    /// The directories that were made in its root for them.
    pub(crate) made: Vec<CString>,
    pub(crate) processes: BTreeMap<String, Process>,
    /// The sessions of all processes that were started here.
    pub(crate) sessions: BTreeSet<i32>,
    /// Whether the first process has a mount namespace that others are to join.
    pub(crate) own_namespace: bool,
    /// Which namespaces it is in.
    pub(crate) namespaces: Namespaces,
    /// Unless its PID namespace is the pod's: its mounts, the late ones of which its first process makes.
    pub(crate) late_mounts: Option<Arc<Vec<Prepared>>>,
    /// With a UTS namespace of its own: its host and domain name.
    pub(crate) names: Option<Arc<Names>>,
    /// What its first process writes to which files of /proc/sys.
    pub(crate) sysctls: Vec<(CString, CString)>,
    /// How many of its processes died for want of memory, as far as that was seen.
    pub(crate) oom_kills: u64,
    /// Its control group, where the kernel has those.
    pub(crate) cgroup: Option<Arc<Cgroup>>,
}

/// Host and domain name of a container; empty ones are left as they are.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) host: String,
    pub(crate) domain: String,
}

/// One process that the host started.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// `None` until the program runs.
    pub(crate) pid: Option<Pid>,
    pub(crate) exit: Option<Exit>,
    /// The master of its terminal, until that is hung up.
    pub(crate) terminal: Option<Arc<Master>>,
    pub(crate) stdin: Option<Arc<OwnedFd>>,
}

/// A terminal's master: the terminal hangs up (SIGHUP to its session's leader and foreground) once nobody has it.
#[derive(Debug)]
pub(crate) struct Master(Mutex<Option<Arc<OwnedFd>>>);

impl Master {
    pub(crate) fn new(master: Arc<OwnedFd>) -> Self {
        Self(Mutex::new(Some(master)))
    }

    /// The master, unless the terminal has been hung up.
    pub(crate) fn get(&self) -> Option<Arc<OwnedFd>> {
        self.lock().clone()
    }

    /// Lets go of it.
    pub(crate) fn hang_up(&self) {
        // Dropped without the lock: closing it may take long.
        let master = self.lock().take();
        drop(master);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Gives them to the UTS namespace of the caller. Makes system calls only.
    pub(crate) fn set(&self) -> Result<(), Errno> {
        if !self.host.is_empty() {
            rustix::system::sethostname(self.host.as_bytes())?;
        }
        if !self.domain.is_empty() {
            rustix::system::setdomainname(self.domain.as_bytes())?;
        }
        Ok(())
    }
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: u32,
    pub(crate) signal: u32,
    pub(crate) at_ns: i64,
    /// Later exits have higher ones; 0 until it is noted.
    pub(crate) number: u64,
}

impl Exit {
    fn of(status: WaitStatus) -> Self {
        let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = since_epoch.unwrap_or_default().as_nanos();
        Self {
            code: number(status.exit_status()).unwrap_or(0),
            signal: number(status.terminating_signal()).unwrap_or(0),
            at_ns: i64::try_from(nanos).unwrap_or(i64::MAX),
            number: 0,
        }
    }
}

impl Pod {
    pub(crate) fn new(shared: Result<PathBuf, String>) -> Self {
        Self {
            table: Mutex::default(),
            changed: Condvar::new(),
            told: watch::Sender::new(()),
            streams: Streams::default(),
            shared,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps children for ever: those that were started, helpers, and adopted orphans.
    pub(crate) fn reap_forever(&self) -> ! {
        loop {
            let forked = self.lock().forked;
            match rustix::process::wait(rustix::process::WaitOptions::empty()) {
                Ok(Some((pid, status))) => self.ended(pid, Exit::of(status)),
                Ok(None) => {}
                // No children: nothing can end, or be orphaned, before the next fork.
                Err(_) => {
                    let mut table = self.lock();
                    while table.forked == forked {
                        table = self
                            .changed
                            .wait(table)
                            .unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        }
    }

    /// Tells the reaper of a new child.
    pub(crate) fn forked(&self) {
        self.lock().forked += 1;
        self.tell();
    }

    /// Notes an exit. When it is a container's first process, the rest of the container ends
    /// with it, before anyone learns of the exit.
    fn ended(&self, pid: Pid, exit: Exit) {
        let mut table = self.lock();
        let found = table.find(pid);
        if exit.signal == SIGKILL {
            drop(table);
            self.note_oom(found.as_ref().map(|(container, _)| &**container));
            table = self.lock();
        }
        let Some((container, exec)) = found else {
            if table.starting > 0 {
                table.early.insert(pid.as_raw_pid(), exit);
            }
            return;
        };
        if exec.is_empty() {
            drop(table);
            self.kill_rest(&container, pid);
            table = self.lock();
        }
        table.note(&container, &exec, exit);
        self.tell();
    }

    /// Kills what is left of a container; runs on the reaper's thread and reaps meanwhile.
    fn kill_rest(&self, container: &str, first: Pid) {
        let deadline = Instant::now() + KILL_BOUND;
        loop {
            let mut rest = self.members(container);
            rest.retain(|pid| *pid != first.as_raw_pid());
            if rest.is_empty() || Instant::now() > deadline {
                return;
            }
            self.kill_each(container, rest);
            while let Ok(Some((pid, status))) =
                rustix::process::wait(rustix::process::WaitOptions::NOHANG)
            {
                self.ended(pid, Exit::of(status));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the members of a container: by its control group all at once, and those that they make meanwhile.
    pub(crate) fn kill_each(&self, container: &str, members: Vec<i32>) {
        match self.cgroup(container) {
            Some(cgroup) => cgroup.kill(),
            None => members.into_iter().for_each(|pid| {
                processes::signal(pid, Signal::KILL);
            }),
        }
    }

    /// The control group of a container.
    pub(crate) fn cgroup(&self, container: &str) -> Option<Arc<Cgroup>> {
        self.lock().container(container).ok()?.cgroup.clone()
    }

    /// The pids of a container's living processes.
    pub(crate) fn members(&self, container: &str) -> Vec<i32> {
        if let Some(cgroup) = self.cgroup(container) {
            return cgroup.members();
        }
        let snapshot = Snapshot::take();
        let table = self.lock();
        let only = table.containers.len() == 1;
        let Some(container) = table.containers.get(container) else {
            return Vec::new();
        };
        snapshot.members(&container.sessions, only)
    }

    /// Every living process of every container.
    pub(crate) fn all_members(&self) -> Vec<i32> {
        let ids: Vec<_> = self.lock().containers.keys().cloned().collect();
        ids.iter().flat_map(|id| self.members(id)).collect()
    }

    /// Changes whenever a process starts or ends.
    pub(crate) fn follow(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// Counts for a container what the kernel has killed for want of memory since this was last asked.
    pub(crate) fn note_oom(&self, container: Option<&str>) {
        let total = stats::oom_kills();
        let mut table = self.lock();
        // A control group knows its own.
        let mut is_news = false;
        for container in table.containers.values_mut() {
            if let Some(cgroup) = &container.cgroup {
                let now = cgroup.oom_kills();
                is_news |= now > container.oom_kills;
                container.oom_kills = now;
            }
        }
        let fresh = total.saturating_sub(table.oom_kills_seen);
        table.oom_kills_seen = total;
        // What nobody knows the container of is the one container's.
        let only = table.containers.len() == 1;
        let container = match container {
            Some(id) => table.containers.get_mut(id),
            None if only => table.containers.values_mut().next(),
            None => None,
        };
        if let Some(container) = container.filter(|container| container.cgroup.is_none()) {
            container.oom_kills += fresh;
        }
        drop(table);
        if fresh > 0 || is_news {
            self.tell();
        }
    }

    fn tell(&self) {
        self.changed.notify_all();
        self.told.send_modify(|()| {});
    }

    /// Holds a name for a process while it is being started.
    pub(crate) fn begin_start(&self, container: &str, exec: &str) -> Answer<()> {
        let mut table = self.lock();
        let first_runs = table
            .container(container)?
            .processes
            .get("")
            .map(|first| first.pid.is_some() && first.exit.is_none());
        match (exec.is_empty(), first_runs) {
            (false, None) => {
                return Err(Refusal::state(format!(
                    "container \"{container}\" has not been started"
                )));
            }
            (false, Some(false)) => {
                return Err(Refusal::state(format!(
                    "container \"{container}\" does not run"
                )));
            }
            _ => {}
        }
        let processes = &mut table.container_mut(container)?.processes;
        if processes.contains_key(exec) {
            let sentence =
                format!("process \"{exec}\" of container \"{container}\" exists already");
            return Err(Refusal::new(FailureKind::FAILURE_KIND_EXISTS, sentence));
        }
        processes.insert(exec.to_owned(), Process::default());
        table.starting += 1;
        Ok(())
    }

    /// Completes [`begin_start`](Self::begin_start) with a running process, or undoes it.
    pub(crate) fn end_start(&self, container: &str, exec: &str, started: Option<Process>) {
        let mut table = self.lock();
        table.starting = table.starting.saturating_sub(1);
        let pid = started
            .as_ref()
            .and_then(|process| process.pid)
            .map(Pid::as_raw_pid);
        let early = pid.and_then(|pid| table.early.remove(&pid));
        if table.starting == 0 {
            table.early.clear();
        }
        let Ok(entry) = table.container_mut(container) else {
            return;
        };
        let Some(process) = started else {
            entry.processes.remove(exec);
            return;
        };
        entry.sessions.extend(pid);
        entry.processes.insert(exec.to_owned(), process);
        if let Some(exit) = early {
            table.note(container, exec, exit);
        }
        drop(table);
        self.tell();
        if early.is_some() && exec.is_empty() {
            // The first process was gone before it was known as such.
            self.kill_each(container, self.members(container));
        }
    }
}

impl Process {
    fn note(&mut self, exit: Exit) {
        self.exit = Some(exit);
        if let Some(stdin) = self.stdin.take() {
            stdio::end_stdin(&stdin);
        }
    }
}

impl Table {
    pub(crate) fn insert(&mut self, id: &str, container: Container) -> Answer<()> {
        if self.containers.contains_key(id) {
            let sentence = format!("container \"{id}\" exists already");
            return Err(Refusal::new(FailureKind::FAILURE_KIND_EXISTS, sentence));
        }
        self.containers.insert(id.to_owned(), container);
        Ok(())
    }

    /// Takes all of them out.
    pub(crate) fn take_all(&mut self) -> Vec<Container> {
        self.containers
            .drain()
            .map(|(_, container)| container)
            .collect()
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Container> {
        self.containers.remove(id)
    }

    pub(crate) fn container(&self, id: &str) -> Answer<&Container> {
        self.containers.get(id).ok_or_else(|| no_container(id))
    }

    pub(crate) fn container_mut(&mut self, id: &str) -> Answer<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| no_container(id))
    }

    pub(crate) fn process(&self, container: &str, exec: &str) -> Answer<&Process> {
        let process = self.container(container)?.processes.get(exec);
        process.ok_or_else(|| {
            let sentence = format!("there is no process \"{exec}\" in container \"{container}\"");
            Refusal::new(FailureKind::FAILURE_KIND_NO_SUCH, sentence)
        })
    }

    /// Notes the end of a process.
    fn note(&mut self, container: &str, exec: &str, exit: Exit) {
        self.exits += 1;
        let number = self.exits;
        if let Some(process) = self.process_mut(container, exec) {
            process.note(Exit { number, ..exit });
        }
    }

    /// The containers, by name.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&String, &Container)> {
        self.containers.iter()
    }

    fn process_mut(&mut self, container: &str, exec: &str) -> Option<&mut Process> {
        self.containers.get_mut(container)?.processes.get_mut(exec)
    }

    /// The container and exec id of a started process.
    fn find(&self, pid: Pid) -> Option<(String, String)> {
        self.containers.iter().find_map(|(id, container)| {
            let running = |process: &Process| process.pid == Some(pid) && process.exit.is_none();
            let mut processes = container.processes.iter();
            let (exec, _) = processes.find(|(_, process)| running(process))?;
            Some((id.clone(), exec.clone()))
        })
    }
}

fn no_container(id: &str) -> Refusal {
    Refusal::new(
        FailureKind::FAILURE_KIND_NO_SUCH,
        format!("there is no container \"{id}\""),
    )
}

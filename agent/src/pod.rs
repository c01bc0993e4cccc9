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
use rustix::process::{Pid, Signal, WaitStatus};
use tokio::sync::watch;

use crate::mounting::Prepared;
use crate::processes::{self, Snapshot};
use crate::refusal::{Answer, Refusal};
use crate::stdio::{self, Streams};

/// How long the processes of a container may take to be gone once they were killed.
const KILL_BOUND: Duration = Duration::from_secs(5);

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
}

/// One container.
#[derive(Debug)]
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
    /// With a PID namespace of its own: its mounts, the late ones of which its first process makes.
    pub(crate) late_mounts: Option<Arc<Vec<Prepared>>>,
}

/// One process that the host started.
#[derive(Debug)]
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

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: u32,
    pub(crate) signal: u32,
    pub(crate) at_ns: i64,
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
        let Some((container, exec)) = table.find(pid) else {
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
        if let Some(process) = table.process_mut(&container, &exec) {
            process.note(exit);
        }
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
            for pid in rest {
                processes::signal(pid, Signal::KILL);
            }
            while let Ok(Some((pid, status))) =
                rustix::process::wait(rustix::process::WaitOptions::NOHANG)
            {
                self.ended(pid, Exit::of(status));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The pids of a container's living processes.
    pub(crate) fn members(&self, container: &str) -> Vec<i32> {
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

    /// Waits for a process's end; `None` when the time is over.
    pub(crate) async fn wait(
        &self,
        container: &str,
        exec: &str,
        timeout: Option<Duration>,
    ) -> Answer<Option<Exit>> {
        let mut told = self.told.subscribe();
        let ended = async {
            loop {
                // Before looking: what happens after that is a change.
                told.mark_unchanged();
                if let Some(exit) = self.lock().process(container, exec)?.exit {
                    return Ok(exit);
                }
                // The sender is this pod's own.
                let _ = told.changed().await;
            }
        };
        match timeout {
            Some(timeout) => tokio::time::timeout(timeout, ended).await.ok().transpose(),
            None => ended.await.map(Some),
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
        let starting = Process {
            pid: None,
            exit: None,
            terminal: None,
            stdin: None,
        };
        processes.insert(exec.to_owned(), starting);
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
        let Some(mut process) = started else {
            entry.processes.remove(exec);
            return;
        };
        entry.sessions.extend(pid);
        if let Some(exit) = early {
            process.note(exit);
        }
        entry.processes.insert(exec.to_owned(), process);
        drop(table);
        self.tell();
        if early.is_some() && exec.is_empty() {
            // The first process was gone before it was known as such.
            for pid in self.members(container) {
                processes::signal(pid, Signal::KILL);
            }
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

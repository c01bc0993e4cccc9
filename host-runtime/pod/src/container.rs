//! A container: its processes from Create to Delete.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_protocol::{StartProcessRequest, StatsResponse};

use crate::agent::{AgentError, ProcessExit};
use crate::error::PodError;
use crate::event::Event;
use crate::pod::Parts;
use crate::process::{Exit, Lost, Process, Stage};
use crate::runtime;
use crate::stdio::{Ends, Patience, Streams};
use host_machine::bounds;

/// The exit status of a process whose microVM ended under it.
const LOST: u32 = 255;
const SIGKILL: u32 = 9;

/// A container that has been created.
pub struct Container {
    id: String,
    parts: Parts,
    /// By exec id; the empty one is the first process.
    processes: Mutex<BTreeMap<String, Arc<Process>>>,
    skipped_mounts: Vec<String>,
}

impl Container {
    pub(crate) fn new(
        id: String,
        parts: Parts,
        init: StartProcessRequest,
        skipped_mounts: Vec<String>,
    ) -> Self {
        let init = Arc::new(Process::new(init));
        Self {
            id,
            parts,
            processes: Mutex::new(BTreeMap::from([(String::new(), init)])),
            skipped_mounts,
        }
    }

    /// Its name in the pod.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The destinations of optional mounts that the guest's kernel does not offer; the guest's words.
    #[must_use]
    pub fn skipped_mounts(&self) -> &[String] {
        &self.skipped_mounts
    }

    /// Asks whether its first process could be started: its user, its working directory, its program.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub fn check(&self) -> Result<(), PodError> {
        let init = self.process("")?;
        let answer = self.parts.agent.check_process(init.request());
        self.parts.explained(answer)
    }

    /// The process of an exec id; the empty one is the container's first.
    ///
    /// # Errors
    /// [`PodError::NotFound`].
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>, PodError> {
        self.lock()
            .get(exec_id)
            .cloned()
            .ok_or_else(|| PodError::NotFound {
                what: format!("no process {exec_id} in container {}", self.id),
            })
    }

    /// Adds a process that [`Container::start`] will start.
    ///
    /// # Errors
    /// [`PodError::State`] unless the container runs, [`PodError::Exists`] for an exec id that is taken.
    pub fn add_exec(&self, mut request: StartProcessRequest) -> Result<(), PodError> {
        let init = self.process("")?;
        if !matches!(init.stage(), Stage::Running) {
            return Err(PodError::State {
                what: format!("container {} is not running", self.id),
            });
        }
        // What is the container's, and not one process's.
        request.seccomp.clone_from(&init.request().seccomp);
        request.seccomp_flags = init.request().seccomp_flags;
        let exec_id = request.exec_id.clone();
        let mut processes = self.lock();
        if exec_id.is_empty() || processes.contains_key(&exec_id) {
            return Err(PodError::Exists {
                what: format!("process {exec_id}"),
            });
        }
        processes.insert(exec_id, Arc::new(Process::new(request)));
        Ok(())
    }

    /// Starts a process with these ends of its stdio, and watches for its end.
    ///
    /// # Errors
    /// The agent's refusal, with the process as it was; or how the guest was lost.
    pub fn start(self: &Arc<Self>, exec_id: &str, ends: Ends) -> Result<(), PodError> {
        self.parts.check_runs()?;
        let process = self.process(exec_id)?;
        if !process.claim_start() {
            return Err(PodError::State {
                what: format!("process {exec_id} was started before"),
            });
        }
        let streams = self.run(&process, &ends);
        let streams = streams.inspect_err(|_| process.release_start())?;
        process.set_running();
        tracing::debug!(container = self.id, exec = exec_id, "a process runs");
        let (container, exec) = (self.id.clone(), exec_id.to_owned());
        (self.parts.observer)(Event::Started { container, exec });
        let log = self.parts.log.as_ref().filter(|_| exec_id.is_empty());
        let connected = streams.connect(ends, process.outputs(), log);
        let watched = connected.and_then(|()| self.watch(exec_id, &process));
        watched.inspect_err(|_| {
            // Without its threads it is of no use, and nobody would see it end.
            let _ = self.parts.agent.signal(&self.id, exec_id, SIGKILL, false);
            let exit = process.set_stopped(128 + SIGKILL, None);
            self.tell_exit(exec_id, exit);
        })
    }

    /// Has the guest run it.
    fn run(&self, process: &Process, ends: &Ends) -> Result<Streams, PodError> {
        let mut request = process.request().clone();
        let streams = Streams::open(&self.parts.agent, ends, &mut request);
        let streams = self.parts.explained(streams)?;
        let answer = self.parts.agent.start_process(&request);
        self.parts.explained(answer)?;
        Ok(streams)
    }

    /// Waits for the guest to say how a process ended; a guest that is gone is an end too.
    fn watch(self: &Arc<Self>, exec_id: &str, process: &Arc<Process>) -> Result<(), PodError> {
        let (container, process) = (Arc::clone(self), Arc::clone(process));
        let exec_id = exec_id.to_owned();
        let runtime = runtime::handle().map_err(|source| PodError::Thread {
            what: "a process's end",
            source,
        })?;
        runtime.spawn(async move {
            let ended = container.parts.agent.ended(&container.id, &exec_id).await;
            runtime::blocking(move || container.note_end(&exec_id, &process, ended)).await;
        });
        Ok(())
    }

    /// Tells how a process ended, by the guest's word or by how the guest was lost.
    fn note_end(&self, exec_id: &str, process: &Process, ended: Result<ProcessExit, AgentError>) {
        let (status, lost) = match ended {
            Ok(exit) => (u32::from(exit.shell_code()), None),
            // Bounded: a connection breaks because the machine is ending.
            Err(error) => match self.parts.machine.wait(Some(bounds::GUEST_LOST.get())) {
                Some(reason) => (LOST, Some(Lost::Machine(reason))),
                None => (LOST, Some(Lost::Agent(error.to_string()))),
            },
        };
        if exec_id.is_empty() {
            self.wait_stragglers();
        }
        let exit = process.set_stopped(status, lost);
        self.tell_exit(exec_id, exit);
    }

    /// The first process's end is the container's: the others' ends are told before it.
    fn wait_stragglers(&self) {
        let others: Vec<_> = {
            let processes = self.lock();
            let others = processes.iter().filter(|(id, _)| !id.is_empty());
            others.map(|(_, process)| Arc::clone(process)).collect()
        };
        for process in others {
            if matches!(process.stage(), Stage::Running) {
                process.wait_within(bounds::STRAGGLERS.get());
            }
        }
    }

    /// Sends a signal to a process, or to all.
    ///
    /// # Errors
    /// [`PodError::NotFound`] for one that has ended, [`PodError::State`] for one that has not started unless the
    /// signal is SIGKILL, which ends it. In a paused pod SIGKILL resumes it, and others are refused.
    pub fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<(), PodError> {
        let process = self.process(exec_id)?;
        match process.stage() {
            Stage::Running => {
                if signal == SIGKILL && self.parts.is_paused() {
                    // As Linux has it of the frozen: nothing keeps a process from being killed.
                    self.parts.resume()?;
                }
                self.parts.check_runs()?;
                self.parts.agent.signal(&self.id, exec_id, signal, all)?;
                if signal == SIGKILL {
                    // Clients delete the process next, and on one kernel the kill would be done by now.
                    process.wait_within(bounds::KILLED.get());
                }
                Ok(())
            }
            Stage::Stopped(_) => Err(PodError::NotFound {
                what: "process already finished".to_owned(),
            }),
            Stage::Created if signal == SIGKILL => {
                self.tell_exit(exec_id, process.set_stopped(128 + SIGKILL, None));
                Ok(())
            }
            Stage::Created | Stage::Starting => Err(PodError::State {
                what: format!(
                    "process {exec_id} has not started, so it takes no signal but SIGKILL"
                ),
            }),
        }
    }

    /// Passes a signal on to a process, without waiting for what it does.
    ///
    /// # Errors
    /// As the agent has it.
    pub fn signal(&self, exec_id: &str, signal: u32) -> Result<(), PodError> {
        Ok(self.parts.agent.signal(&self.id, exec_id, signal, false)?)
    }

    /// Tells a process's terminal its new size.
    ///
    /// # Errors
    /// As the agent has it.
    pub fn resize(&self, exec_id: &str, rows: u32, columns: u32) -> Result<(), PodError> {
        self.parts.check_runs()?;
        Ok(self.parts.agent.resize(&self.id, exec_id, rows, columns)?)
    }

    /// What it uses in the guest, and the guest as a whole.
    ///
    /// # Errors
    /// As the agent has it.
    pub fn stats(&self) -> Result<StatsResponse, PodError> {
        self.parts.check_runs()?;
        Ok(self.parts.agent.stats(&self.id)?)
    }

    /// The pids of its processes in the guest.
    ///
    /// # Errors
    /// As the agent has it.
    pub fn pids(&self) -> Result<Vec<u32>, PodError> {
        self.parts.check_runs()?;
        let listed = self.parts.agent.list_processes(&self.id)?;
        let pids = listed.processes.iter();
        Ok(pids
            .map(|process| u32::try_from(process.pid).unwrap_or(0))
            .collect())
    }

    /// Forgets an exec that has ended.
    ///
    /// # Errors
    /// [`PodError::State`] while it runs.
    pub fn delete_exec(&self, exec_id: &str) -> Result<Exit, PodError> {
        let process = self.process(exec_id)?;
        let is_known_there = !matches!(process.stage(), Stage::Created);
        let exit = self.ended(&process, exec_id)?;
        if is_known_there {
            // A guest that is gone has forgotten it already.
            let _ = self.parts.agent.delete_process(&self.id, exec_id);
        }
        self.lock().remove(exec_id);
        Ok(exit)
    }

    /// The end of the container's first process, once its output has been passed on; the microVM may then go.
    ///
    /// # Errors
    /// [`PodError::State`] while it runs.
    pub fn delete(&self) -> Result<Exit, PodError> {
        let init = self.process("")?;
        self.ended(&init, "")
    }

    /// The end of a process that may be deleted: it has ended, or was never started.
    fn ended(&self, process: &Process, exec_id: &str) -> Result<Exit, PodError> {
        let exit = match process.stage() {
            Stage::Stopped(exit) => exit,
            Stage::Created => process.set_stopped(0, None),
            Stage::Starting | Stage::Running => {
                return Err(PodError::State {
                    what: format!("process {exec_id} still runs; kill it first"),
                });
            }
        };
        let drain = Patience {
            silence: bounds::DRAIN.get(),
            most: bounds::DRAIN.get(),
        };
        if let Err(error) = process.wait_outputs(drain) {
            // A reader that does not read must not keep a container from ending.
            tracing::warn!("{}: {error}", self.id);
        }
        Ok(exit)
    }

    fn tell_exit(&self, exec_id: &str, exit: Exit) {
        tracing::debug!(
            container = self.id,
            exec = exec_id,
            status = exit.status,
            "a process has ended"
        );
        (self.parts.observer)(Event::Exited {
            container: self.id.clone(),
            exec: exec_id.to_owned(),
            exit,
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Process>>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("id", &self.id)
            .field("processes", &self.lock())
            .finish_non_exhaustive()
    }
}

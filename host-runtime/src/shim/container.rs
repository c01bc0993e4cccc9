//! One container in one microVM: its life from Create to Delete.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{TaskExecStarted, TaskExit, TaskStart};
use containerd_shim_protos::topics;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::ShimError;
use super::events::Publisher;
use super::process::{Exit, Process, Stage};
use super::rootfs::SharedDir;
use super::spec;
use super::stdio::StdioPaths;
use crate::agent::{Agent, printable};
use crate::images;
use crate::printing::tell;
use crate::sandbox::{LogTarget, Sandbox, SandboxConfig};

/// How long the guest may take from its start to a working agent.
const BOOT_BOUND: Duration = Duration::from_secs(60);
/// How long the guest may take to power off before it is ended from outside.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(10);
/// How long the ends of execs may take once the container's first process has ended.
const STRAGGLER_BOUND: Duration = Duration::from_secs(5);
/// How long output may take to drain once its process has ended.
const DRAIN_BOUND: Duration = Duration::from_secs(5);
/// How long a killed process's end is waited for before the kill is answered all the same.
const KILL_BOUND: Duration = Duration::from_secs(5);
/// The exit status of a process whose microVM ended under it.
const LOST: u32 = 255;
const SIGKILL: u32 = 9;

/// A container that has been created.
pub(super) struct Container {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    // In this order: the guest goes before what it sees.
    agent: Agent,
    sandbox: Arc<Sandbox>,
    _shared: SharedDir,
    publisher: Arc<Mutex<Publisher>>,
    processes: Mutex<BTreeMap<String, Arc<Process>>>,
}

impl Container {
    /// Boots the microVM and mounts what the container sees; starts nothing in it.
    pub(super) fn create(
        request: &CreateTaskRequest,
        publisher: Arc<Mutex<Publisher>>,
    ) -> Result<Self, ShimError> {
        refuse_unsupported(request)?;
        let paths = StdioPaths {
            terminal: request.terminal,
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
        };
        paths.check()?;
        let bundle = Path::new(&request.bundle);
        let mut spec = spec::read(&request.id, bundle)?;
        let mut shared = SharedDir::create(bundle)?;
        shared.mount_rootfs(&request.rootfs, &spec.root)?;
        for bind in &spec.binds {
            spec.create.mounts[bind.mount].source =
                shared.add_bind(&bind.source, bind.read_only)?;
        }
        let images = images::locate()?;
        let sandbox = Arc::new(Sandbox::start(&SandboxConfig {
            cpus: spec.cpus,
            memory_bytes: spec.memory_bytes,
            shared_dir: Some(shared.path().to_owned()),
            log: LogTarget::File(bundle.join("console.log")),
            ..SandboxConfig::new(images.kernel, images.initramfs)
        })?);
        if spec.init.oom_score_adj != 0 {
            // On the host the microVM is the container. Its score inside orders its own processes.
            set_oom_score(sandbox.vmm_pid(), spec.init.oom_score_adj)?;
        }
        let agent = Agent::connect(Arc::clone(&sandbox) as _, BOOT_BOUND)?;
        for skipped in agent.create_container(&spec.create)?.skipped_mounts {
            tell(format_args!(
                "{}: the guest has nothing to mount on {}",
                request.id,
                printable(&skipped)
            ));
        }
        // A program that is not there fails Create, as with runc, not Start.
        agent.check_process(&spec.init)?;
        spec.init.terminal = request.terminal;
        let init = Arc::new(Process::new(spec.init, paths));
        Ok(Self {
            id: request.id.clone(),
            bundle: bundle.to_owned(),
            agent,
            sandbox,
            _shared: shared,
            publisher,
            processes: Mutex::new(BTreeMap::from([(String::new(), init)])),
        })
    }

    /// The pid that stands for the container on the host: its VMM's.
    pub(super) fn pid(&self) -> u32 {
        self.sandbox.vmm_pid()
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The process of an exec id; the empty one is the container's first.
    pub(super) fn process(&self, exec_id: &str) -> Result<Arc<Process>, ShimError> {
        self.lock()
            .get(exec_id)
            .cloned()
            .ok_or_else(|| ShimError::NotFound {
                what: format!("no process {exec_id} in container {}", self.id),
            })
    }

    /// Adds a process that Start will start.
    pub(super) fn add_exec(&self, exec_id: &str, process: Process) -> Result<(), ShimError> {
        if !matches!(self.process("")?.stage(), Stage::Running) {
            return Err(ShimError::State {
                what: format!("container {} is not running", self.id),
            });
        }
        let mut processes = self.lock();
        if exec_id.is_empty() || processes.contains_key(exec_id) {
            return Err(ShimError::Exists {
                what: format!("process {exec_id}"),
            });
        }
        processes.insert(exec_id.to_owned(), Arc::new(process));
        Ok(())
    }

    /// Starts a process, tells containerd, and watches for its end.
    pub(super) fn start(self: &Arc<Self>, exec_id: &str) -> Result<(), ShimError> {
        let process = self.process(exec_id)?;
        if !process.claim_start() {
            return Err(ShimError::State {
                what: format!("process {exec_id} was started before"),
            });
        }
        if let Err(error) = self.run(&process) {
            // Its threads end; a client that tries again brings new FIFOs.
            process.stdio.close_stdin();
            process.release_start();
            return Err(error);
        }
        process.set_running();
        self.publish_start(exec_id);
        let container = Arc::clone(self);
        let id = exec_id.to_owned();
        std::thread::Builder::new()
            .name("wait".to_owned())
            .spawn(move || container.watch(&id, &process))
            .map(drop)
            .map_err(|source| ShimError::System {
                what: "start a waiting thread",
                source,
            })
    }

    /// Connects a process's stdio and has the guest run it.
    fn run(&self, process: &Process) -> Result<(), ShimError> {
        let tokens = process.stdio.open(&self.agent, &process.paths)?;
        let mut request = process.request.clone();
        request.stdin_token = tokens.stdin;
        request.stdout_token = tokens.stdout;
        request.stderr_token = tokens.stderr;
        self.agent.start_process(&request)?;
        Ok(())
    }

    /// Waits for the guest to say how a process ended; a guest that is gone is an end too.
    fn watch(&self, exec_id: &str, process: &Process) {
        let status = match self.agent.wait(&self.id, exec_id) {
            Ok(exit) => u32::from(exit.shell_code()),
            Err(error) => {
                // Bounded: a connection breaks because the VMM is ending.
                let reason = self.wait_machine(SHUTDOWN_BOUND);
                let why = reason.map_or_else(|| error.to_string(), |reason| reason.to_string());
                tell(format_args!("{}: lost process {exec_id:?}: {why}", self.id));
                LOST
            }
        };
        if exec_id.is_empty() {
            self.wait_stragglers();
        }
        self.publish_exit(exec_id, &process.set_stopped(status));
    }

    /// The first process's end is the container's: the others' ends are told before it.
    fn wait_stragglers(&self) {
        let others: Vec<_> = {
            let processes = self.lock();
            processes
                .iter()
                .filter(|(id, _)| !id.is_empty())
                .map(|(_, process)| Arc::clone(process))
                .collect()
        };
        for process in others {
            if matches!(process.stage(), Stage::Running) {
                process.wait_within(STRAGGLER_BOUND);
            }
        }
    }

    /// Sends a signal to a process, or to all.
    pub(super) fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<(), ShimError> {
        let process = self.process(exec_id)?;
        match process.stage() {
            Stage::Running => {
                self.agent.signal(&self.id, exec_id, signal, all)?;
                if signal == SIGKILL {
                    // Clients delete the process next, and on one kernel the kill would be done by now.
                    process.wait_within(KILL_BOUND);
                }
                Ok(())
            }
            Stage::Stopped(_) => Err(ShimError::NotFound {
                what: "process already finished".to_owned(),
            }),
            Stage::Created if signal == SIGKILL => {
                self.publish_exit(exec_id, &process.set_stopped(128 + SIGKILL));
                Ok(())
            }
            Stage::Created | Stage::Starting => Err(ShimError::State {
                what: format!(
                    "process {exec_id} has not started, so it takes no signal but SIGKILL"
                ),
            }),
        }
    }

    /// Forgets an exec that has ended.
    pub(super) fn delete_exec(&self, exec_id: &str) -> Result<Exit, ShimError> {
        let process = self.process(exec_id)?;
        let exit = ended(&process, exec_id)?;
        process.stdio.wait_outputs(DRAIN_BOUND);
        // A guest that is gone has forgotten it already.
        let _ = self.agent.delete_process(&self.id, exec_id);
        self.lock().remove(exec_id);
        Ok(exit)
    }

    /// Ends the microVM once the container's first process has ended.
    pub(super) fn delete(&self) -> Result<Exit, ShimError> {
        let init = self.process("")?;
        let exit = ended(&init, "")?;
        init.stdio.wait_outputs(DRAIN_BOUND);
        self.shut_down();
        Ok(exit)
    }

    /// Powers the guest off, by force when it does not follow.
    pub(super) fn shut_down(&self) {
        let asked = self.agent.shutdown(Duration::ZERO);
        if asked.is_err() || self.wait_machine(SHUTDOWN_BOUND).is_none() {
            self.sandbox.kill();
        }
    }

    fn wait_machine(&self, bound: Duration) -> Option<crate::sandbox::ExitReason> {
        let timeout = Timespec::try_from(bound).ok();
        let mut fds = [PollFd::from_borrowed_fd(
            self.sandbox.exit_fd(),
            PollFlags::IN,
        )];
        // An interrupted poll only shortens the bound.
        let _ = poll(&mut fds, timeout.as_ref());
        self.sandbox.try_wait()
    }

    fn publish_start(&self, exec_id: &str) {
        let publisher = self.publisher();
        if exec_id.is_empty() {
            let event = TaskStart {
                container_id: self.id.clone(),
                pid: self.pid(),
                ..Default::default()
            };
            publisher.publish(topics::TASK_START_EVENT_TOPIC, &event);
        } else {
            let event = TaskExecStarted {
                container_id: self.id.clone(),
                exec_id: exec_id.to_owned(),
                pid: self.pid(),
                ..Default::default()
            };
            publisher.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
        }
    }

    fn publish_exit(&self, exec_id: &str, exit: &Exit) {
        let event = TaskExit {
            container_id: self.id.clone(),
            id: if exec_id.is_empty() {
                self.id.clone()
            } else {
                exec_id.to_owned()
            },
            pid: self.pid(),
            exit_status: exit.status,
            exited_at: Some(exit.at.clone()).into(),
            ..Default::default()
        };
        self.publisher()
            .publish(topics::TASK_EXIT_EVENT_TOPIC, &event);
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Process>>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a Create request may ask for besides `config.json`, and does not get.
fn refuse_unsupported(request: &CreateTaskRequest) -> Result<(), ShimError> {
    let unsupported = |what: String| Err(ShimError::Unsupported { what });
    if !request.checkpoint.is_empty() || !request.parent_checkpoint.is_empty() {
        return unsupported("starting from a checkpoint".to_owned());
    }
    match request.options.as_ref() {
        // Another runtime's options, all of them as they are by default, ask for nothing.
        Some(options) if !options.value.is_empty() => {
            unsupported(format!("a task option of {}", options.type_url))
        }
        _ => Ok(()),
    }
}

fn set_oom_score(pid: u32, score: i32) -> Result<(), ShimError> {
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, score.to_string()).map_err(ShimError::file("write", path))
}

/// The end of a process that may be deleted: it has ended, or was never started.
fn ended(process: &Process, exec_id: &str) -> Result<Exit, ShimError> {
    match process.stage() {
        Stage::Stopped(exit) => Ok(exit),
        Stage::Created => Ok(process.set_stopped(0)),
        Stage::Starting | Stage::Running => Err(ShimError::State {
            what: format!("process {exec_id} still runs; kill it first"),
        }),
    }
}

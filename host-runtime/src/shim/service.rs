//! The Task API: each call decoded, passed on, answered.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskExecAdded, TaskIO};
use containerd_shim_protos::ttrpc::{Result, TtrpcContext};
use containerd_shim_protos::{Task, topics};

use super::container::Container;
use super::error::ShimError;
use super::events::Publisher;
use super::process::{Process, Stage};
use super::spec;
use super::stdio::StdioPaths;

/// The service of one daemon: at most one container.
pub(super) struct Service {
    id: String,
    bundle: PathBuf,
    container: Mutex<Option<Arc<Container>>>,
    publisher: Arc<Mutex<Publisher>>,
    stop: Mutex<Sender<()>>,
}

impl Service {
    pub(super) fn new(id: String, bundle: PathBuf, publisher: Publisher, stop: Sender<()>) -> Self {
        Self {
            id,
            bundle,
            container: Mutex::new(None),
            publisher: Arc::new(Mutex::new(publisher)),
            stop: Mutex::new(stop),
        }
    }

    /// Ends what is left and sends the last events.
    pub(super) fn drain(&self) {
        if let Some(container) = self.lock().take() {
            container.shut_down();
        }
        self.publisher().drain();
    }

    fn container(&self, id: &str) -> std::result::Result<Arc<Container>, ShimError> {
        self.lock()
            .clone()
            .filter(|container| container.id == id)
            .ok_or_else(|| ShimError::NotFound {
                what: format!("no container {id} here; this shim is for {}", self.id),
            })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Container>>> {
        self.container
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task for Service {
    fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        // Held all along: a second Create waits and is refused.
        let mut slot = self.lock();
        if slot.is_some() {
            return Err(ShimError::Exists {
                what: format!("container {}", self.id),
            }
            .into());
        }
        let container = Container::create(&request, Arc::clone(&self.publisher))?;
        let pid = container.pid();
        *slot = Some(Arc::new(container));
        let io = TaskIO {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            ..Default::default()
        };
        let event = TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: Some(io).into(),
            pid,
            ..Default::default()
        };
        self.publisher()
            .publish(topics::TASK_CREATE_EVENT_TOPIC, &event);
        Ok(CreateTaskResponse {
            pid,
            ..Default::default()
        })
    }

    fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let container = self.container(&request.id)?;
        container.start(&request.exec_id)?;
        Ok(StartResponse {
            pid: container.pid(),
            ..Default::default()
        })
    }

    fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let (status, exit) = match process.stage() {
            Stage::Created | Stage::Starting => (Status::CREATED, None),
            Stage::Running => (Status::RUNNING, None),
            Stage::Stopped(exit) => (Status::STOPPED, Some(exit)),
        };
        Ok(StateResponse {
            id: request.id,
            exec_id: request.exec_id,
            bundle: container.bundle.display().to_string(),
            pid: container.pid(),
            status: status.into(),
            stdin: process.paths.stdin.clone(),
            stdout: process.paths.stdout.clone(),
            stderr: process.paths.stderr.clone(),
            terminal: process.paths.terminal,
            exit_status: exit.as_ref().map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at).into(),
            ..Default::default()
        })
    }

    fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let exit = self
            .container(&request.id)?
            .process(&request.exec_id)?
            .wait();
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_at: Some(exit.at).into(),
            ..Default::default()
        })
    }

    fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        self.container(&request.id)?
            .kill(&request.exec_id, request.signal, request.all)?;
        Ok(Empty::default())
    }

    fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let container = self.container(&request.id)?;
        let pid = container.pid();
        let exit = if request.exec_id.is_empty() {
            let exit = container.delete()?;
            *self.lock() = None;
            let event = TaskDelete {
                container_id: request.id,
                pid,
                exit_status: exit.status,
                exited_at: Some(exit.at.clone()).into(),
                ..Default::default()
            };
            self.publisher()
                .publish(topics::TASK_DELETE_EVENT_TOPIC, &event);
            exit
        } else {
            container.delete_exec(&request.exec_id)?
        };
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.at).into(),
            ..Default::default()
        })
    }

    fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        let mut start = spec::read_exec(&request.id, &request.exec_id, &request.spec.value)?;
        start.terminal = request.terminal;
        if start.oom_score_adj == 0 {
            // An exec that says nothing is as the container is.
            start.oom_score_adj = container.process("")?.request.oom_score_adj;
        }
        let paths = StdioPaths {
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        paths.check()?;
        container.add_exec(&request.exec_id, Process::new(start, paths))?;
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..Default::default()
        };
        self.publisher()
            .publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(Empty::default())
    }

    fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        let container = self.container(&request.id)?;
        container
            .agent()
            .resize(&request.id, &request.exec_id, request.height, request.width)
            .map_err(ShimError::from)?;
        Ok(Empty::default())
    }

    fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.stdio.close_stdin();
        }
        Ok(Empty::default())
    }

    fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.container(&request.id)?;
        let listed = container
            .agent()
            .list_processes(&request.id)
            .map_err(ShimError::from)?;
        let processes = listed.processes.iter().map(|process| ProcessInfo {
            pid: u32::try_from(process.pid).unwrap_or(0),
            ..Default::default()
        });
        Ok(PidsResponse {
            processes: processes.collect(),
            ..Default::default()
        })
    }

    fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> Result<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.lock().as_ref().map_or(0, |container| container.pid()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Result<Empty> {
        // As containerd's own shim: without `now` a shim that has a container stays.
        if request.now || self.lock().is_none() {
            let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            // The daemon that no longer listens is stopping already.
            let _ = stop.send(());
        }
        Ok(Empty::default())
    }

    fn pause(&self, _: &TtrpcContext, _: PauseRequest) -> Result<Empty> {
        Err(ShimError::Unimplemented { call: "Pause" }.into())
    }

    fn resume(&self, _: &TtrpcContext, _: ResumeRequest) -> Result<Empty> {
        Err(ShimError::Unimplemented { call: "Resume" }.into())
    }

    fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Result<Empty> {
        Err(ShimError::Unimplemented { call: "Checkpoint" }.into())
    }

    fn update(&self, _: &TtrpcContext, _: UpdateTaskRequest) -> Result<Empty> {
        Err(ShimError::Unimplemented { call: "Update" }.into())
    }

    fn stats(&self, _: &TtrpcContext, _: StatsRequest) -> Result<StatsResponse> {
        Err(ShimError::Unimplemented { call: "Stats" }.into())
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = (&self.id, &self.bundle);
        f.debug_tuple("Service").field(&fields).finish()
    }
}

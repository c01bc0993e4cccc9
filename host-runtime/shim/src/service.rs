//! The Task API: each call decoded, passed on, answered.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskExecAdded, TaskIO};
use containerd_shim_protos::shim_async::Task as TaskApi;
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::Result;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;

use pod::runtime::blocking;
use pod::{Process, Stage};

use super::args::Args;
use super::error::ShimError;
use super::events::{Publisher, timestamp};
use super::metrics;
use super::stdio::StdioPaths;
use super::task::Task;

/// The calls of one daemon's service, as they come in.
pub(super) struct Calls(pub(super) Arc<Service>);

/// The service of one daemon: at most one container.
pub(super) struct Service {
    namespace: String,
    id: String,
    bundle: PathBuf,
    task: Mutex<Option<Arc<Task>>>,
    publisher: Arc<Mutex<Publisher>>,
    stop: Mutex<Sender<()>>,
}

impl Service {
    pub(super) fn new(
        args: &Args,
        bundle: PathBuf,
        publisher: Publisher,
        stop: Sender<()>,
    ) -> Self {
        Self {
            namespace: args.namespace.clone(),
            id: args.id.clone(),
            bundle,
            task: Mutex::new(None),
            publisher: Arc::new(Mutex::new(publisher)),
            stop: Mutex::new(stop),
        }
    }

    /// Ends what is left and sends the last events.
    pub(super) fn drain(&self) {
        if let Some(task) = self.lock().take() {
            task.shut_down();
        }
        self.publisher().drain();
    }

    fn task(&self, id: &str) -> std::result::Result<Arc<Task>, ShimError> {
        self.lock()
            .clone()
            .filter(|task| task.container.id() == id)
            .ok_or_else(|| ShimError::NotFound {
                what: format!("no container {id} here; this shim is for {}", self.id),
            })
    }

    fn process(&self, id: &str, exec_id: &str) -> std::result::Result<Arc<Process>, ShimError> {
        Ok(self.task(id)?.container.process(exec_id)?)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Task>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Task API: each call on a thread on which it may block, but for the waiting ones, of which there may be many.
macro_rules! task_api {
    ($($call:ident: $request:ty => $answer:ty,)*) => {
        #[async_trait]
        impl TaskApi for Calls {
            $(
                async fn $call(&self, _: &TtrpcContext, request: $request) -> Result<$answer> {
                    let service = Arc::clone(&self.0);
                    blocking(move || service.$call(request)).await
                }
            )*

            async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
                // The task is not held meanwhile: the last who has it waits for its microVM to go.
                let process = self.0.process(&request.id, &request.exec_id)?;
                let exit = process.ended().await;
                Ok(WaitResponse {
                    exit_status: exit.status,
                    exited_at: Some(timestamp(exit.at)).into(),
                    ..Default::default()
                })
            }
        }
    };
}

task_api! {
    create: CreateTaskRequest => CreateTaskResponse,
    start: StartRequest => StartResponse,
    state: StateRequest => StateResponse,
    kill: KillRequest => Empty,
    delete: DeleteRequest => DeleteResponse,
    exec: ExecProcessRequest => Empty,
    resize_pty: ResizePtyRequest => Empty,
    close_io: CloseIORequest => Empty,
    pids: PidsRequest => PidsResponse,
    connect: ConnectRequest => ConnectResponse,
    shutdown: ShutdownRequest => Empty,
    pause: PauseRequest => Empty,
    resume: ResumeRequest => Empty,
    checkpoint: CheckpointTaskRequest => Empty,
    update: UpdateTaskRequest => Empty,
    stats: StatsRequest => StatsResponse,
}

#[expect(clippy::needless_pass_by_value, reason = "requests come by value")]
impl Service {
    fn create(&self, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        // Held all along: a second Create waits and is refused.
        let mut slot = self.lock();
        if slot.is_some() {
            return Err(ShimError::Exists {
                what: format!("container {}", self.id),
            }
            .into());
        }
        let task = Task::create(&self.namespace, &request, &self.publisher)?;
        let pid = task.pid();
        *slot = Some(Arc::new(task));
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

    fn start(&self, request: StartRequest) -> Result<StartResponse> {
        let task = self.task(&request.id)?;
        task.start(&request.exec_id)?;
        Ok(StartResponse {
            pid: task.pid(),
            ..Default::default()
        })
    }

    fn state(&self, request: StateRequest) -> Result<StateResponse> {
        let task = self.task(&request.id)?;
        let process = task
            .container
            .process(&request.exec_id)
            .map_err(ShimError::from)?;
        let stdio = task.stdio(&request.exec_id)?;
        let (status, exit) = match process.stage() {
            Stage::Created | Stage::Starting => (Status::CREATED, None),
            Stage::Running if task.pod().is_paused() => (Status::PAUSED, None),
            Stage::Running => (Status::RUNNING, None),
            Stage::Stopped(exit) => (Status::STOPPED, Some(exit)),
        };
        Ok(StateResponse {
            id: request.id,
            exec_id: request.exec_id,
            bundle: task.bundle.display().to_string(),
            pid: task.pid(),
            status: status.into(),
            stdin: stdio.paths.stdin.clone(),
            stdout: stdio.paths.stdout.clone(),
            stderr: stdio.paths.stderr.clone(),
            terminal: stdio.paths.terminal,
            exit_status: exit.as_ref().map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    fn kill(&self, request: KillRequest) -> Result<Empty> {
        let task = self.task(&request.id)?;
        task.container
            .kill(&request.exec_id, request.signal, request.all)
            .map_err(ShimError::from)?;
        Ok(Empty::default())
    }

    fn delete(&self, request: DeleteRequest) -> Result<DeleteResponse> {
        let task = self.task(&request.id)?;
        let pid = task.pid();
        let exit = if request.exec_id.is_empty() {
            let exit = task.delete()?;
            *self.lock() = None;
            let event = TaskDelete {
                container_id: request.id,
                pid,
                exit_status: exit.status,
                exited_at: Some(timestamp(exit.at)).into(),
                ..Default::default()
            };
            self.publisher()
                .publish(topics::TASK_DELETE_EVENT_TOPIC, &event);
            exit
        } else {
            task.delete_exec(&request.exec_id)?
        };
        Ok(DeleteResponse {
            pid,
            exit_status: exit.status,
            exited_at: Some(timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    fn exec(&self, request: ExecProcessRequest) -> Result<Empty> {
        let task = self.task(&request.id)?;
        let start = oci::read_exec(&request.id, &request.exec_id, &request.spec.value);
        let mut start = start.map_err(ShimError::from)?;
        start.terminal = request.terminal;
        if start.oom_score_adj == 0 {
            // An exec that says nothing is as the container is.
            let init = task.container.process("").map_err(ShimError::from)?;
            start.oom_score_adj = init.request().oom_score_adj;
        }
        let paths = StdioPaths {
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        task.add_exec(start, paths)?;
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..Default::default()
        };
        self.publisher()
            .publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(Empty::default())
    }

    fn resize_pty(&self, request: ResizePtyRequest) -> Result<Empty> {
        let task = self.task(&request.id)?;
        task.container
            .resize(&request.exec_id, request.height, request.width)
            .map_err(ShimError::from)?;
        Ok(Empty::default())
    }

    fn close_io(&self, request: CloseIORequest) -> Result<Empty> {
        let stdio = self.task(&request.id)?.stdio(&request.exec_id)?;
        if request.stdin {
            stdio.close_stdin();
        }
        Ok(Empty::default())
    }

    fn pids(&self, request: PidsRequest) -> Result<PidsResponse> {
        let task = self.task(&request.id)?;
        let pids = task.container.pids().map_err(ShimError::from)?;
        let processes = pids.into_iter().map(|pid| ProcessInfo {
            pid,
            ..Default::default()
        });
        Ok(PidsResponse {
            processes: processes.collect(),
            ..Default::default()
        })
    }

    fn connect(&self, _: ConnectRequest) -> Result<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.lock().as_ref().map_or(0, |task| task.pid()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    fn shutdown(&self, request: ShutdownRequest) -> Result<Empty> {
        // As containerd's own shim: without `now` a shim that has a container stays.
        if request.now || self.lock().is_none() {
            let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            // The daemon that no longer listens is stopping already.
            let _ = stop.send(());
        }
        Ok(Empty::default())
    }

    /// All of the container: its microVM.
    fn pause(&self, request: PauseRequest) -> Result<Empty> {
        let task = self.task(&request.id)?;
        task.pod().pause().map_err(ShimError::from)?;
        Ok(Empty::default())
    }

    fn resume(&self, request: ResumeRequest) -> Result<Empty> {
        let task = self.task(&request.id)?;
        task.pod().resume().map_err(ShimError::from)?;
        Ok(Empty::default())
    }

    fn checkpoint(&self, _: CheckpointTaskRequest) -> Result<Empty> {
        Err(ShimError::Unimplemented { call: "Checkpoint" }.into())
    }

    fn update(&self, _: UpdateTaskRequest) -> Result<Empty> {
        Err(ShimError::Unimplemented { call: "Update" }.into())
    }

    fn stats(&self, request: StatsRequest) -> Result<StatsResponse> {
        let task = self.task(&request.id)?;
        let metrics = metrics::of(&task.stats()?);
        Ok(StatsResponse {
            stats: Some(metrics).into(),
            ..Default::default()
        })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = (&self.id, &self.bundle);
        f.debug_tuple("Service").field(&fields).finish()
    }
}

//! The calls of `pod.proto`, each a few lines: check, act on the pod, answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_protocol::{FailureKind, StartProcessRequest, User, refuse};
use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use ttrpc::Result;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use super::streams::StreamTable;
use super::{Hub, metrics};
use crate::agent::AgentError;
use crate::container::Container;
use crate::error::PodError;
use crate::log::{LogRecord, PodLog, Position, Source};
use crate::pod::Pod;
use crate::process::{Process, Stage};
use crate::runtime::blocking;
use crate::stdio::{Broken, Ends};
use crate::wire::{
    self, Empty, ExecRequest, ExecResponse, KillRequest, LogRecords, LogsRequest, MetricsResponse,
    PodService, ResizeTerminalRequest, StateResponse, StatsResponse, Status, UpdateRequest,
    WaitRequest, WaitResponse,
};

/// Exec ids of processes that came in here; no other client's begin so.
pub(super) const EXEC_PREFIX: &str = "nacre-exec-";
/// How long the end of a process is kept for who has not asked yet.
const KEPT: Duration = Duration::from_secs(10);
const SIGHUP: u32 = 1;
/// Bytes of output after which a message is full: one record more still has room in it.
const MESSAGE_BYTES: usize = 64 * 1024;

/// One pod's service.
pub(super) struct Service {
    pod: Arc<Pod>,
    container: Arc<Container>,
    /// Namespace and name.
    name: (String, String),
    hub: Hub,
    log: Arc<PodLog>,
    events: broadcast::Sender<wire::Event>,
    streams: Arc<StreamTable>,
    stopping: watch::Receiver<bool>,
    waiting: watch::Sender<usize>,
    execs: Arc<Mutex<BTreeMap<String, Arc<Process>>>>,
    next: AtomicU64,
}

/// One request that waits, counted.
struct Waiting(watch::Sender<usize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Hangs a terminal up whose client goes while it waits.
struct HangUp {
    container: Arc<Container>,
    exec: Option<String>,
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(exec) = self.exec.take() {
            let container = Arc::clone(&self.container);
            // One that has just ended needs no signal.
            tokio::spawn(blocking(move || drop(container.signal(&exec, SIGHUP))));
        }
    }
}

impl Service {
    pub(super) fn new(
        name: (String, String),
        pod: Arc<Pod>,
        container: Arc<Container>,
        hub: &Hub,
        streams: Arc<StreamTable>,
        stopping: watch::Receiver<bool>,
        waiting: watch::Sender<usize>,
    ) -> Self {
        Self {
            pod,
            container,
            name,
            hub: hub.clone(),
            log: Arc::clone(&hub.log),
            events: hub.events.clone(),
            streams,
            stopping,
            waiting,
            execs: Arc::default(),
            next: AtomicU64::new(1),
        }
    }

    fn wait_counted(&self) -> Waiting {
        self.waiting.send_modify(|count| *count += 1);
        Waiting(self.waiting.clone())
    }

    /// The process of an exec id, also when it has just been forgotten.
    fn process(&self, exec: &str) -> Result<Arc<Process>> {
        let known = lock(&self.execs).get(exec).cloned();
        match known {
            Some(process) => Ok(process),
            None => self.container.process(exec).map_err(refused),
        }
    }

    /// Does something that may block with the container.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Container>) -> std::result::Result<T, PodError> + Send + 'static,
    ) -> Result<T> {
        let container = Arc::clone(&self.container);
        blocking(move || work(&container)).await.map_err(refused)
    }

    /// Forgets a process some time after its end.
    fn forget_later(&self, exec: String, process: Arc<Process>) {
        let (container, execs) = (Arc::clone(&self.container), Arc::clone(&self.execs));
        tokio::spawn(async move {
            process.ended().await;
            let name = exec.clone();
            // A guest that is gone has forgotten it already.
            let _ = blocking(move || container.delete_exec(&name)).await;
            tokio::time::sleep(KEPT).await;
            lock(&execs).remove(&exec);
        });
    }
}

#[async_trait]
impl PodService for Service {
    async fn state(&self, _: &TtrpcContext, _: Empty) -> Result<StateResponse> {
        let stage = self.process("")?.stage();
        let (status, exit_status) = match stage {
            Stage::Created | Stage::Starting => (Status::STATUS_CREATED, 0),
            Stage::Running if self.pod.is_paused() => (Status::STATUS_PAUSED, 0),
            Stage::Running => (Status::STATUS_RUNNING, 0),
            Stage::Stopped(exit) => (Status::STATUS_STOPPED, exit.status),
        };
        Ok(StateResponse {
            status: status.into(),
            machine_pid: self.pod.machine().pid(),
            exit_status,
            ..Default::default()
        })
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecRequest) -> Result<ExecResponse> {
        let ends = Ends {
            stdin: self
                .streams
                .take(request.stdin_token)
                .await
                .map_err(refused)?,
            stdout: self
                .streams
                .take(request.stdout_token)
                .await
                .map_err(refused)?,
            stderr: self
                .streams
                .take(request.stderr_token)
                .await
                .map_err(refused)?,
            broken: Broken::HangUp,
            window: (request.rows != 0).then_some((request.rows, request.columns)),
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let exec_id = format!("{EXEC_PREFIX}{number}");
        let start = start_request(self.process("")?.request(), &exec_id, request);
        let exec = exec_id.clone();
        self.with(move |container| {
            container.add_exec(start)?;
            container.start(&exec, ends).inspect_err(|_| {
                let _ = container.delete_exec(&exec);
            })
        })
        .await?;
        // It cannot have been forgotten yet: nobody else knows its id.
        let process = self.process(&exec_id)?;
        lock(&self.execs).insert(exec_id.clone(), Arc::clone(&process));
        self.forget_later(exec_id.clone(), process);
        Ok(ExecResponse {
            exec_id,
            ..Default::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let _waiting = self.wait_counted();
        let process = self.process(&request.exec_id)?;
        let is_ours = request.exec_id.starts_with(EXEC_PREFIX);
        let has_client = is_ours && process.request().terminal;
        let mut hang_up = HangUp {
            container: Arc::clone(&self.container),
            exec: has_client.then_some(request.exec_id),
        };
        let exit = process.ended().await;
        hang_up.exec = None;
        Ok(WaitResponse {
            exit_status: exit.status,
            lost: exit.lost.map_or_else(String::new, |lost| lost.to_string()),
            ..Default::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        let kill = move |container: &Arc<Container>| {
            container.kill(&request.exec_id, request.signal, false)
        };
        self.with(kill).await.map(|()| Empty::default())
    }

    async fn resize_terminal(
        &self,
        _: &TtrpcContext,
        request: ResizeTerminalRequest,
    ) -> Result<Empty> {
        let resize = move |container: &Arc<Container>| {
            container.resize(&request.exec_id, request.rows, request.columns)
        };
        self.with(resize).await.map(|()| Empty::default())
    }

    async fn pause(&self, _: &TtrpcContext, _: Empty) -> Result<Empty> {
        let pod = Arc::clone(&self.pod);
        let done = blocking(move || pod.pause()).await;
        done.map(|()| Empty::default()).map_err(refused)
    }

    async fn resume(&self, _: &TtrpcContext, _: Empty) -> Result<Empty> {
        let pod = Arc::clone(&self.pod);
        let done = blocking(move || pod.resume()).await;
        done.map(|()| Empty::default()).map_err(refused)
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateRequest) -> Result<Empty> {
        let Some(bytes) = request.memory_bytes else {
            return Ok(Empty::default());
        };
        let pod = Arc::clone(&self.pod);
        let done = blocking(move || pod.limit_memory(bytes)).await;
        done.map(|()| Empty::default()).map_err(refused)
    }

    async fn stats(&self, _: &TtrpcContext, _: Empty) -> Result<StatsResponse> {
        let (pod, hub) = (Arc::clone(&self.pod), self.hub.clone());
        let stats = move |container: &Arc<Container>| hub.stats(&pod, container);
        self.with(stats).await
    }

    async fn metrics(&self, context: &TtrpcContext, _: Empty) -> Result<MetricsResponse> {
        let stats = self.stats(context, Empty::default()).await?;
        let (namespace, name) = &self.name;
        let text = metrics::text(namespace, name, &stats);
        Ok(MetricsResponse {
            text,
            ..Default::default()
        })
    }

    async fn logs(
        &self,
        _: &TtrpcContext,
        request: LogsRequest,
        sender: ServerStreamSender<LogRecords>,
    ) -> Result<()> {
        let _waiting = self.wait_counted();
        let mut changes = self.log.follow();
        let mut at = Position::default();
        let mut tail = request.tail;
        loop {
            // Before reading: what comes after that is a change.
            let has_ended = *changes.borrow_and_update();
            let records = match tail.take() {
                Some(lines) => self.log.read_last(lines, &mut at),
                None => self.log.read(&mut at),
            };
            if records.is_empty() {
                if has_ended || !request.follow || changes.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            for records in messages(records, request.since_ns) {
                sender.send(&records).await?;
            }
        }
    }

    async fn events(
        &self,
        _: &TtrpcContext,
        _: Empty,
        sender: ServerStreamSender<wire::Event>,
    ) -> Result<()> {
        let _waiting = self.wait_counted();
        let mut events = self.events.subscribe();
        let mut stopping = self.stopping.clone();
        loop {
            let event = tokio::select! {
                biased;
                event = events.recv() => event,
                _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            };
            match event {
                Ok(event) => sender.send(&event).await?,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }
}

/// Records as messages, each of which has room in one of ttrpc's, without those that are older than asked for.
fn messages(records: Vec<LogRecord>, since_ns: u64) -> Vec<LogRecords> {
    let mut messages: Vec<LogRecords> = Vec::new();
    let mut bytes = 0;
    for record in records
        .into_iter()
        .filter(|record| record.at_ns >= since_ns)
    {
        if messages.is_empty() || bytes >= MESSAGE_BYTES {
            messages.push(LogRecords::default());
            bytes = 0;
        }
        bytes += record.data.len();
        if let Some(message) = messages.last_mut() {
            message.records.push(wire::LogRecord {
                at_ns: record.at_ns,
                stderr: record.source == Source::Stderr,
                data: record.data,
                ..Default::default()
            });
        }
    }
    messages
}

/// As the container's first process, but for what the request says.
fn start_request(
    init: &StartProcessRequest,
    exec_id: &str,
    request: ExecRequest,
) -> StartProcessRequest {
    let mut start = init.clone();
    start.exec_id = exec_id.to_owned();
    start.args = request.args;
    for variable in request.env {
        let name = variable.split('=').next().unwrap_or_default();
        let is_same = |known: &String| known.split('=').next() == Some(name);
        start.env.retain(|known| !is_same(known));
        start.env.push(variable);
    }
    if !request.cwd.is_empty() {
        start.cwd = request.cwd;
    }
    if !request.user.is_empty() {
        let user = User {
            name: request.user,
            ..Default::default()
        };
        let is_root = matches!(user.name.split(':').next(), Some("root" | "0"));
        start.user = Some(user).into();
        if let Some(sets) = start.capabilities.as_mut().filter(|_| !is_root) {
            // Another user gains them as on Linux, by programs that bring them.
            (sets.effective, sets.permitted, sets.ambient) = (0, 0, 0);
        }
    }
    start.terminal = request.terminal;
    start.window_size = None.into();
    start
}

/// What a client is told; its kind travels in the details as the agent's do.
#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn refused(error: PodError) -> ttrpc::Error {
    let kind = match &error {
        PodError::Agent(error @ AgentError::Refused { .. }) => error.kind(),
        PodError::NotFound { .. } => Some(FailureKind::FAILURE_KIND_NO_SUCH),
        PodError::Exists { .. } => Some(FailureKind::FAILURE_KIND_EXISTS),
        PodError::State { .. } => Some(FailureKind::FAILURE_KIND_STATE),
        _ => None,
    };
    let kind = kind.unwrap_or(FailureKind::FAILURE_KIND_SYSTEM);
    refuse(kind, "", error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use agent_protocol::Capabilities;

    use super::*;

    #[test]
    fn an_exec_is_as_the_first_process_but_for_what_it_says() {
        let init = StartProcessRequest {
            args: vec!["init".to_owned()],
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            cwd: "/work".to_owned(),
            terminal: true,
            no_new_privileges: true,
            capabilities: Some(Capabilities {
                bounding: 3,
                permitted: 3,
                ..Default::default()
            })
            .into(),
            ..Default::default()
        };
        let asked = ExecRequest {
            args: vec!["sh".to_owned()],
            env: vec!["A=3".to_owned()],
            ..Default::default()
        };
        let start = start_request(&init, "e", asked.clone());
        assert_eq!(start.env, ["B=2", "A=3"]);
        assert_eq!((&*start.cwd, start.terminal), ("/work", false));
        assert!(start.no_new_privileges);
        assert_eq!(start.capabilities, init.capabilities);
        let as_root = ExecRequest {
            user: "root:daemon".to_owned(),
            ..asked.clone()
        };
        let start = start_request(&init, "e", as_root);
        assert_eq!(start.capabilities, init.capabilities);
        let as_user = ExecRequest {
            user: "nobody".to_owned(),
            ..asked
        };
        let start = start_request(&init, "e", as_user);
        assert_eq!(start.user.name, "nobody");
        let sets = start.capabilities;
        assert_eq!((sets.bounding, sets.permitted), (3, 0));
    }
}

//! The calls of the protocol, each a few lines: check, act on the [`Pod`], answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::{
    AgentService, CloseStdinRequest, ConfigureNetworkRequest, CreateContainerRequest,
    CreateContainerResponse, DeleteContainerRequest, DeleteProcessRequest, Empty, Event,
    EventsRequest, FailureKind, HelloRequest, HelloResponse, ListProcessesRequest,
    ListProcessesResponse, PROTOCOL_VERSION, PauseContainerRequest, ReadFileRequest,
    ReadFileResponse, ReseedRequest, ResizeTerminalRequest, ResumeContainerRequest,
    SetClockRequest, ShutdownRequest, SignalProcessRequest, StartProcessRequest,
    StartProcessResponse, StatsRequest, StatsResponse, UpdateContainerRequest, UpdatePodRequest,
    WriteFileRequest, list_processes_response,
};
use async_trait::async_trait;
use rustix::process::Signal;
use ttrpc::r#async::{ServerStreamSender, TtrpcContext};

use crate::cgroups::Cgroup;
use crate::events::Told;
use crate::guest::{self, Namespaces, Which, not_yet};
use crate::mounting;
use crate::mounts::{self, Place, Wanted};
use crate::network;
use crate::pod::{Container, Names, Pod};
use crate::processes;
use crate::refusal::{Answer, Refusal};
use crate::start;
use crate::stats;
use crate::stdio;
use crate::sys;
use crate::terminal;

/// What ends the machine, or the test.
pub(crate) type PowerOff = fn() -> !;

/// The agent's side of the protocol.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) pod: Arc<Pod>,
    pub(crate) power_off: PowerOff,
}

#[async_trait]
impl AgentService for Service {
    async fn hello(&self, _: &TtrpcContext, request: HelloRequest) -> ttrpc::Result<HelloResponse> {
        answered(hello(&request))
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> ttrpc::Result<CreateContainerResponse> {
        self.blocking(move |pod| create(pod, &request)).await
    }

    async fn delete_container(
        &self,
        _: &TtrpcContext,
        request: DeleteContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |pod| delete(pod, &request.id)).await
    }

    async fn update_container(
        &self,
        _: &TtrpcContext,
        request: UpdateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |pod| update(pod, &request)).await
    }

    async fn pause_container(
        &self,
        _: &TtrpcContext,
        request: PauseContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |pod| freeze(pod, &request.id, true))
            .await
    }

    async fn resume_container(
        &self,
        _: &TtrpcContext,
        request: ResumeContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |pod| freeze(pod, &request.id, false))
            .await
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        self.blocking(move |pod| stats::of(pod, &request.container_id))
            .await
    }

    async fn write_file(
        &self,
        _: &TtrpcContext,
        request: WriteFileRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |pod| guest::write_file(pod, &request).map(|()| Empty::default()))
            .await
    }

    async fn read_file(
        &self,
        _: &TtrpcContext,
        request: ReadFileRequest,
    ) -> ttrpc::Result<ReadFileResponse> {
        self.blocking(move |pod| guest::read_file(pod, &request))
            .await
    }

    /// Without a thread that waits.
    async fn events(
        &self,
        _: &TtrpcContext,
        _: EventsRequest,
        sender: ServerStreamSender<Event>,
    ) -> ttrpc::Result<()> {
        let mut changes = self.pod.follow();
        let mut told = Told::default();
        loop {
            // Before looking: what happens after that is a change.
            changes.mark_unchanged();
            for event in told.next(&self.pod) {
                sender.send(&event).await?;
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn update_pod(
        &self,
        _: &TtrpcContext,
        request: UpdatePodRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |_| {
            let limit = request.memory_limit_bytes;
            limit.map_or(Ok(()), guest::limit_memory)?;
            Ok(Empty::default())
        })
        .await
    }

    async fn set_clock(&self, _: &TtrpcContext, request: SetClockRequest) -> ttrpc::Result<Empty> {
        answered(guest::set_clock(request.realtime_ns).map(|()| Empty::default()))
    }

    async fn reseed(&self, _: &TtrpcContext, request: ReseedRequest) -> ttrpc::Result<Empty> {
        answered(guest::reseed(&request.entropy).map(|()| Empty::default()))
    }

    async fn configure_network(
        &self,
        _: &TtrpcContext,
        request: ConfigureNetworkRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |_| {
            let kernel = sys::Interfaces::new();
            let kernel = kernel.map_err(|errno| Refusal::system("set up a network", errno))?;
            network::configure(&kernel, &request)?;
            Ok(Empty::default())
        })
        .await
    }

    async fn check_process(
        &self,
        _: &TtrpcContext,
        request: StartProcessRequest,
    ) -> ttrpc::Result<Empty> {
        let check = move |pod: &Arc<Pod>| start::check(pod, &request);
        self.blocking(check).await.map(|()| Empty::default())
    }

    async fn start_process(
        &self,
        _: &TtrpcContext,
        request: StartProcessRequest,
    ) -> ttrpc::Result<StartProcessResponse> {
        let start = move |pod: &Arc<Pod>| start::start(pod, &request);
        let started = self.blocking(start).await;
        started.map(|pid| StartProcessResponse {
            pid,
            ..Default::default()
        })
    }

    async fn signal_process(
        &self,
        _: &TtrpcContext,
        request: SignalProcessRequest,
    ) -> ttrpc::Result<Empty> {
        self.blocking(move |pod| signal(pod, &request)).await
    }

    async fn resize_terminal(
        &self,
        _: &TtrpcContext,
        request: ResizeTerminalRequest,
    ) -> ttrpc::Result<Empty> {
        answered(resize(&self.pod, &request))
    }

    async fn close_stdin(
        &self,
        _: &TtrpcContext,
        request: CloseStdinRequest,
    ) -> ttrpc::Result<Empty> {
        let table = self.pod.lock();
        let process = table.process(&request.container_id, &request.exec_id);
        answered(process.map(|process| {
            if let Some(stdin) = &process.stdin {
                stdio::end_stdin(stdin);
            }
            Empty::default()
        }))
    }

    async fn list_processes(
        &self,
        _: &TtrpcContext,
        request: ListProcessesRequest,
    ) -> ttrpc::Result<ListProcessesResponse> {
        self.blocking(move |pod| list(pod, &request.container_id))
            .await
    }

    async fn delete_process(
        &self,
        _: &TtrpcContext,
        request: DeleteProcessRequest,
    ) -> ttrpc::Result<Empty> {
        answered(forget(&self.pod, &request))
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> ttrpc::Result<Empty> {
        let pod = Arc::clone(&self.pod);
        let power_off = self.power_off;
        let grace = Duration::from_millis(request.grace_ms);
        std::thread::spawn(move || {
            end_all(&pod, grace);
            remove_made(&pod);
            power_off()
        });
        Ok(Empty::default())
    }
}

impl Service {
    /// Does what may take its time on a thread for that; other requests are answered meanwhile.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Pod>) -> Answer<T> + Send + 'static,
    ) -> ttrpc::Result<T> {
        let pod = Arc::clone(&self.pod);
        let done = tokio::task::spawn_blocking(move || work(&pod)).await;
        let failed =
            |error: tokio::task::JoinError| Refusal::state(format!("the agent failed: {error}"));
        answered(done.map_err(failed).and_then(|answer| answer))
    }
}

fn answered<T>(answer: Answer<T>) -> ttrpc::Result<T> {
    answer.map_err(Refusal::into_error)
}

fn hello(request: &HelloRequest) -> Answer<HelloResponse> {
    if request.protocol_version != PROTOCOL_VERSION {
        return Err(Refusal::new(
            FailureKind::FAILURE_KIND_VERSION,
            format!(
                "the agent in the guest speaks protocol version {PROTOCOL_VERSION}, {} speaks {}; \
                 use the guest image that came with it",
                request.client, request.protocol_version
            ),
        ));
    }
    let uname = rustix::system::uname();
    Ok(HelloResponse {
        protocol_version: PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: uname.release().to_string_lossy().into_owned(),
        kernel_version: uname.version().to_string_lossy().into_owned(),
        ..Default::default()
    })
}

fn create(pod: &Pod, request: &CreateContainerRequest) -> Answer<CreateContainerResponse> {
    if request.id.is_empty() {
        return Err(Refusal::invalid("the container has no id"));
    }
    if pod.lock().container(&request.id).is_ok() {
        let sentence = format!("container \"{}\" exists already", request.id);
        return Err(Refusal::new(FailureKind::FAILURE_KIND_EXISTS, sentence));
    }
    let shared = pod.shared.as_ref().map_err(|why| {
        Refusal::state(format!("the host's shared directory is not mounted: {why}"))
    })?;
    let root = mounts::c_string(mounts::beneath(shared, &request.rootfs)?.to_string_lossy())?;
    let namespaces = guest::check(request)?;
    check_shared(pod, &namespaces)?;
    let names = Names {
        host: request.hostname.clone(),
        domain: request.domainname.clone(),
    };
    if namespaces.names == Which::Pod {
        names.set().map_err(|errno| {
            let (host, domain) = (&names.host, &names.domain);
            let what = format!("set the names \"{host}\" and \"{domain}\" of the host");
            Refusal::system(what, errno)
        })?;
    }
    let cgroup = Cgroup::make(&request.id, &request.cgroup)?.map(Arc::new);
    let place = Place {
        root: &root,
        shared,
        read_only: request.readonly_rootfs,
    };
    let wanted = Wanted {
        mounts: &request.mounts,
        masked: &request.masked_paths,
        read_only: &request.readonly_paths,
        pid_namespace: namespaces.pids != Which::Pod,
    };
    let mounted = mounts::mount_all(place, wanted, || pod.forked()).inspect_err(|_| {
        if let Some(cgroup) = &cgroup {
            cgroup.remove();
        }
    })?;
    let container = Container {
        root,
        mounts: mounted.destinations,
        made: mounted.made,
        processes: Default::default(),
        sessions: Default::default(),
        own_namespace: false,
        late_mounts: (namespaces.pids != Which::Pod).then(|| Arc::new(mounted.prepared)),
        names: (namespaces.names == Which::Own).then(|| Arc::new(names)),
        sysctls: guest::sysctls(request, &namespaces)?,
        namespaces,
        oom_kills: 0,
        cgroup,
    };
    pod.lock().insert(&request.id, container)?;
    Ok(CreateContainerResponse {
        skipped_mounts: mounted.skipped,
        ..Default::default()
    })
}

/// Whether the containers are there whose namespaces a new one is to be in.
fn check_shared(pod: &Pod, namespaces: &Namespaces) -> Answer<()> {
    let table = pod.lock();
    for which in [&namespaces.pids, &namespaces.names, &namespaces.ipc] {
        if let Which::Of(other) = which {
            table.container(other)?;
        }
    }
    Ok(())
}

/// Changes the limits of a container.
fn update(pod: &Pod, request: &UpdateContainerRequest) -> Answer<Empty> {
    pod.lock().container(&request.id)?;
    let mut settings = request.cgroup.clone();
    if let Some(limit) = request.memory_limit_bytes {
        settings.insert("memory.max".to_owned(), limit.to_string());
    }
    match pod.cgroup(&request.id) {
        Some(cgroup) => cgroup.set(&settings)?,
        None if settings.is_empty() => {}
        None => return Err(not_yet("limits of one container")),
    }
    Ok(Empty::default())
}

/// Has a container's processes stand still, or go on.
fn freeze(pod: &Pod, id: &str, freezes: bool) -> Answer<Empty> {
    pod.lock().container(id)?;
    let cgroup = pod.cgroup(id);
    let cgroup = cgroup.ok_or_else(|| not_yet("pausing one container"))?;
    cgroup.freeze(freezes).map(|()| Empty::default())
}

fn delete(pod: &Pod, id: &str) -> Answer<Empty> {
    pod.lock().container(id)?;
    if !pod.members(id).is_empty() {
        return Err(Refusal::state(format!("container \"{id}\" still runs")));
    }
    let Some(container) = pod.lock().remove(id) else {
        return Ok(Empty::default());
    };
    if let Some(cgroup) = &container.cgroup {
        cgroup.remove();
    }
    let forked = || pod.forked();
    mounting::unmount_each(&container.root, &container.mounts, &container.made, forked)?;
    Ok(Empty::default())
}

fn signal(pod: &Pod, request: &SignalProcessRequest) -> Answer<Empty> {
    let signal = sys::signal(request.signal)
        .ok_or_else(|| Refusal::invalid(format!("there is no signal {}", request.signal)))?;
    if request.all {
        pod.lock().container(&request.container_id)?;
        let members = pod.members(&request.container_id);
        if signal == Signal::KILL {
            pod.kill_each(&request.container_id, members);
        } else {
            for pid in members {
                processes::signal(pid, signal);
            }
        }
        return Ok(Empty::default());
    }
    // Under the lock, so that the pid is not reaped and given away meanwhile.
    let table = pod.lock();
    let process = table.process(&request.container_id, &request.exec_id)?;
    match (process.pid, process.exit) {
        (Some(pid), None) => rustix::process::kill_process(pid, signal)
            .map(|()| Empty::default())
            .map_err(|errno| Refusal::system(format!("send signal {}", request.signal), errno)),
        (None, _) => Err(Refusal::state("the process is still being started")),
        (Some(_), Some(_)) => Err(Refusal::state("the process has ended already")),
    }
}

fn resize(pod: &Pod, request: &ResizeTerminalRequest) -> Answer<Empty> {
    let terminal = {
        let table = pod.lock();
        table
            .process(&request.container_id, &request.exec_id)?
            .terminal
            .clone()
    };
    let terminal = terminal.ok_or_else(|| Refusal::state("the process has no terminal"))?;
    let terminal = terminal.get();
    let terminal = terminal.ok_or_else(|| Refusal::state("the terminal has been hung up"))?;
    let size = request.window_size.as_ref();
    let size = size.ok_or_else(|| Refusal::invalid("no terminal size was given"))?;
    terminal::resize(&terminal, size).map(|()| Empty::default())
}

fn list(pod: &Pod, id: &str) -> Answer<ListProcessesResponse> {
    let members = pod.members(id);
    let table = pod.lock();
    let started = &table.container(id)?.processes;
    let processes = members.into_iter().map(|pid| {
        let is = |process: &crate::pod::Process| {
            process
                .pid
                .is_some_and(|started| started.as_raw_pid() == pid)
        };
        let exec = started
            .iter()
            .find(|(_, process)| is(process))
            .map(|(exec, _)| exec.clone());
        list_processes_response::Process {
            pid,
            started: exec.is_some(),
            exec_id: exec.unwrap_or_default(),
            ..Default::default()
        }
    });
    Ok(ListProcessesResponse {
        processes: processes.collect(),
        ..Default::default()
    })
}

fn forget(pod: &Pod, request: &DeleteProcessRequest) -> Answer<Empty> {
    let mut table = pod.lock();
    if table
        .process(&request.container_id, &request.exec_id)?
        .exit
        .is_none()
    {
        return Err(Refusal::state("the process still runs"));
    }
    table
        .container_mut(&request.container_id)?
        .processes
        .remove(&request.exec_id);
    Ok(Empty::default())
}

/// Leaves the containers' roots as they were: without the directories that were made for mounts.
fn remove_made(pod: &Pod) {
    let containers = pod.lock().take_all();
    for container in containers
        .iter()
        .filter(|container| !container.made.is_empty())
    {
        // The machine ends all the same.
        let forked = || pod.forked();
        let _ = mounting::unmount_each(&container.root, &container.mounts, &container.made, forked);
    }
}

/// Ends every process of the pod, first by asking when there is time for that.
fn end_all(pod: &Pod, grace: Duration) {
    let deadline = Instant::now() + grace;
    let ask = !grace.is_zero();
    for pid in if ask { pod.all_members() } else { Vec::new() } {
        processes::signal(pid, Signal::TERM);
    }
    while ask && Instant::now() < deadline && !pod.all_members().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for pid in pod.all_members() {
        processes::signal(pid, Signal::KILL);
    }
}

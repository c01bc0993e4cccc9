//! The pod's process as others reach it: `pod.sock` and `stdio.sock` in the state directory.
//!
//! [`Hub`] is made with the directory and sees all that happens; [`PodServer`] answers once the container is there,
//! and as long as it is held. `service` has the calls, `streams` the sockets of stdio. All of it is on the runtime's
//! one thread; what may block is handed to threads for that.

pub mod metrics;
mod service;
mod streams;
mod usage;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use host_machine::bounds;
use tokio::sync::{broadcast, watch};
use ttrpc::r#async::Server;
use ttrpc::r#async::transport::Listener;

use crate::cgroup::Leaf;
use crate::container::Container;
use crate::error::PodError;
use crate::event::{Event, Observer};
use crate::log::PodLog;
use crate::pod::Pod;
use crate::runtime;
use crate::state::{PodDir, StateError};
use crate::wire;
use crate::wire::StatsResponse;
use crate::wire::event::Kind;
use crate::wire::stats_response::{Cgroup, Device};
use service::{EXEC_PREFIX, Service};
use streams::StreamTable;

/// Events that a slow follower may be behind; it loses older ones.
const EVENTS: usize = 256;

/// What happens in a pod and what its program says, for whoever asks.
#[derive(Debug, Clone)]
pub struct Hub {
    events: broadcast::Sender<wire::Event>,
    log: Arc<PodLog>,
    leaf: Option<Arc<Leaf>>,
    counts: Arc<Counts>,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Counts {
    process_exits: AtomicU64,
    dropped_fields: AtomicU64,
}

impl Hub {
    /// The log is in the pod's directory from now on.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &PodDir) -> Result<Self, StateError> {
        Ok(Self {
            events: broadcast::Sender::new(EVENTS),
            log: PodLog::create(dir)?,
            leaf: dir.leaf().cloned(),
            counts: Arc::default(),
        })
    }

    /// The pod's log.
    #[must_use]
    pub fn log(&self) -> &Arc<PodLog> {
        &self.log
    }

    /// Counts fields of the container's specification that are set and not followed.
    pub fn count_dropped(&self, fields: usize) {
        let fields = u64::try_from(fields).unwrap_or(u64::MAX);
        self.counts
            .dropped_fields
            .fetch_add(fields, Ordering::Relaxed);
    }

    /// What the pod has used so far: the one source of what commands, metrics and containerd are told.
    ///
    /// # Errors
    /// As [`host_machine::Machine::stats`].
    pub fn stats(&self, pod: &Pod, container: &Container) -> Result<StatsResponse, PodError> {
        let counted = pod.machine().stats()?;
        let devices = counted.devices.into_iter().map(|device| Device {
            name: device.name,
            requests: device.requests,
            ..Default::default()
        });
        let pids = [std::process::id(), pod.machine().pid()];
        // A paused guest cannot be asked, nor one that is gone.
        let inside = container.stats().unwrap_or_default();
        Ok(StatsResponse {
            exits: counted.exits,
            devices: devices.collect(),
            cpu_ns: pids.iter().map(|pid| usage::cpu_ns(*pid)).sum(),
            memory_bytes: pids.iter().map(|pid| usage::memory_bytes(*pid)).sum(),
            processes: inside.processes,
            oom_kills: inside.oom_kills,
            guest_memory_bytes: inside.guest_memory_bytes,
            guest_available_bytes: inside.guest_available_bytes,
            guest_cpu_ns: inside.guest_cpu_ns,
            process_exits: self.counts.process_exits.load(Ordering::Relaxed),
            dropped_fields: self.counts.dropped_fields.load(Ordering::Relaxed),
            cgroup: self.leaf.as_deref().map(cgroup).into(),
            ..Default::default()
        })
    }

    /// An observer of the pod that tells followers, and its owner of what the owner knows: not of processes that
    /// came in here.
    #[must_use]
    pub fn observer(&self, owner: Observer) -> Observer {
        let (events, counts) = (self.events.clone(), Arc::clone(&self.counts));
        Arc::new(move |event| {
            if matches!(event, Event::Exited { .. }) {
                counts.process_exits.fetch_add(1, Ordering::Relaxed);
            }
            // Without a follower it is nobody's.
            let _ = events.send(told(&event));
            let exec = match &event {
                Event::Started { exec, .. } | Event::Exited { exec, .. } => exec,
                Event::OutOfMemory { .. } | Event::Paused | Event::Resumed => "",
            };
            if !exec.starts_with(EXEC_PREFIX) {
                owner(event);
            }
        })
    }
}

fn cgroup(leaf: &Leaf) -> Cgroup {
    let usage = leaf.usage();
    Cgroup {
        path: leaf.path().display().to_string(),
        memory_bytes: usage.memory,
        memory_limit_bytes: usage.memory_limit,
        processes: usage.processes,
        throttled_ns: usage.throttled_ns,
        oom_kills: usage.oom_kills,
        ..Default::default()
    }
}

fn told(event: &Event) -> wire::Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let (kind, exec_id, exit_status) = match event {
        Event::Started { exec, .. } => (Kind::KIND_STARTED, exec.clone(), 0),
        Event::Exited { exec, exit, .. } => (Kind::KIND_EXITED, exec.clone(), exit.status),
        Event::OutOfMemory { .. } => (Kind::KIND_OOM, String::new(), 0),
        Event::Paused => (Kind::KIND_PAUSED, String::new(), 0),
        Event::Resumed => (Kind::KIND_RESUMED, String::new(), 0),
    };
    wire::Event {
        at_ns: u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX),
        kind: kind.into(),
        exec_id,
        exit_status,
        ..Default::default()
    }
}

/// The sockets of one pod, answered until this is dropped, which is when the pod has ended.
#[derive(Debug)]
pub struct PodServer {
    log: Arc<PodLog>,
    stop: watch::Sender<bool>,
    /// Heard of once all has been answered.
    stopped: Mutex<mpsc::Receiver<()>>,
}

impl PodServer {
    /// Listens and answers.
    ///
    /// # Errors
    /// When the sockets or the thread cannot be made.
    pub fn start(
        dir: &PodDir,
        hub: &Hub,
        pod: Arc<Pod>,
        container: Arc<Container>,
    ) -> Result<Self, PodError> {
        let runtime = runtime::handle().map_err(|source| PodError::Thread {
            what: "requests",
            source,
        })?;
        let _entered = runtime.enter();
        let stdio = listen(dir, "stdio.sock")?;
        let requests = listen(dir, "pod.sock")?;
        let table = Arc::new(StreamTable::default());
        let (stop, stopping) = watch::channel(false);
        let (count, mut waiting) = watch::channel(0);
        let service = Service::new(
            dir.name(),
            pod,
            container,
            hub,
            Arc::clone(&table),
            stopping.clone(),
            count,
        );
        let methods = wire::create_pod(Arc::new(service));
        let mut server = Server::new()
            .register_service(methods)
            .add_listener(Listener::from(requests));
        let (has_stopped, stopped) = mpsc::channel();
        let mut until = stopping.clone();
        runtime.spawn(async move {
            if let Err(error) = server.start().await {
                tracing::error!("cannot answer on pod.sock: {error}");
            }
            // An owner that is gone has stopped it, too.
            let _ = until.wait_for(|stop| *stop).await;
            // Followers end by themselves: there is no more to follow.
            let _ = waiting.wait_for(|count| *count == 0).await;
            let _ = server.shutdown().await;
            let _ = has_stopped.send(());
        });
        runtime.spawn(streams::accept_all(stdio, table, stopping));
        Ok(Self {
            log: Arc::clone(hub.log()),
            stop,
            stopped: Mutex::new(stopped),
        })
    }
}

impl Drop for PodServer {
    fn drop(&mut self) {
        self.log.end();
        self.stop.send_replace(true);
        let stopped = self.stopped.get_mut();
        let stopped = stopped.unwrap_or_else(PoisonError::into_inner);
        // A client that does not take its answer has to do without.
        let _ = stopped.recv_timeout(bounds::LAST_ANSWERS.get());
    }
}

/// Makes a socket in the directory. By way of a descriptor: a socket's path has at most 107 bytes, and names may be long.
fn listen(dir: &PodDir, name: &'static str) -> Result<tokio::net::UnixListener, PodError> {
    let path = dir.path().join(name);
    let failed = |source| PodError::Socket {
        path: path.clone(),
        source,
    };
    let folder = File::open(dir.path()).map_err(failed)?;
    let listener = UnixListener::bind(short_path(&folder, name)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    tokio::net::UnixListener::from_std(listener).map_err(failed)
}

/// The path of a socket in an open folder, however long the folder's own is.
pub(crate) fn short_path(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

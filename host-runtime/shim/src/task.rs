//! The one task of a daemon: a container in a pod of its own, and what containerd knows of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_protocol::{SHARED_TAG, StartProcessRequest};
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{
    TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed, TaskStart,
};
use containerd_shim_protos::topics;
use host_machine::printing::printable;
use host_machine::{LogTarget, Machine, MachineKind, MachineSpec, Memory, Share, VmmProcess};
use image::{RootfsMount, SharedDir, boot};
use oci::{After, Dropped, Hooks, OciError, Plan};
use pod::cgroup::{Limits, Quota, Wish};
use pod::state::{PodDir, Record, StateRoot};
use pod::wire::StatsResponse;
use pod::{Container, Event, Hub, Observer, Pod, PodServer};

use super::error::ShimError;
use super::events::{Publisher, timestamp};
use super::stdio::{Stdio, StdioPaths};

/// A task that has been created.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) container: Arc<Container>,
    pub(super) bundle: PathBuf,
    // In this order: the guest goes before what it sees.
    pod: Arc<Pod>,
    hub: Hub,
    _server: PodServer,
    _shared: SharedDir,
    hooks: Hooks,
    // Until here it has its name.
    _dir: PodDir,
    /// By exec id.
    stdio: Mutex<BTreeMap<String, Arc<Stdio>>>,
}

impl Task {
    /// Boots the microVM and mounts what the container sees; starts nothing in it.
    pub(super) fn create(
        namespace: &str,
        request: &CreateTaskRequest,
        publisher: &Arc<Mutex<Publisher>>,
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
        let mut plan = oci::read(&request.id, bundle)?;
        tell_dropped(&request.id, &plan.dropped);
        let mut dir = StateRoot::locate(None).claim(&Record {
            command: plan.init.args.clone(),
            root: bundle.to_owned(),
            ..Record::new(namespace, &request.id, "containerd-shim-nacre-v2")
        })?;
        let mut shared = SharedDir::create(bundle)?;
        shared.mount_rootfs(&rootfs_mounts(request), &plan.root)?;
        for bind in &plan.binds {
            plan.create.mounts[bind.mount].source =
                shared.add_bind(&bind.source, bind.read_only)?;
        }
        let images = boot::locate()?;
        let (kind, is_asked) = machine_kind(&request.id, plan.machine.as_deref())?;
        let mut spec = MachineSpec {
            kind,
            cpus: plan.cpus,
            memory: Memory::fixed(plan.memory_bytes),
            shares: vec![Share {
                tag: SHARED_TAG.to_owned(),
                dir: shared.path().to_owned(),
            }],
            log: LogTarget::File(bundle.join("console.log")),
            ..MachineSpec::new(images.kernel, images.initramfs)
        };
        give_cgroup(&mut dir, &plan, &mut spec)?;
        let hub = Hub::create(&dir)?;
        hub.count_dropped(plan.dropped.len());
        let mut pod = boot_pod(&request.id, &spec, &plan, &hub, publisher);
        if !is_asked && matches!(&pod, Err(ShimError::Pod(error)) if error.is_of_unfit_kvm()) {
            tracing::warn!("{}: {}", request.id, MachineKind::notice_of_change());
            spec.kind = MachineKind::Qemu;
            dir.fit_leaf(&spec)?;
            pod = boot_pod(&request.id, &spec, &plan, &hub, publisher);
        }
        let pod = pod?
            .with_log(Arc::clone(hub.log()))
            .with_memory(spec.memory.size);
        let pod = Arc::new(pod);
        plan.init.terminal = request.terminal;
        let container = pod.create_container(&plan.create, plan.init)?;
        for skipped in container.skipped_mounts() {
            tracing::warn!(
                "{}: the guest has nothing to mount on {}",
                request.id,
                printable(skipped)
            );
        }
        // A program that is not there fails Create, as with runc, not Start.
        container.check()?;
        let pid = pod.machine().pid();
        plan.hooks
            .before_start(pid)
            .inspect_err(|_| tell_all(&request.id, &plan.hooks.after(After::Stop, pid)))?;
        let server = PodServer::start(&dir, &hub, Arc::clone(&pod), Arc::clone(&container))?;
        let stdio = BTreeMap::from([(String::new(), Arc::new(Stdio::new(paths)))]);
        Ok(Self {
            container,
            bundle: bundle.to_owned(),
            pod,
            hub,
            _server: server,
            _shared: shared,
            hooks: plan.hooks,
            _dir: dir,
            stdio: Mutex::new(stdio),
        })
    }

    /// The pid that stands for the container on the host: its machine's.
    pub(super) fn pid(&self) -> u32 {
        self.pod.machine().pid()
    }

    /// The stdio of a process.
    pub(super) fn stdio(&self, exec_id: &str) -> Result<Arc<Stdio>, ShimError> {
        let stdio = self.lock().get(exec_id).cloned();
        stdio.ok_or_else(|| ShimError::NotFound {
            what: format!("no process {exec_id} in container {}", self.container.id()),
        })
    }

    /// Adds a process that [`Task::start`] will start.
    pub(super) fn add_exec(
        &self,
        request: StartProcessRequest,
        paths: StdioPaths,
    ) -> Result<(), ShimError> {
        paths.check()?;
        let exec_id = request.exec_id.clone();
        self.container.add_exec(request)?;
        self.lock().insert(exec_id, Arc::new(Stdio::new(paths)));
        Ok(())
    }

    /// Opens a process's stdio and starts it.
    pub(super) fn start(&self, exec_id: &str) -> Result<(), ShimError> {
        // Before its FIFOs are opened: one that runs keeps its own.
        self.container.process(exec_id)?;
        let ends = self.stdio(exec_id)?.open()?;
        self.container.start(exec_id, ends)?;
        if exec_id.is_empty() {
            self.run_hooks(After::Start);
        }
        Ok(())
    }

    fn run_hooks(&self, point: After) {
        let failures = self.hooks.after(point, self.pid());
        tell_all(self.container.id(), &failures);
    }

    /// Forgets an exec that has ended.
    pub(super) fn delete_exec(&self, exec_id: &str) -> Result<pod::Exit, ShimError> {
        let exit = self.container.delete_exec(exec_id)?;
        self.lock().remove(exec_id);
        Ok(exit)
    }

    /// Ends the microVM once the container's first process has ended.
    pub(super) fn delete(&self) -> Result<pod::Exit, ShimError> {
        let exit = self.container.delete()?;
        self.shut_down();
        self.run_hooks(After::Stop);
        Ok(exit)
    }

    /// What the container has used so far, as `nacre stats` has it.
    pub(super) fn stats(&self) -> Result<StatsResponse, ShimError> {
        Ok(self.hub.stats(&self.pod, &self.container)?)
    }

    /// The pod of this one container.
    pub(super) fn pod(&self) -> &Pod {
        &self.pod
    }

    /// Powers the guest off, by force when it does not follow.
    pub(super) fn shut_down(&self) {
        if let Err(error) = self.pod.power_off() {
            tracing::warn!("{}: {error}", self.container.id());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Stdio>>> {
        self.stdio.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the machine and waits for its agent.
fn boot_pod(
    id: &str,
    spec: &MachineSpec,
    plan: &Plan,
    hub: &Hub,
    publisher: &Arc<Mutex<Publisher>>,
) -> Result<Pod, ShimError> {
    let machine: Arc<dyn Machine> = Arc::new(VmmProcess::start(spec)?);
    if plan.init.oom_score_adj != 0 {
        // On the host the microVM is the container. Its score inside orders its own processes.
        set_oom_score(machine.pid(), plan.init.oom_score_adj)?;
    }
    let observer = observer(id, Arc::clone(publisher), machine.pid());
    Ok(Pod::start(machine, hub.observer(observer))?)
}

/// Gives the machine the cgroup that the container names, or one of its own where the host has cgroups.
fn give_cgroup(dir: &mut PodDir, plan: &Plan, spec: &mut MachineSpec) -> Result<(), ShimError> {
    let asked = &plan.limits;
    let needs = match (&plan.cgroups_path, asked.is_part_of_a_cpu()) {
        (Some(_), _) => Some("linux.cgroupsPath"),
        (None, true) => Some("a CPU quota for part of a CPU (linux.resources.cpu.quota)"),
        (None, false) => None,
    };
    let path = plan.cgroups_path.as_deref();
    let limits = Limits {
        cpu: asked.quota.map(|(quota_us, period_us)| Quota {
            quota_us,
            period_us,
        }),
        shares: asked.shares,
        ..Limits::of(spec)
    };
    dir.make_leaf(Wish { path, needs }, &limits)?;
    spec.leaf = dir.leaf().map(|leaf| leaf.machine());
    Ok(())
}

/// What a container asks for and does not get, although it starts.
fn tell_dropped(id: &str, dropped: &[Dropped]) {
    for (index, field) in dropped.iter().enumerate() {
        tracing::warn!(
            "{id}: warning {} of {}: {} is not followed: {}",
            index + 1,
            dropped.len(),
            printable(&field.path),
            field.why
        );
    }
}

fn tell_all(id: &str, failures: &[OciError]) {
    for failure in failures {
        tracing::warn!("{id}: {failure}");
    }
}

fn rootfs_mounts(request: &CreateTaskRequest) -> Vec<RootfsMount> {
    let steps = request.rootfs.iter().map(|mount| RootfsMount {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
    });
    steps.collect()
}

/// Turns what happens in the pod into containerd's events.
fn observer(id: &str, publisher: Arc<Mutex<Publisher>>, pid: u32) -> Observer {
    let id = id.to_owned();
    Arc::new(move |event| {
        let publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started {
                container: container_id,
                exec,
            } if exec.is_empty() => {
                let event = TaskStart {
                    container_id,
                    pid,
                    ..Default::default()
                };
                publisher.publish(topics::TASK_START_EVENT_TOPIC, &event);
            }
            Event::Started { container, exec } => {
                let event = TaskExecStarted {
                    container_id: container,
                    exec_id: exec,
                    pid,
                    ..Default::default()
                };
                publisher.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
            }
            Event::OutOfMemory { container } => {
                let event = TaskOOM {
                    container_id: container,
                    ..Default::default()
                };
                publisher.publish(topics::TASK_OOM_EVENT_TOPIC, &event);
            }
            Event::Paused => {
                let event = TaskPaused {
                    container_id: id.clone(),
                    ..Default::default()
                };
                publisher.publish(topics::TASK_PAUSED_EVENT_TOPIC, &event);
            }
            Event::Resumed => {
                let event = TaskResumed {
                    container_id: id.clone(),
                    ..Default::default()
                };
                publisher.publish(topics::TASK_RESUMED_EVENT_TOPIC, &event);
            }
            Event::Exited {
                container,
                exec,
                exit,
            } => {
                if let Some(lost) = exit.lost {
                    tracing::warn!("{container}: lost process {exec:?}: {lost}");
                }
                let event = TaskExit {
                    id: if exec.is_empty() {
                        container.clone()
                    } else {
                        exec
                    },
                    container_id: container,
                    pid,
                    exit_status: exit.status,
                    exited_at: Some(timestamp(exit.at)).into(),
                    ..Default::default()
                };
                publisher.publish(topics::TASK_EXIT_EVENT_TOPIC, &event);
            }
        }
    })
}

/// What the container's microVM runs on: as its annotation says, or containerd's environment, or else what the host
/// has; and whether that was said.
fn machine_kind(id: &str, asked: Option<&str>) -> Result<(MachineKind, bool), ShimError> {
    let from_environment = std::env::var("NACRE_MACHINE").ok();
    let asked = asked.or(from_environment.as_deref());
    let (kind, notice) = MachineKind::choose(asked)?;
    if let Some(notice) = notice {
        tracing::warn!("{id}: {notice}");
    }
    Ok((kind, asked.is_some()))
}

/// What a Create request may ask for besides `config.json`, and does not get.
fn refuse_unsupported(request: &CreateTaskRequest) -> Result<(), ShimError> {
    let unsupported = |what: String| Err(OciError::Unsupported { what }.into());
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

//! A pod: a machine whose agent has answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use agent_protocol::{CreateContainerRequest, StartProcessRequest};
use host_machine::bounds;
use host_machine::{MIN_MEMORY, Machine, MachineError};

use crate::agent::{Agent, AgentError};
use crate::container::Container;
use crate::error::PodError;
use crate::event::{Event, Observer};
use crate::log::PodLog;
use crate::network;
use crate::power_off;
use crate::runtime;

/// A machine and the agent in it.
#[derive(Debug)]
pub struct Pod {
    parts: Parts,
}

/// What every container of a pod needs of it.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) observer: Observer,
    /// Of the containers' first processes.
    pub(crate) log: Option<Arc<PodLog>>,
    paused: Arc<AtomicBool>,
    /// What the guest was started with, in bytes.
    memory: u64,
}

impl Pod {
    /// Waits for the agent of a machine that has been started.
    ///
    /// # Errors
    /// [`PodError::Ended`] when the microVM ends, [`PodError::Agent`] when the agent does not answer in time.
    pub fn start(machine: Arc<dyn Machine>, observer: Observer) -> Result<Self, PodError> {
        let agent = Agent::connect(Arc::clone(&machine), bounds::BOOT.get());
        let agent = Arc::new(agent.map_err(|error| explained(&*machine, error))?);
        tell_oom(&agent, &observer)?;
        let parts = Parts {
            machine,
            agent,
            observer,
            log: None,
            paused: Arc::default(),
            memory: 0,
        };
        Ok(Self { parts })
    }

    /// Keeps what the first processes of containers say that are created from now on.
    #[must_use]
    pub fn with_log(mut self, log: Arc<PodLog>) -> Self {
        self.parts.log = Some(log);
        self
    }

    /// Says how much memory its guest was started with: the most that it can be given later.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.parts.memory = bytes;
        self
    }

    /// Has the guest do with its network devices what the plan says; before its first container.
    ///
    /// # Errors
    /// The agent's refusal, or how the guest was lost.
    pub fn configure_network(&self, plan: &host_net::Plan) -> Result<(), PodError> {
        if plan.interfaces.is_empty() {
            return Ok(());
        }
        let request = network::request(plan);
        self.parts
            .explained(self.parts.agent.configure_network(&request))
    }

    /// Mounts what a container sees; `init` is what [`Container::start`] will start first.
    ///
    /// # Errors
    /// The agent's refusal, or how the guest was lost.
    pub fn create_container(
        &self,
        create: &CreateContainerRequest,
        init: StartProcessRequest,
    ) -> Result<Arc<Container>, PodError> {
        let answer = self.parts.agent.create_container(create);
        let skipped = self.parts.explained(answer)?.skipped_mounts;
        let id = create.id.clone();
        let container = Container::new(id, self.parts.clone(), init, skipped);
        Ok(Arc::new(container))
    }

    /// The pod's machine.
    #[must_use]
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.parts.machine
    }

    /// Stops everything in the pod where it is.
    ///
    /// # Errors
    /// As [`Machine::pause`].
    pub fn pause(&self) -> Result<(), PodError> {
        self.parts.machine.pause()?;
        self.parts.paused.store(true, Ordering::Release);
        (self.parts.observer)(Event::Paused);
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`Machine::resume`].
    pub fn resume(&self) -> Result<(), PodError> {
        self.parts.resume()
    }

    /// Changes what the guest may use of its memory; what it has beyond that goes back to the host some seconds later.
    /// So the host's cgroup, which would kill for it meanwhile, keeps the limit that the pod was started with.
    ///
    /// # Errors
    /// The agent's refusal, of more than the pod was started with or less than is in use; how the guest was lost.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), PodError> {
        let refused = |what: String| Err(PodError::State { what });
        if self.is_paused() {
            return refused("the pod is paused; resume it first".to_owned());
        }
        let (asked, most) = (bytes >> 20, self.parts.memory >> 20);
        if bytes > self.parts.memory {
            return refused(format!(
                "the pod was started with {most} MiB of memory and cannot have {asked} MiB; start it with more"
            ));
        }
        if bytes < MIN_MEMORY {
            return refused(format!(
                "{asked} MiB of memory are too few; a pod has at least {} MiB",
                MIN_MEMORY >> 20
            ));
        }
        let answer = self.parts.agent.limit_memory(bytes);
        self.parts.explained(answer)
    }

    /// Whether the pod is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.parts.is_paused()
    }

    /// Ends the guest in order, so that nothing it wrote is lost; at once when it does not follow.
    ///
    /// # Errors
    /// How it ended otherwise; it has ended in any case.
    pub fn power_off(&self) -> Result<(), PodError> {
        if self.is_paused() {
            // One that cannot be resumed has ended, which the wait below tells.
            let _ = self.resume();
        }
        let asked = self.parts.agent.shutdown(Duration::ZERO);
        // An answer may be lost because the guest followed at once.
        match power_off::wait(&*self.parts.machine) {
            Ok(reason) if reason.is_orderly() => Ok(()),
            Ok(reason) => Err(PodError::Disorderly { reason }),
            Err(waited) => {
                self.parts.machine.kill();
                Err(PodError::NoPowerOff {
                    waited,
                    asked: asked.err(),
                })
            }
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("machine", &self.machine)
            .field("agent", &self.agent)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

impl Parts {
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    pub(crate) fn resume(&self) -> Result<(), PodError> {
        self.machine.resume()?;
        // On some machines the guest's clock stood still meanwhile.
        if let Err(error) = self.agent.set_clock(SystemTime::now()) {
            tracing::warn!("the guest's clock may be late: {error}");
        }
        self.paused.store(false, Ordering::Release);
        (self.observer)(Event::Resumed);
        Ok(())
    }

    /// Refuses what a paused guest could not answer.
    pub(crate) fn check_runs(&self) -> Result<(), PodError> {
        match self.is_paused() {
            true => Err(PodError::State {
                what: "the pod is paused; resume it first".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// An answer of the agent's, or why there is none.
    pub(crate) fn explained<T>(&self, answer: Result<T, AgentError>) -> Result<T, PodError> {
        answer.map_err(|error| explained(&*self.machine, error))
    }
}

/// Tells the observer when processes of the guest have died for want of memory.
fn tell_oom(agent: &Agent, observer: &Observer) -> Result<(), PodError> {
    let (mut told, observer) = (agent.follow(), Arc::clone(observer));
    let runtime = runtime::handle().map_err(|source| PodError::Thread {
        what: "the guest's events",
        source,
    })?;
    runtime.spawn(async move {
        let mut seen = 0;
        while told.changed().await.is_ok() {
            let (fresh, is_over) = {
                let told = told.borrow_and_update();
                let fresh = told.oom_kills.get(seen..).unwrap_or_default().to_vec();
                seen = told.oom_kills.len();
                (fresh, told.lost.is_some())
            };
            for container in fresh {
                observer(Event::OutOfMemory { container });
            }
            if is_over {
                return;
            }
        }
    });
    Ok(())
}

/// A broken connection is how a dead guest shows first; its end says more.
fn explained(machine: &dyn Machine, error: AgentError) -> PodError {
    let is_lost = matches!(
        error,
        AgentError::Transport { .. }
            | AgentError::Stream { .. }
            | AgentError::Link(MachineError::Ended { .. })
    );
    if is_lost && let Some(reason) = machine.wait(Some(bounds::GUEST_GONE.get())) {
        return PodError::Ended { reason };
    }
    error.into()
}

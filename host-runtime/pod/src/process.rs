//! One process of a container: created, running, ended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use agent_protocol::StartProcessRequest;
use host_machine::ExitReason;
use tokio::sync::watch;

use crate::error::PodError;
use crate::stdio::{Outputs, Patience};

/// Where a process stands.
#[derive(Debug, Clone)]
pub enum Stage {
    /// Known, not started.
    Created,
    /// Being started: nobody else may.
    Starting,
    /// Running in the guest.
    Running,
    /// Ended.
    Stopped(Exit),
}

/// How and when a process ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Exit code, or 128 and the signal.
    pub status: u32,
    /// By the host's clock.
    pub at: SystemTime,
    /// Why its end is not known, when it is not.
    pub lost: Option<Lost>,
}

/// Why nobody knows how a process ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// Its microVM ended under it.
    #[error("the microVM ended before the program did: {0}")]
    Machine(ExitReason),
    /// The agent could not be asked.
    #[error("{0}")]
    Agent(String),
}

/// A process: what to start, and how far it has come.
#[derive(Debug)]
pub struct Process {
    request: StartProcessRequest,
    stage: Mutex<Stage>,
    changed: Condvar,
    /// The same as the last stage, for who waits without a thread.
    has_ended: watch::Sender<bool>,
    outputs: Outputs,
}

impl Process {
    pub(crate) fn new(request: StartProcessRequest) -> Self {
        Self {
            request,
            stage: Mutex::new(Stage::Created),
            changed: Condvar::new(),
            has_ended: watch::Sender::new(false),
            outputs: Outputs::default(),
        }
    }

    /// What it was or will be started with.
    #[must_use]
    pub fn request(&self) -> &StartProcessRequest {
        &self.request
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.lock().clone()
    }

    /// Claims the right to start the process; false when it was started before.
    pub(crate) fn claim_start(&self) -> bool {
        let mut stage = self.lock();
        let free = matches!(*stage, Stage::Created);
        if free {
            *stage = Stage::Starting;
        }
        free
    }

    /// Gives the right to start back after a failure.
    pub(crate) fn release_start(&self) {
        self.set(Stage::Created);
    }

    pub(crate) fn set_running(&self) {
        self.set(Stage::Running);
    }

    /// Records the end; the first word stands.
    pub(crate) fn set_stopped(&self, status: u32, lost: Option<Lost>) -> Exit {
        let mut stage = self.lock();
        if let Stage::Stopped(exit) = &*stage {
            return exit.clone();
        }
        let exit = Exit {
            status,
            at: SystemTime::now(),
            lost,
        };
        *stage = Stage::Stopped(exit.clone());
        drop(stage);
        self.changed.notify_all();
        self.has_ended.send_replace(true);
        exit
    }

    /// Blocks until the process has ended.
    #[must_use]
    pub fn wait(&self) -> Exit {
        let mut stage = self.lock();
        loop {
            if let Stage::Stopped(exit) = &*stage {
                return exit.clone();
            }
            stage = self
                .changed
                .wait(stage)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Its end, once it has come, without a thread that waits.
    pub async fn ended(&self) -> Exit {
        // The sender is this process's own.
        let _ = self.has_ended.subscribe().wait_for(|ended| *ended).await;
        self.wait()
    }

    /// Blocks until the process has ended or the bound is over.
    pub fn wait_within(&self, bound: Duration) {
        let deadline = Instant::now() + bound;
        let mut stage = self.lock();
        while !matches!(*stage, Stage::Stopped(_)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            stage = self
                .changed
                .wait_timeout(stage, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard);
        }
    }

    /// Waits until all that it has written has been passed on.
    ///
    /// # Errors
    /// [`PodError::OutputStuck`] when that takes longer than `patience` has it, [`PodError::Output`] when it could
    /// not be passed on; a reader that has gone is no error.
    pub fn wait_outputs(&self, patience: Patience) -> Result<(), PodError> {
        self.outputs.wait(patience)
    }

    /// Takes nothing more of what it writes, as when a terminal goes away: its own terminal hangs up.
    pub fn hang_up(&self) {
        self.outputs.hang_up();
    }

    pub(crate) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    fn set(&self, stage: Stage) {
        *self.lock() = stage;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        // A stage is written whole; a panic elsewhere does not spoil it.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Process, Stage};

    #[test]
    fn starts_once_and_stops_once() {
        let process = Process::new(Default::default());
        assert!(process.claim_start());
        assert!(!process.claim_start());
        process.release_start();
        assert!(process.claim_start());
        process.set_running();
        assert_eq!(process.set_stopped(3, None).status, 3);
        assert_eq!(process.set_stopped(9, None).status, 3);
        assert_eq!(process.wait().status, 3);
    }

    #[test]
    fn a_bounded_wait_ends_with_the_process_still_running() {
        let process = Process::new(Default::default());
        process.wait_within(Duration::from_millis(5));
        assert!(matches!(process.stage(), Stage::Created));
    }
}

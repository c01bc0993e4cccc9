//! One process of the container, as the Task API sees it: created, running, stopped.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;

use super::stdio::{Stdio, StdioPaths};
use crate::agent::protocol::StartProcessRequest;

/// Where a process stands.
#[derive(Debug, Clone)]
pub(super) enum Stage {
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
pub(super) struct Exit {
    /// Exit code, or 128 and the signal.
    pub(super) status: u32,
    pub(super) at: Timestamp,
}

/// A process: what to start, where its stdio goes, how far it has come.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) request: StartProcessRequest,
    pub(super) paths: StdioPaths,
    stage: Mutex<Stage>,
    changed: Condvar,
    /// The stdio threads; none before the start.
    pub(super) stdio: Stdio,
}

impl Process {
    pub(super) fn new(request: StartProcessRequest, paths: StdioPaths) -> Self {
        Self {
            request,
            paths,
            stage: Mutex::new(Stage::Created),
            changed: Condvar::new(),
            stdio: Stdio::default(),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.lock().clone()
    }

    /// Claims the right to start the process; false when it was started before.
    pub(super) fn claim_start(&self) -> bool {
        let mut stage = self.lock();
        let free = matches!(*stage, Stage::Created);
        if free {
            *stage = Stage::Starting;
        }
        free
    }

    /// Gives the right to start back after a failure.
    pub(super) fn release_start(&self) {
        self.set(Stage::Created);
    }

    pub(super) fn set_running(&self) {
        self.set(Stage::Running);
    }

    /// Records the end; the first word stands.
    pub(super) fn set_stopped(&self, status: u32) -> Exit {
        let mut stage = self.lock();
        if let Stage::Stopped(exit) = &*stage {
            return exit.clone();
        }
        let exit = Exit { status, at: now() };
        *stage = Stage::Stopped(exit.clone());
        drop(stage);
        self.changed.notify_all();
        exit
    }

    /// Blocks until the process has ended.
    pub(super) fn wait(&self) -> Exit {
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

    /// Blocks until the process has ended or the bound is over.
    pub(super) fn wait_within(&self, bound: Duration) {
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

    fn set(&self, stage: Stage) {
        *self.lock() = stage;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        // A stage is written whole; a panic elsewhere does not spoil it.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's wall clock, as containerd wants it.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().cast_signed(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Process, Stage};

    #[test]
    fn starts_once_and_stops_once() {
        let process = Process::new(Default::default(), Default::default());
        assert!(process.claim_start());
        assert!(!process.claim_start());
        process.release_start();
        assert!(process.claim_start());
        process.set_running();
        assert_eq!(process.set_stopped(3).status, 3);
        assert_eq!(process.set_stopped(9).status, 3);
        assert_eq!(process.wait().status, 3);
    }

    #[test]
    fn a_bounded_wait_ends_with_the_process_still_running() {
        let process = Process::new(Default::default(), Default::default());
        process.wait_within(Duration::from_millis(5));
        assert!(matches!(process.stage(), Stage::Created));
    }
}

//! The phases of a start, and when each was reached.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the way from a start to the microVM's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The VMM process runs its own code.
    VmmRunning,
    /// KVM has made the virtual machine.
    VmCreated,
    /// Kernel, page tables and devices are in place.
    Loaded,
    /// The guest kernel's first instructions (mark 1).
    KernelEntry,
    /// The guest's memory management is up (mark 2).
    MemoryReady,
    /// The guest's devices are up (mark 3).
    DevicesReady,
    /// PID 1's first instruction (mark 4).
    Init,
    /// The first vsock connection to the guest stands.
    FirstConnection,
    /// The microVM has ended.
    Exit,
}

impl Phase {
    /// The phase of a mark that the guest writes to port 0x80.
    #[must_use]
    pub fn from_mark(mark: u8) -> Option<Self> {
        match mark {
            1 => Some(Self::KernelEntry),
            2 => Some(Self::MemoryReady),
            3 => Some(Self::DevicesReady),
            4 => Some(Self::Init),
            _ => None,
        }
    }

    /// A short name for a table of timings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VmmRunning => "VMM process runs",
            Self::VmCreated => "VM created",
            Self::Loaded => "kernel loaded",
            Self::KernelEntry => "kernel entered",
            Self::MemoryReady => "memory ready",
            Self::DevicesReady => "devices ready",
            Self::Init => "PID 1 runs",
            Self::FirstConnection => "agent connected",
            Self::Exit => "exit",
        }
    }
}

/// The phases reached so far, in order, each with the time since the start was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timings {
    reached: Vec<(Phase, Duration)>,
}

impl Timings {
    /// Notes a phase; only its first time counts.
    pub fn note(&mut self, phase: Phase, since_start: Duration) {
        if self.get(phase).is_none() {
            self.reached.push((phase, since_start));
        }
    }

    /// When a phase was reached, if it was.
    #[must_use]
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        self.reached
            .iter()
            .find(|(seen, _)| *seen == phase)
            .map(|(_, at)| *at)
    }

    /// The phases in the order they were reached.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> + '_ {
        self.reached.iter().copied()
    }
}

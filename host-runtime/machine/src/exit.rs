//! How a microVM ended, as a value a caller can branch on and a sentence a person can act on.

use serde::{Deserialize, Serialize};

/// How a microVM ended. `Display` gives one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The guest switched itself off: the one orderly end.
    #[error("the guest powered off")]
    PowerOff,
    /// The guest asked for a reset; a Nacre microVM is not restarted.
    #[error(
        "the guest asked for a reboot, which ends a microVM; start it again if it should run on"
    )]
    Reset,
    /// The guest kernel panicked and said so.
    #[error("the guest kernel panicked: {message}; the console log has the details")]
    GuestPanic {
        /// The panic message as the console log has it.
        message: String,
    },
    /// A CPU could not deliver a fault: the guest kernel is broken.
    #[error(
        "the guest's CPU {cpu} shut down after a triple fault{}; the guest kernel is broken, \
         please report it with the console log", at_rip(.rip)
    )]
    TripleFault {
        /// Which virtual CPU.
        cpu: u32,
        /// Where it was, if it could be read.
        rip: Option<u64>,
    },
    /// KVM could not go on with a CPU.
    #[error("KVM could not run the guest's CPU {cpu} any further: {what}")]
    Kvm {
        /// Which virtual CPU.
        cpu: u32,
        /// What KVM said, and where.
        what: String,
    },
    /// KVM does not run the first of the guest kernel's code.
    #[error(
        "this host's KVM cannot run the guest kernel's code ({what}); run the microVM by QEMU's software emulation: \
         --machine qemu, or NACRE_MACHINE=qemu"
    )]
    KvmUnfit {
        /// What KVM said.
        what: String,
    },
    /// The VMM process was killed.
    #[error("the VMM process was killed by signal {signal}{}", signal_hint(*.signal))]
    VmmKilled {
        /// The signal's number.
        signal: i32,
    },
    /// The process that opens files for the VMM was killed.
    #[error("the process that serves the microVM's files was killed by signal {signal}{}", signal_hint(*.signal))]
    GoferKilled {
        /// The signal's number.
        signal: i32,
    },
    /// The host's out-of-memory killer came by.
    #[error(
        "the host's out-of-memory killer ended the microVM: its processes reached the memory limit of their cgroup, \
         or the host had no memory left; give the pod more memory, or the host less to do"
    )]
    OutOfMemory,
    /// Its owner ended the microVM.
    #[error("the microVM was stopped by its owner")]
    Stopped,
    /// The VMM itself failed.
    #[error("the VMM failed: {message}")]
    VmmFailed {
        /// What it said last.
        message: String,
    },
}

impl ExitReason {
    /// The same, knowing whether the host's out-of-memory killer ended a process of the machine.
    #[must_use]
    pub(crate) fn knowing(self, has_oom_kills: impl Fn() -> bool) -> Self {
        match self {
            Self::VmmKilled { signal: 9 } | Self::GoferKilled { signal: 9 } if has_oom_kills() => {
                Self::OutOfMemory
            }
            reason => reason,
        }
    }

    /// Whether this is how a microVM should end; everything else means that work may be lost.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::PowerOff)
    }
}

fn at_rip(rip: &Option<u64>) -> String {
    rip.map_or_else(String::new, |rip| format!(" at {rip:#x}"))
}

/// What most often sends this signal.
fn signal_hint(signal: i32) -> &'static str {
    match signal {
        9 => " (SIGKILL): by an operator, or by the host's out-of-memory killer (see dmesg)",
        15 => " (SIGTERM): by an operator or a service manager",
        31 => {
            " (SIGSYS): it made a system call that its seccomp filter does not allow, please report it"
        }
        _ => "",
    }
}

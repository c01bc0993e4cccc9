//! What can go wrong before a microVM runs, each as one sentence with the input's name.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::exit::ExitReason;
use crate::kvm_hint::kvm_hint;
use crate::printing::said;
use crate::spec::{MAX_CPUS, MAX_MEMORY, MIN_MEMORY};

/// Why a microVM could not be started or reached. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Too many or no CPUs.
    #[error("{cpus} CPUs were asked for, but a microVM has 1 to {MAX_CPUS}")]
    Cpus {
        /// As asked.
        cpus: u32,
    },
    /// Too little or too much memory.
    #[error(
        "{} of memory was asked for, but a microVM has {} to {}",
        human(*.bytes), human(MIN_MEMORY), human(MAX_MEMORY)
    )]
    Memory {
        /// As asked.
        bytes: u64,
    },
    /// Another machine than those that there are.
    #[error("there is no machine {name:?}: a microVM runs on kvm or on qemu")]
    Kind {
        /// As asked.
        name: String,
    },
    /// What no machine has yet.
    #[error("a microVM cannot have {what} yet; leave it out")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// A request to a running machine was refused.
    #[error("{sentence}")]
    Refused {
        /// What the VMM said.
        sentence: String,
    },
    /// It was not answered.
    #[error("waited {} s for the VMM to {what}", .waited.as_secs())]
    NoAnswer {
        /// What it was asked to do.
        what: &'static str,
        /// For how long was waited.
        waited: Duration,
    },
    /// A command-line word the kernel could not take.
    #[error(
        "the kernel command-line word {word:?} is empty or has bytes that are not printable ASCII"
    )]
    CommandLineWord {
        /// As given.
        word: String,
    },
    /// A file could not be opened.
    #[error("cannot open the {what} {}: {}", path.display(), said(.source))]
    Open {
        /// What the file is for.
        what: &'static str,
        /// As given.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something else than a regular file.
    #[error("the {what} {} is not a regular file", path.display())]
    NotAFile {
        /// What the file is for.
        what: &'static str,
        /// As given.
        path: PathBuf,
    },
    /// A file of no bytes.
    #[error("the {what} {} is empty; build it again with `cargo xtask build-image`", path.display())]
    EmptyFile {
        /// What the file is for.
        what: &'static str,
        /// As given.
        path: PathBuf,
    },
    /// A disk that is no whole number of sectors.
    #[error(
        "the disk {} has {bytes} bytes; a disk has a multiple of 512 (`truncate -s` makes one)",
        path.display()
    )]
    DiskSize {
        /// As given.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A disk that somebody has who writes, or that this one wants to write to while others read.
    #[error(
        "the disk {} is in use: another pod has it, and who writes to a disk has it alone; wait for that pod's end, \
         or give both the disk read-only (FILE:ro)",
        path.display()
    )]
    DiskInUse {
        /// As given.
        path: PathBuf,
    },
    /// The shared directory is something else.
    #[error("the shared directory {} is not a directory", path.display())]
    NotADirectory {
        /// As given.
        path: PathBuf,
    },
    /// KVM is not there or not ours.
    #[error("cannot use /dev/kvm: {}; {}", said(.source), kvm_hint(.source))]
    Kvm {
        /// The system's answer.
        source: io::Error,
    },
    /// The VMM program could not be started.
    #[error("cannot start the VMM {}: {}; it belongs beside the nacre program", path.display(), said(.source))]
    Spawn {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The VMM refused or could not build the machine.
    #[error("the microVM could not be set up: {sentence}")]
    Setup {
        /// What the VMM said.
        sentence: String,
    },
    /// The VMM did not get ready.
    #[error("the VMM did not report a ready machine within {} s", .waited.as_secs())]
    SetupTimeout {
        /// For how long was waited.
        waited: Duration,
    },
    /// The channel to the VMM failed.
    #[error("the control channel to the VMM failed: {}", said(.source))]
    Channel {
        /// The system's answer.
        source: io::Error,
    },
    /// The microVM ended before it could be reached.
    #[error("the microVM ended: {reason}")]
    Ended {
        /// How.
        reason: ExitReason,
    },
    /// The guest did not accept a connection in time.
    #[error(
        "waited {:.1} s for the guest to accept a vsock connection on port {port}: {last}",
        .waited.as_secs_f32()
    )]
    Connect {
        /// The guest's port.
        port: u32,
        /// For how long was waited.
        waited: Duration,
        /// What the last attempt, or the wait before it, ended with.
        last: String,
    },
}

/// Bytes as a person writes them.
fn human(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

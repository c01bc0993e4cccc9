//! Why a machine could not be run by QEMU; each is a sentence that the owner passes on.

use std::io;

use jail::JailError;

use crate::command::MAX_LENGTH;

/// Why a machine could not be run by QEMU.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// The owner's first message made no sense.
    #[error(
        "the control channel did not bring a usable start request ({what}); nacre and nacre-qemu must be of one version"
    )]
    Start {
        /// What was wrong.
        what: &'static str,
    },
    /// The process could not be confined.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// There is no QEMU.
    #[error(
        "cannot start {program}: {source}; install QEMU for x86-64 (Debian's package is qemu-system-x86), or use \
         `--machine kvm`"
    )]
    Spawn {
        /// What was looked for in PATH.
        program: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// QEMU takes the file for no kernel.
    #[error(
        "the kernel {kernel} cannot be loaded: it is cut off, or none for this machine ({said}); build it again, or name another by --kernel"
    )]
    Kernel {
        /// Its name.
        kernel: String,
        /// What QEMU said.
        said: String,
    },
    /// QEMU did not get as far as to answer.
    #[error("QEMU did not start: {said}")]
    NotReady {
        /// What it said.
        said: String,
    },
    /// QEMU ended before it answered, which need not be wrong: its guest may have.
    #[error("QEMU did not {what}: it has ended")]
    Ended {
        /// What it was asked to do.
        what: &'static str,
    },
    /// A request to QEMU failed.
    #[error("QEMU did not {what}: {why}")]
    Monitor {
        /// What it was asked to do.
        what: &'static str,
        /// Its answer.
        why: String,
    },
    /// The command line is too long.
    #[error(
        "the kernel command line is {length} bytes long, more than the {MAX_LENGTH} that the kernel takes; pass fewer or shorter words"
    )]
    CommandLine {
        /// Its length.
        length: usize,
    },
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A network cannot be served.
    #[error("cannot give the guest the network {name}: {source}")]
    Net {
        /// As given.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A disk cannot be served.
    #[error("cannot give the guest the disk {path}: {source}")]
    Disk {
        /// As given.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The shared directory cannot be served.
    #[error("cannot share the directory {path} with the guest: {source}")]
    SharedDir {
        /// As given.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Turns what the system said into an error that names what was to be done.
pub(crate) fn io<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> QemuError {
    move |source| QemuError::Io {
        what,
        source: source.into(),
    }
}

//! Why a machine could not be built; each is a sentence that the parent passes on.

use std::io;

use super::layout::{ARCHIVE_MAX, IMAGE_MAX};
use host_machine::printing::said;
use jail::JailError;

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The parent's first message made no sense.
    #[error(
        "the control channel did not bring a usable start request ({what}); nacre and nacre-vmm must be of one version"
    )]
    Start {
        /// What was wrong.
        what: &'static str,
    },
    /// A KVM call failed.
    #[error("/dev/kvm refused to {what}: {}; {}", said(&(*source).into()), kvm_advice(.source))]
    Kvm {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        source: kvm_ioctls::Error,
    },
    /// The host gave no memory.
    #[error("the host did not give {bytes} bytes of address space for {what}: {message}")]
    Memory {
        /// For what.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// The system's answer.
        message: String,
    },
    /// A system call failed.
    #[error("cannot {what}: {}", said(.source))]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The process could not be confined.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// The kernel image is not one.
    #[error(
        "the guest kernel {path} is broken: {what}; build it again with `cargo xtask build-image`"
    )]
    Kernel {
        /// The file's name.
        path: String,
        /// What is wrong with it.
        what: KernelFault,
    },
    /// The archive is not one.
    #[error(
        "the initramfs archive {path} is broken: {what}; build it again with `cargo xtask build-image`"
    )]
    Archive {
        /// The file's name.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The command line is too long.
    #[error(
        "the kernel command line is {length} bytes long, more than the {most} that the kernel takes; pass fewer or shorter words"
    )]
    CommandLine {
        /// Its length.
        length: usize,
        /// The most.
        most: usize,
    },
    /// The shared directory cannot be served.
    #[error("cannot share the directory {path} with the guest: {}", said(.source))]
    SharedDir {
        /// As given.
        path: String,
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
    #[error("cannot give the guest the disk {path}: {}", said(.source))]
    Disk {
        /// As given.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Everything loaded does not fit.
    #[error(
        "kernel and page tables do not fit into {bytes} bytes of guest memory; give the microVM more"
    )]
    DoesNotFit {
        /// Guest memory.
        bytes: u64,
    },
}

/// What is wrong with a kernel image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelFault {
    /// No ELF magic.
    #[error("it is not an ELF file")]
    NotElf,
    /// The wrong kind of ELF.
    #[error("it is not a 64-bit little-endian x86-64 ELF file")]
    WrongMachine,
    /// Not position-independent.
    #[error("it is not a static-PIE (ELF type {0}, wanted 3)")]
    NotPie(u16),
    /// A header or segment reaches past the file's end.
    #[error("it is cut off: {0} reaches past the end of the file")]
    Truncated(&'static str),
    /// A header says something impossible.
    #[error("{0}")]
    Malformed(&'static str),
    /// A relocation this loader does not do.
    #[error("it has a relocation of type {0}, only R_X86_64_RELATIVE (8) is done")]
    Relocation(u32),
    /// Too big.
    #[error("it needs {0} bytes in memory, more than {IMAGE_MAX}")]
    TooBig(u64),
}

/// The sentence for an archive over the limit.
pub(super) fn archive_too_big(length: u64) -> String {
    format!("it has {length} bytes, more than {ARCHIVE_MAX}")
}

fn kvm_advice(source: &kvm_ioctls::Error) -> &'static str {
    match rustix::io::Errno::from_raw_os_error(source.errno()) {
        rustix::io::Errno::NOMEM => "the host is short of memory",
        rustix::io::Errno::BUSY => "another hypervisor may hold the processor's virtualisation",
        _ => "check that the host kernel's KVM is recent enough",
    }
}

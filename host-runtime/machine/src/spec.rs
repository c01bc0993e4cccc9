//! What a caller asks for, and the checks that need no KVM.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::MachineError;

/// The most virtual CPUs a microVM has.
pub const MAX_CPUS: u32 = 4;
/// The least guest memory the kernel and PID 1 run in, in bytes.
pub const MIN_MEMORY: u64 = 32 << 20;
/// The most guest memory: what the address map leaves room for, in bytes.
pub const MAX_MEMORY: u64 = 256 << 30;

/// Where the guest's console log (kernel messages, panics) goes.
#[derive(Debug, Default)]
pub enum LogTarget {
    /// Nowhere; a panic's message is still in the exit reason.
    #[default]
    Discard,
    /// Appended to this file, which is made if it is not there.
    File(PathBuf),
    /// Written to this descriptor.
    Fd(OwnedFd),
}

/// What a microVM is made of.
#[derive(Debug)]
pub struct MachineSpec {
    /// The guest kernel, `kernel.elf`.
    pub kernel: PathBuf,
    /// The archive with PID 1, `initramfs.img`.
    pub initramfs: PathBuf,
    /// How many virtual CPUs, 1 to [`MAX_CPUS`].
    pub cpus: u32,
    /// Guest memory in bytes, at least [`MIN_MEMORY`]; rounded up to 2 MiB.
    pub memory_bytes: u64,
    /// The directory that the guest sees as virtio-fs tag `root`.
    pub shared_dir: Option<PathBuf>,
    /// Further words for the kernel command line, `KEY=VALUE` becoming PID 1's environment.
    pub cmdline: Vec<String>,
    /// The console log.
    pub log: LogTarget,
    /// The VMM binary; `None` for the `nacre-vmm` beside the running program.
    pub vmm: Option<PathBuf>,
}

impl MachineSpec {
    /// One CPU, 256 MiB, nothing shared, no log.
    #[must_use]
    pub fn new(kernel: impl Into<PathBuf>, initramfs: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.into(),
            initramfs: initramfs.into(),
            cpus: 1,
            memory_bytes: 256 << 20,
            shared_dir: None,
            cmdline: Vec::new(),
            log: LogTarget::Discard,
            vmm: None,
        }
    }

    /// Checks the numbers; files are checked when they are opened.
    pub(crate) fn check(&self) -> Result<(), MachineError> {
        if self.cpus == 0 || self.cpus > MAX_CPUS {
            return Err(MachineError::Cpus { cpus: self.cpus });
        }
        if self.memory_bytes < MIN_MEMORY || self.memory_bytes > MAX_MEMORY {
            return Err(MachineError::Memory {
                bytes: self.memory_bytes,
            });
        }
        if let Some(word) = self.cmdline.iter().find(|word| !is_word(word)) {
            return Err(MachineError::CommandLineWord { word: word.clone() });
        }
        Ok(())
    }
}

/// Whether the kernel would read this as one word, or as one quoted word.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// Opens a file that must be a regular, non-empty file.
pub(crate) fn open_image(what: &'static str, path: &Path) -> Result<OwnedFd, MachineError> {
    let open = |source| MachineError::Open {
        what,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(open)?;
    let metadata = file.metadata().map_err(open)?;
    if !metadata.is_file() {
        return Err(MachineError::NotAFile {
            what,
            path: path.to_owned(),
        });
    }
    if metadata.len() == 0 {
        return Err(MachineError::EmptyFile {
            what,
            path: path.to_owned(),
        });
    }
    Ok(file.into())
}

/// Opens the shared directory as a place, without reading it.
pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd, MachineError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        rustix::io::Errno::NOTDIR => MachineError::NotADirectory {
            path: path.to_owned(),
        },
        errno => MachineError::Open {
            what: "shared directory",
            path: path.to_owned(),
            source: errno.into(),
        },
    })
}

/// Opens the console log's target.
pub(crate) fn open_log(log: &LogTarget) -> Result<OwnedFd, MachineError> {
    let open_append = |path: &Path| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| MachineError::Open {
                what: "console log",
                path: path.to_owned(),
                source,
            })
    };
    match log {
        LogTarget::Discard => open_append(Path::new("/dev/null")).map(Into::into),
        LogTarget::File(path) => open_append(path).map(Into::into),
        LogTarget::Fd(fd) => fd.try_clone().map_err(|source| MachineError::Open {
            what: "console log",
            path: PathBuf::from("(inherited descriptor)"),
            source,
        }),
    }
}

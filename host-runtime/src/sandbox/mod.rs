//! One microVM, seen from the process that owns it.
//!
//! [`Sandbox::start`] spawns `nacre-vmm` and hands it open files only; [`Sandbox::connect`] opens vsock
//! streams to the guest; [`Sandbox::wait`] gives the one [`ExitReason`]. A thread reads the VMM's events.
//! Dropping a sandbox kills its VMM. All methods take `&self` and may be called from any thread.

mod config;
mod error;
mod exit;
mod state;
mod timings;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub use config::{LogTarget, MAX_CPUS, MAX_MEMORY, MIN_MEMORY, SandboxConfig};
pub use error::SandboxError;
pub use exit::ExitReason;
pub use timings::{Phase, Timings};

use crate::control::{self, Request, VmConfig};
use state::{Shared, Waited};

/// How long a VMM may take to build its machine.
const SETUP_BOUND: Duration = Duration::from_secs(20);
/// How long [`Sandbox::connect`] waits for the guest; generous, because some hosts' KVM emulates.
pub const CONNECT_BOUND: Duration = Duration::from_secs(60);
/// The pauses between connection attempts.
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_MOST: Duration = Duration::from_millis(100);

/// A running (or ended) microVM.
#[derive(Debug)]
pub struct Sandbox {
    control: OwnedFd,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    pid: u32,
}

impl Sandbox {
    /// Starts a microVM and returns when its CPUs are about to run.
    ///
    /// # Errors
    /// A [`SandboxError`] for every input that cannot work, with nothing left running.
    pub fn start(config: &SandboxConfig) -> Result<Self, SandboxError> {
        let started = Instant::now();
        config.check()?;
        let (vm, fds) = open_inputs(config)?;
        check_kvm()?;
        let (ours, theirs) = channel()?;
        let path = config.vmm.clone().unwrap_or_else(vmm_beside_us);
        let child = Command::new(&path)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            // A terminal's keys are for the owner, which decides what they mean for the guest.
            .process_group(0)
            .spawn()
            .map_err(|source| SandboxError::Spawn { path, source })?;
        let pid = child.id();
        let shared = Arc::new(Shared::new(started, child)?);
        let reader = state::spawn_reader(&shared, ours.try_clone().map_err(channel_error)?)?;
        let sandbox = Self {
            control: ours,
            shared,
            reader: Some(reader),
            pid,
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // A VMM that is already gone shows in the wait below, with its reason.
        let _ = control::send(sandbox.control.as_fd(), &Request::Start(vm), &fds);
        match sandbox.shared.wait_started(SETUP_BOUND) {
            Waited::Done(Ok(())) => Ok(sandbox),
            Waited::Done(Err(sentence)) => Err(SandboxError::Setup { sentence }),
            Waited::Ended(reason) => Err(SandboxError::Ended { reason }),
            Waited::TimedOut => Err(SandboxError::SetupTimeout {
                waited: SETUP_BOUND,
            }),
        }
    }

    /// Connects to a vsock port of the guest within [`CONNECT_BOUND`].
    ///
    /// # Errors
    /// [`SandboxError::Ended`] when the microVM ends meanwhile, [`SandboxError::Connect`] after the bound.
    pub fn connect(&self, port: u32) -> Result<UnixStream, SandboxError> {
        self.connect_within(port, CONNECT_BOUND)
    }

    /// Connects to a vsock port of the guest, trying again until the guest listens or the bound is over.
    ///
    /// # Errors
    /// As [`Sandbox::connect`].
    pub fn connect_within(&self, port: u32, bound: Duration) -> Result<UnixStream, SandboxError> {
        let begun = Instant::now();
        let left = || bound.saturating_sub(begun.elapsed());
        let timeout = |last: String| SandboxError::Connect {
            port,
            waited: begun.elapsed(),
            last,
        };
        match self.shared.wait_phase(Phase::Init, left()) {
            Waited::Done(()) => {}
            Waited::Ended(reason) => return Err(SandboxError::Ended { reason }),
            Waited::TimedOut => return Err(timeout(self.shared.progress())),
        }
        let mut pause = RETRY_FIRST;
        loop {
            let (ours, theirs) = UnixStream::pair().map_err(channel_error)?;
            let id = self.shared.new_attempt();
            let request = Request::Connect { id, port };
            // A VMM that is gone shows in the wait below, with its reason.
            let _ = control::send(self.control.as_fd(), &request, &[theirs.as_fd()]);
            drop(theirs);
            let last = match self.shared.wait_attempt(id, left()) {
                Waited::Done(Ok(())) => return Ok(ours),
                Waited::Done(Err(sentence)) => sentence,
                Waited::Ended(reason) => return Err(SandboxError::Ended { reason }),
                Waited::TimedOut => return Err(timeout("the guest did not answer".to_owned())),
            };
            if left() <= pause {
                return Err(timeout(last));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    /// Waits for the microVM's end.
    #[must_use]
    pub fn wait(&self) -> ExitReason {
        self.shared.wait_exit()
    }

    /// How the microVM ended, or `None` while it runs.
    #[must_use]
    pub fn try_wait(&self) -> Option<ExitReason> {
        self.shared.exit()
    }

    /// Ends the microVM at once, without the guest's consent, and waits until its process is gone.
    pub fn kill(&self) -> ExitReason {
        self.shared.kill();
        self.wait()
    }

    /// The phases reached so far.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.shared.timings()
    }

    /// A descriptor that becomes readable when the microVM has ended; poll it, do not read it.
    #[must_use]
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.shared.exit_fd()
    }

    /// The VMM's process id, for messages and accounting.
    #[must_use]
    pub fn vmm_pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.kill();
        if let Some(reader) = self.reader.take() {
            // A panicked reader has nothing more to clean up.
            let _ = reader.join();
        }
    }
}

/// Opens every file the microVM needs, in the order the channel's contract names.
fn open_inputs(config: &SandboxConfig) -> Result<(VmConfig, Vec<OwnedFd>), SandboxError> {
    let mut fds = vec![
        config::open_image("guest kernel", &config.kernel)?,
        config::open_image("initramfs archive", &config.initramfs)?,
        config::open_log(&config.log)?,
    ];
    if let Some(dir) = &config.shared_dir {
        fds.push(config::open_dir(dir)?);
    }
    let vm = VmConfig {
        kernel: config.kernel.display().to_string(),
        initramfs: config.initramfs.display().to_string(),
        shared_dir: config
            .shared_dir
            .as_ref()
            .map(|dir| dir.display().to_string()),
        cpus: config.cpus,
        memory_bytes: config.memory_bytes,
        cmdline: config.cmdline.clone(),
    };
    Ok((vm, fds))
}

/// Tells a missing or forbidden KVM here, where the caller's rights are the ones that count.
fn check_kvm() -> Result<(), SandboxError> {
    let open = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    open.map(drop)
        .map_err(|source| SandboxError::Kvm { source })
}

fn channel() -> Result<(OwnedFd, OwnedFd), SandboxError> {
    let kind = (
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
    );
    rustix::net::socketpair(kind.0, kind.1, kind.2, None)
        .map_err(|errno| channel_error(errno.into()))
}

fn channel_error(source: io::Error) -> SandboxError {
    SandboxError::Channel { source }
}

/// The VMM installed beside the running program; cargo's test programs live one folder deeper.
fn vmm_beside_us() -> PathBuf {
    let name = "nacre-vmm";
    let Ok(exe) = std::env::current_exe() else {
        return PathBuf::from(name);
    };
    let mut folders = exe
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name));
    let beside = exe.with_file_name(name);
    folders.find(|path| path.exists()).unwrap_or(beside)
}

//! The machine in a process of its own: `nacre-vmm`, started here, owned through the control channel.
//!
//! [`VmmProcess::start`] spawns it and hands it open files only. A thread reads its events. Because the
//! channel has no name and the process ends when it hangs up, no VMM outlives its owner.

mod state;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::control::{self, Request, VmConfig};
use crate::{ExitReason, Machine, MachineError, MachineSpec, Phase, Timings, spec};
use state::{Shared, Waited};

/// How long a VMM may take to build its machine.
const SETUP_BOUND: Duration = Duration::from_secs(20);
/// The pauses between connection attempts.
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_MOST: Duration = Duration::from_millis(100);

/// A microVM in a process of its own. Dropping it kills that process.
#[derive(Debug)]
pub struct VmmProcess {
    control: OwnedFd,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    pid: u32,
}

impl VmmProcess {
    /// Starts a microVM and returns when its CPUs are about to run.
    ///
    /// # Errors
    /// A [`MachineError`] for every input that cannot work, with nothing left running.
    pub fn start(spec: &MachineSpec) -> Result<Self, MachineError> {
        let started = Instant::now();
        spec.check()?;
        let (vm, fds) = open_inputs(spec)?;
        check_kvm()?;
        let (ours, theirs) = channel()?;
        let path = spec.vmm.clone().unwrap_or_else(vmm_beside_us);
        let child = Command::new(&path)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            // A terminal's keys are for the owner, which decides what they mean for the guest.
            .process_group(0)
            .spawn()
            .map_err(|source| MachineError::Spawn { path, source })?;
        let pid = child.id();
        let shared = Arc::new(Shared::new(started, child));
        let reader = state::spawn_reader(&shared, ours.try_clone().map_err(channel_error)?)?;
        let machine = Self {
            control: ours,
            shared,
            reader: Some(reader),
            pid,
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // A VMM that is already gone shows in the wait below, with its reason.
        let _ = control::send(machine.control.as_fd(), &Request::Start(vm), &fds);
        match machine.shared.wait_started(SETUP_BOUND) {
            Waited::Done(Ok(())) => Ok(machine),
            Waited::Done(Err(sentence)) => Err(MachineError::Setup { sentence }),
            Waited::Ended(reason) => Err(MachineError::Ended { reason }),
            Waited::TimedOut => Err(MachineError::SetupTimeout {
                waited: SETUP_BOUND,
            }),
        }
    }
}

impl Machine for VmmProcess {
    fn connect(&self, port: u32, bound: Duration) -> Result<UnixStream, MachineError> {
        let begun = Instant::now();
        let left = || bound.saturating_sub(begun.elapsed());
        let timeout = |last: String| MachineError::Connect {
            port,
            waited: begun.elapsed(),
            last,
        };
        match self.shared.wait_phase(Phase::Init, left()) {
            Waited::Done(()) => {}
            Waited::Ended(reason) => return Err(MachineError::Ended { reason }),
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
                Waited::Ended(reason) => return Err(MachineError::Ended { reason }),
                Waited::TimedOut => return Err(timeout("the guest did not answer".to_owned())),
            };
            if left() <= pause {
                return Err(timeout(last));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    fn wait(&self, bound: Option<Duration>) -> Option<ExitReason> {
        self.shared.wait_exit(bound)
    }

    fn kill(&self) -> ExitReason {
        self.shared.kill();
        self.shared.wait_end()
    }

    fn timings(&self) -> Timings {
        self.shared.timings()
    }

    fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for VmmProcess {
    fn drop(&mut self) {
        self.shared.kill();
        if let Some(reader) = self.reader.take() {
            // A panicked reader has nothing more to clean up.
            let _ = reader.join();
        }
    }
}

/// Opens every file the microVM needs, in the order the channel's contract names.
fn open_inputs(spec: &MachineSpec) -> Result<(VmConfig, Vec<OwnedFd>), MachineError> {
    let mut fds = vec![
        spec::open_image("guest kernel", &spec.kernel)?,
        spec::open_image("initramfs archive", &spec.initramfs)?,
        spec::open_log(&spec.log)?,
    ];
    if let Some(dir) = &spec.shared_dir {
        fds.push(spec::open_dir(dir)?);
    }
    let vm = VmConfig {
        kernel: spec.kernel.display().to_string(),
        initramfs: spec.initramfs.display().to_string(),
        shared_dir: spec
            .shared_dir
            .as_ref()
            .map(|dir| dir.display().to_string()),
        cpus: spec.cpus,
        memory_bytes: spec.memory_bytes,
        cmdline: spec.cmdline.clone(),
    };
    Ok((vm, fds))
}

/// Tells a missing or forbidden KVM here, where the caller's rights are the ones that count.
fn check_kvm() -> Result<(), MachineError> {
    let open = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    open.map(drop)
        .map_err(|source| MachineError::Kvm { source })
}

fn channel() -> Result<(OwnedFd, OwnedFd), MachineError> {
    let kind = (
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
    );
    rustix::net::socketpair(kind.0, kind.1, kind.2, None)
        .map_err(|errno| channel_error(errno.into()))
}

fn channel_error(source: io::Error) -> MachineError {
    MachineError::Channel { source }
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

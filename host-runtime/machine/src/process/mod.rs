//! The machine in a process of its own: `nacre-vmm` or `nacre-qemu`, started here, owned through the control channel.
//!
//! [`VmmProcess::start`] spawns it and hands it open files only. A thread reads its events. Because the
//! channel has no name and the process ends when it hangs up, no VMM outlives its owner.

mod state;
mod worker;

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

use crate::bounds;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use crate::control::{self, Call, Reply, Request, ShareConfig, VERSION, VmConfig};
use crate::{
    Attachment, ExitReason, Machine, MachineError, MachineKind, MachineSpec, Phase, Stats, Timings,
    spec,
};
use state::{Shared, Waited};

/// The pauses between connection attempts.
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_MOST: Duration = Duration::from_millis(100);

/// A microVM in a process of its own. Dropping it kills that process.
#[derive(Debug)]
pub struct VmmProcess {
    control: OwnedFd,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
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
        if spec.kind == MachineKind::Kvm {
            check_kvm()?;
        }
        let (ours, theirs) = channel()?;
        // The VMM never waits for a reader, who reads what it has said when it has ended.
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (said, stderr) =
            rustix::pipe::pipe_with(flags).map_err(|errno| channel_error(errno.into()))?;
        let program = spec.kind.program();
        let path = spec.vmm.clone();
        let path = path.unwrap_or_else(|| beside_us(program));
        let child = Command::new(&path)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(stderr)
            .env_clear()
            // Where the QEMU machine looks for QEMU.
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            // Of several arenas, those but the first open a file of procfs to shrink, which no filter allows.
            .env("MALLOC_ARENA_MAX", "1")
            // A terminal's keys are for the owner, which decides what they mean for the guest.
            .process_group(0)
            .spawn()
            .map_err(|source| MachineError::Spawn { path, source })?;
        tracing::debug!(pid = child.id(), program, "the machine's process runs");
        let shared = Arc::new(Shared::new(
            started,
            program,
            child,
            said,
            spec.leaf.as_ref(),
        ));
        let reader = state::spawn_reader(&shared, ours.try_clone().map_err(channel_error)?)?;
        let machine = Self {
            control: ours,
            shared,
            reader: Some(reader),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match machine.call(Request::Start(vm), &fds, bounds::MACHINE_SETUP.get()) {
            Waited::Done(Ok(_)) => Ok(machine),
            Waited::Done(Err(sentence)) => Err(MachineError::Setup { sentence }),
            Waited::Ended(reason) => Err(MachineError::Ended { reason }),
            Waited::TimedOut => Err(MachineError::SetupTimeout {
                waited: bounds::MACHINE_SETUP.get(),
            }),
        }
    }

    /// Kills the process, and hangs up on what it may have gone on as without saying so.
    fn end(&self) {
        self.shared.kill();
        // It may have hung up by itself.
        let _ = rustix::net::shutdown(&self.control, Shutdown::Both);
    }

    /// Sends a request and waits for its answer.
    fn call(
        &self,
        request: Request,
        fds: &[BorrowedFd<'_>],
        bound: Duration,
    ) -> Waited<Result<Reply, String>> {
        let id = self.shared.new_call();
        let call = Call {
            version: VERSION,
            id,
            request,
        };
        // A VMM that is already gone shows in the wait, with its reason.
        let _ = control::send(self.control.as_fd(), &call, fds);
        self.shared.wait_answer(id, bound)
    }

    /// A request whose answer depends on the VMM alone; `what` it is to do, for messages.
    fn ask(
        &self,
        what: &'static str,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, MachineError> {
        match self.call(request, fds, bounds::MACHINE_ANSWER.get()) {
            Waited::Done(Ok(reply)) => Ok(reply),
            Waited::Done(Err(sentence)) => Err(MachineError::Refused { sentence }),
            Waited::Ended(reason) => Err(MachineError::Ended { reason }),
            Waited::TimedOut => Err(MachineError::NoAnswer {
                what,
                waited: bounds::MACHINE_ANSWER.get(),
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
            let request = Request::Connect { port };
            let answer = self.call(request, &[theirs.as_fd()], left());
            drop(theirs);
            let last = match answer {
                Waited::Done(Ok(_)) => return Ok(ours),
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
        self.end();
        self.shared.wait_end()
    }

    fn pause(&self) -> Result<(), MachineError> {
        self.ask("stop the guest's CPUs", Request::Pause, &[])
            .map(drop)
    }

    fn resume(&self) -> Result<(), MachineError> {
        let request = Request::Resume;
        self.ask("let the guest's CPUs run on", request, &[])
            .map(drop)
    }

    fn stats(&self) -> Result<Stats, MachineError> {
        match self.ask("count", Request::Stats, &[])? {
            Reply::Stats(stats) => Ok(stats),
            Reply::Done => Err(MachineError::Refused {
                sentence: "the VMM answered something else than was asked".to_owned(),
            }),
        }
    }

    fn attach(&self, what: Attachment) -> Result<(), MachineError> {
        let directory = match &what {
            Attachment::Share(share) => Some(spec::open_sub_tree(&share.dir)?),
            Attachment::Net(_) | Attachment::Disk(_) => None,
        };
        let fds: Vec<_> = directory.iter().map(AsFd::as_fd).collect();
        let request = Request::Attach(what);
        self.ask("attach a device", request, &fds).map(drop)
    }

    fn detach(&self, what: Attachment) -> Result<(), MachineError> {
        let request = Request::Detach(what);
        self.ask("detach a device", request, &[]).map(drop)
    }

    fn timings(&self) -> Timings {
        self.shared.timings()
    }

    fn pid(&self) -> u32 {
        self.shared.pid()
    }
}

impl Drop for VmmProcess {
    fn drop(&mut self) {
        self.end();
        if let Some(reader) = self.reader.take() {
            // A panicked reader has nothing more to clean up.
            let _ = reader.join();
        }
    }
}

/// Opens every file the microVM needs, in the order the channel's contract names.
fn open_inputs(spec: &MachineSpec) -> Result<(VmConfig, Vec<OwnedFd>), MachineError> {
    let boot = &spec.boot;
    let mut fds = vec![
        spec::open_image("guest kernel", &boot.kernel)?,
        spec::open_image("initramfs archive", &boot.initramfs)?,
        spec::open_log(&spec.log)?,
    ];
    for share in &spec.shares {
        fds.push(spec::open_dir(&share.dir)?);
    }
    for disk in &spec.disks {
        fds.push(spec::open_disk(disk)?);
    }
    for net in &spec.nets {
        fds.push(net.link.try_clone().map_err(channel_error)?);
    }
    if let Some(leaf) = &spec.leaf {
        fds.extend(leaf.open()?);
    }
    let disks = spec
        .disks
        .iter()
        .map(|disk| disk.file.display().to_string());
    let shares = spec.shares.iter().map(|share| ShareConfig {
        tag: share.tag.clone(),
        path: share.dir.display().to_string(),
    });
    let vm = VmConfig {
        kernel: boot.kernel.display().to_string(),
        initramfs: boot.initramfs.display().to_string(),
        shares: shares.collect(),
        disks: disks.collect(),
        nets: spec.nets.iter().map(|net| net.config.clone()).collect(),
        cpus: spec.cpus,
        memory: spec.memory,
        cmdline: boot.cmdline.clone(),
        counts_instructions: spec.counts_instructions,
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

/// The program installed beside the running one; cargo's test programs live one folder deeper.
fn beside_us(name: &str) -> PathBuf {
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

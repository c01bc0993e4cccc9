//! One microVM on QEMU: starts everything, serves the owner's requests, and says how it ended.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use devices::blk::Blk;
use devices::blk::disk::Disk;
use devices::console::ConsoleLog;
use devices::fs::TAG_LEN;
use devices::vsock::Vsock;
use host_machine::control::{self, Call, MAX_MESSAGE, Reply, Request, ShareConfig};
use host_machine::far_end::{self, Reporter, Start};
use host_machine::{ExitReason, NetConfig, Phase, Stats};
use jail::files::SharedFiles;
use jail::gofer::Gofer;
use jail::seccomp::{self, Role};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::backend::memory::SharedMemory;
use crate::backend::{self, Served, Service, SharedDevice};
use crate::command::Inherited;
use crate::door::Door;
use crate::error::{QemuError, io};
use crate::monitor::Monitor;
use crate::process::{self, Qemu};

/// The guest's context identifier on vsock.
const GUEST_CID: u64 = 3;

/// A machine whose CPUs are about to run.
#[derive(Debug)]
pub struct Ready {
    qemu: Qemu,
    gofer: Option<Gofer>,
    monitor: Monitor,
    control: OwnedFd,
    vsock: Arc<Mutex<Vsock<SharedMemory>>>,
    served: Vec<Served>,
    files: Option<SharedFiles<SharedMemory>>,
    is_paused: Arc<AtomicBool>,
    log: Arc<ConsoleLog>,
    /// What reads the guest's log and its marks, to their ends.
    readers: Vec<JoinHandle<()>>,
    reporter: Arc<Reporter>,
    counts_instructions: bool,
}

/// Our ends of what stands between us and QEMU, or QEMU's.
#[derive(Debug)]
struct Streams {
    monitor: UnixStream,
    log: UnixStream,
    marks: UnixStream,
    vsock: UnixStream,
    fs: Option<UnixStream>,
    disks: Vec<UnixStream>,
}

impl Streams {
    /// Both ends of all.
    fn pairs(has_fs: bool, disks: usize) -> Result<(Self, Self), QemuError> {
        let pair = || UnixStream::pair().map_err(io("make a socket pair"));
        let (monitor, log, marks, vsock) = (pair()?, pair()?, pair()?, pair()?);
        let (fs, fs_theirs) = has_fs.then(pair).transpose()?.unzip();
        let disks = (0..disks).map(|_| pair()).collect::<Result<Vec<_>, _>>()?;
        let (disks, disks_theirs) = disks.into_iter().unzip();
        let ours = Self {
            monitor: monitor.0,
            log: log.0,
            marks: marks.0,
            vsock: vsock.0,
            fs,
            disks,
        };
        let theirs = Self {
            monitor: monitor.1,
            log: log.1,
            marks: marks.1,
            vsock: vsock.1,
            fs: fs_theirs,
            disks: disks_theirs,
        };
        Ok((ours, theirs))
    }

    fn iter(&self) -> impl Iterator<Item = &UnixStream> {
        let others = [&self.monitor, &self.log, &self.marks, &self.vsock];
        others.into_iter().chain(&self.fs).chain(&self.disks)
    }
}

/// Builds the machine that was asked for.
///
/// # Errors
/// When the host, QEMU or an input does not allow it.
pub fn start(start: Start, control: OwnedFd, reporter: &Arc<Reporter>) -> Result<Ready, QemuError> {
    let (files, gofer) = start.share.as_ref().map(shared_dir).transpose()?.unzip();
    let disks = start.disks.iter().zip(0u32..).map(disk);
    let disks = disks.collect::<Result<Vec<_>, _>>()?;
    let log = Arc::new(ConsoleLog::new(
        start
            .log
            .try_clone()
            .map_err(io("copy a descriptor"))?
            .into(),
    ));
    let nets = start.nets.iter().map(|of_net| net(of_net, &log));
    let nets = nets.collect::<Result<Vec<_>, _>>()?;
    let doors = nets.iter().map(|_| Door::new());
    let doors = doors.collect::<Result<Vec<_>, _>>();
    let doors = doors.map_err(io("make a socket for QEMU's network"))?;
    let (mut qemu, streams) = launch(&start, &doors)?;
    let is_paused = Arc::<AtomicBool>::default();
    let service = |stream, poller| Service {
        stream,
        poller,
        is_paused: Arc::clone(&is_paused),
        reporter: Arc::clone(reporter),
    };
    let poller = backend::poller()?;
    // Connection attempts have the numbers of the owner's calls.
    let owner = Arc::clone(reporter);
    let tell = move |attempt, outcome: Result<(), &str>| owner.connected(attempt, outcome);
    let vsock = Vsock::new(GUEST_CID, Arc::clone(&poller), tell);
    let vsock = Arc::new(Mutex::new(vsock));
    let (device, same) = (Arc::clone(&vsock), Arc::clone(&vsock));
    let service_of_vsock = service(streams.vsock, poller);
    let mut served = vec![backend::serve(device, Some(same), service_of_vsock)?];
    if let (Some(files), Some(stream)) = (&files, streams.fs) {
        let service = service(stream, backend::poller()?);
        served.push(backend::serve(files.device(), None, service)?);
    }
    let mut devices: Vec<_> = disks.into_iter().zip(streams.disks).collect();
    for (net, door) in nets.into_iter().zip(&doors) {
        // QEMU comes in before it asks anything of any device; one that ended first is told of below.
        let came = door.accept(qemu.ended());
        let came = came.map_err(io("accept QEMU's network"))?;
        devices.extend(came.map(|stream| (net, stream)));
    }
    for (device, stream) in devices {
        let service = service(stream, backend::poller()?);
        served.push(backend::serve(device, None, service)?);
    }
    let readers = vec![
        read_log(streams.log, &log)?,
        read_marks(streams.marks, reporter)?,
    ];
    let Some(monitor) = Monitor::connect(streams.monitor)? else {
        let (_, said) = qemu.reap();
        let kernel = format!("/proc/self/fd/{}", start.kernel.as_raw_fd());
        let said = said.replace(&kernel, &start.config.kernel);
        // What it says of an ELF file that ends too early.
        if said.contains("loading elf kernel") {
            let kernel = start.config.kernel;
            return Err(QemuError::Kernel { kernel, said });
        }
        return Err(QemuError::NotReady { said });
    };
    reporter.phase(Phase::VmCreated);
    reporter.phase(Phase::Loaded);
    Ok(Ready {
        qemu,
        gofer,
        monitor,
        control,
        vsock,
        served,
        files,
        is_paused,
        log,
        readers,
        reporter: Arc::clone(reporter),
        counts_instructions: start.config.counts_instructions,
    })
}

/// Starts QEMU; gives our ends of the streams. QEMU's are closed here, so that its end is seen on ours.
fn launch(start: &Start, doors: &[Door]) -> Result<(Qemu, Streams), QemuError> {
    let (ours, theirs) = Streams::pairs(start.share.is_some(), start.disks.len())?;
    let fs = theirs.fs.as_ref().zip(start.share.as_ref());
    let inherited = Inherited {
        kernel: start.kernel.as_raw_fd(),
        initramfs: start.initramfs.as_raw_fd(),
        monitor: theirs.monitor.as_raw_fd(),
        log: theirs.log.as_raw_fd(),
        marks: theirs.marks.as_raw_fd(),
        vsock: theirs.vsock.as_raw_fd(),
        fs: fs.map(|(fs, (share, _))| (fs.as_raw_fd(), share.tag.clone())),
        disks: theirs.disks.iter().map(AsRawFd::as_raw_fd).collect(),
        nets: doors.iter().map(|door| door.place().as_raw_fd()).collect(),
    };
    let mut handed = vec![start.kernel.as_fd(), start.initramfs.as_fd()];
    handed.extend(theirs.iter().map(AsFd::as_fd));
    handed.extend(doors.iter().map(Door::place));
    // The guest's clock, which starts with its CPUs, is late by what QEMU takes to get there.
    let epoch_ns = now_ns();
    let qemu = Qemu::start(&start.config, &inherited, &handed, epoch_ns)?;
    Ok((qemu, ours))
}

impl Ready {
    /// Runs until the machine ends, and says how; `started` is called when the CPUs are about to run.
    ///
    /// # Errors
    /// When QEMU does not let them run or nothing can be waited for.
    pub fn run(mut self, started: impl FnOnce()) -> Result<ExitReason, QemuError> {
        seccomp::confine_process(Role::Companion)?;
        started();
        match self.monitor.execute("cont", "let the guest's CPUs run") {
            // The guest was faster than the answer; how it ended is found out below.
            Ok(()) | Err(QemuError::Ended { .. }) => {}
            Err(error) => return Err(error),
        }
        loop {
            let mut polled = vec![
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::from_borrowed_fd(self.qemu.ended(), PollFlags::IN),
            ];
            let gofer = self.gofer.as_ref();
            // It speaks to the device only, and hangs up here, too.
            polled.extend(gofer.map(|gofer| PollFd::new(gofer.socket(), PollFlags::empty())));
            match rustix::event::poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(io("poll for events")(errno)),
            }
            let is_ready = |index: usize| {
                let fd: Option<&PollFd<'_>> = polled.get(index);
                fd.is_some_and(|fd| !fd.revents().is_empty())
            };
            let [control, qemu, no_gofer] = [0, 1, 2].map(is_ready);
            if let Some(gofer) = self.gofer.as_ref().filter(|_| no_gofer && !qemu) {
                let reason = gofer.end();
                self.end();
                return Ok(reason);
            }
            if qemu {
                return Ok(self.end());
            }
            if control && !self.take_request() {
                return Ok(ExitReason::Stopped);
            }
        }
    }

    /// Takes one request of the owner's; false when the owner is gone, and so is the machine.
    fn take_request(&self) -> bool {
        let mut buffer = vec![0; MAX_MESSAGE];
        match control::receive::<Call>(self.control.as_fd(), &mut buffer) {
            Ok(Some((call, fds))) => {
                if let Some(reply) = self.serve(call.id, call.request, fds) {
                    self.reporter.answer(call.id, reply);
                }
                true
            }
            // Nothing that could be answered.
            Err(Errno::BADMSG) => true,
            Ok(None) | Err(_) => false,
        }
    }

    /// Does what is asked; `None` when the answer comes later.
    fn serve(
        &self,
        id: u64,
        request: Request,
        mut fds: Vec<OwnedFd>,
    ) -> Option<Result<Reply, String>> {
        let done = |result: Result<(), QemuError>| {
            result
                .map(|()| Reply::Done)
                .map_err(|error| error.to_string())
        };
        Some(match request {
            Request::Connect { port } => match fds.pop() {
                Some(stream) => {
                    let mut vsock = self.vsock.lock().unwrap_or_else(PoisonError::into_inner);
                    vsock.connect(id, port, stream);
                    return None;
                }
                None => Err("the request came without a socket".to_owned()),
            },
            Request::Pause => {
                self.is_paused.store(true, Ordering::Release);
                done(self.monitor.execute("stop", "stop the guest's CPUs"))
            }
            Request::Resume => {
                let resumed = self.monitor.execute("cont", "let the guest's CPUs run on");
                self.is_paused.store(false, Ordering::Release);
                done(resumed)
            }
            Request::Stats => Ok(Reply::Stats(Stats {
                // Emulated CPUs do not come out of the guest.
                exits: Vec::new(),
                devices: {
                    let served = self.served.iter().map(Served::stats);
                    served.chain(self.gofer.iter().map(Gofer::stats)).collect()
                },
                instructions: self.instructions(),
            })),
            Request::Start(_) => Err("the machine has been started before".to_owned()),
            Request::Attach(what) => far_end::attach(&what, fds, self.files.as_ref()),
            Request::Detach(what) => far_end::detach(&what, self.files.as_ref()),
        })
    }

    /// How many instructions the guest has executed, if they are counted.
    fn instructions(&self) -> Option<u64> {
        if !self.counts_instructions {
            return None;
        }
        // What QEMU cannot say now is not known; the machine does not end for it.
        let answer = self.monitor.query("query-replay", "count instructions");
        answer.ok()?["icount"].as_u64()
    }

    /// QEMU has ended: passes on what the guest has said, and finds out why.
    fn end(&mut self) -> ExitReason {
        let (status, said) = self.qemu.reap();
        let mut vsock = self.vsock.lock().unwrap_or_else(PoisonError::into_inner);
        vsock.finish();
        drop(vsock);
        for reader in self.readers.drain(..) {
            // A reader that panicked has ended the process.
            let _ = reader.join();
        }
        self.log.flush();
        let shutdown = self.monitor.shutdown_reason();
        let panic_message = || self.log.panic_message();
        process::reason(status, &said, shutdown.as_deref(), panic_message)
    }
}

/// A file system device that serves this directory, whose files a gofer opens.
fn shared_dir(
    (share, dir): &(ShareConfig, OwnedFd),
) -> Result<(SharedFiles<SharedMemory>, Gofer), QemuError> {
    let failed = |source| QemuError::SharedDir {
        path: share.path.clone(),
        source,
    };
    if share.tag.len() > TAG_LEN {
        return Err(QemuError::Start {
            what: "a share's tag is too long",
        });
    }
    SharedFiles::start(&share.tag, dir).map_err(failed)
}

/// A block device with the blocks of this file.
fn disk(((path, file), number): (&(String, OwnedFd), u32)) -> Result<SharedDevice, QemuError> {
    let failed = |source| QemuError::Disk {
        path: path.clone(),
        source,
    };
    let file = file.try_clone().map_err(failed)?;
    let disk = Disk::numbered(file.into(), number).map_err(failed)?;
    Ok(Arc::new(Mutex::new(Blk::new(disk))))
}

/// A network device whose frames go through this descriptor.
fn net(
    (config, link): &(NetConfig, OwnedFd),
    log: &Arc<ConsoleLog>,
) -> Result<SharedDevice, QemuError> {
    let failed = |source| QemuError::Net {
        name: config.name.clone(),
        source,
    };
    let link = link.try_clone().map_err(failed)?;
    let log = Arc::clone(log);
    let tell = move |what: &str| log.write(format!("nacre-qemu: {what}").as_bytes());
    let device = jail::net::device(config, link, tell).map_err(failed)?;
    Ok(Arc::new(Mutex::new(device)))
}

/// Reads what the guest writes to its consoles.
fn read_log(stream: UnixStream, log: &Arc<ConsoleLog>) -> Result<JoinHandle<()>, QemuError> {
    let log = Arc::clone(log);
    read("log", stream, move |bytes| log.write(bytes))
}

/// Reads the phases that the guest reaches.
fn read_marks(stream: UnixStream, reporter: &Arc<Reporter>) -> Result<JoinHandle<()>, QemuError> {
    let reporter = Arc::clone(reporter);
    read("marks", stream, move |bytes| {
        let phases = bytes.iter().filter_map(|mark| Phase::from_mark(*mark));
        phases.for_each(|phase| reporter.phase(phase));
    })
}

/// Reads one of QEMU's streams to its end.
fn read(
    name: &str,
    mut stream: UnixStream,
    mut take: impl FnMut(&[u8]) + Send + 'static,
) -> Result<JoinHandle<()>, QemuError> {
    let read = move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            take(&bytes[..length]);
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(read)
        .map_err(io("start a thread"))
}

/// Unix time.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(0))
}

//! The VMM's main thread: waits for the parent, the guest's notifications, the streams' host ends and
//! the machine's end, and hands each to whom it concerns.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::error::VmmError;
use super::memory::SharedMemory;
use super::pause::CpuThreads;
use devices::console::ConsoleLog;
use devices::mmio::MmioBus;
use devices::vsock::{STREAM_TOKEN, Vsock};
use devices::{VirtioDevice, WATCHED_TOKEN};
use host_machine::control::{self, Call, MAX_MESSAGE, Reply, Request};
use host_machine::far_end::{self, Reporter};
use host_machine::{DeviceStats, ExitReason, Stats};
use jail::files::SharedFiles;
use jail::gofer::Gofer;

const CONTROL: u64 = 0;
const END: u64 = 1;
const GOFER: u64 = 2;
/// The first token of a queue notification; the next ones follow it.
const FIRST_KICK: u64 = 3;

/// A device of this machine.
pub type SharedDevice = devices::SharedDevice<SharedMemory>;

/// The main thread's loop and all it polls.
#[derive(Debug)]
pub struct EventLoop {
    poller: Arc<OwnedFd>,
    control: OwnedFd,
    reporter: Arc<Reporter>,
    log: Arc<ConsoleLog>,
    end_event: EventFd,
    end: Arc<Mutex<Option<ExitReason>>>,
    /// What to do on each notification, by token less [`FIRST_KICK`].
    kicks: Vec<Kick>,
    vsock: Option<Arc<Mutex<Vsock<SharedMemory>>>>,
    gofer: Option<Gofer>,
    files: Option<SharedFiles<SharedMemory>>,
}

/// What the owner's requests are about, once the machine runs.
#[derive(Debug)]
pub struct Running {
    /// The CPUs' threads.
    pub cpus: CpuThreads,
    /// How often each CPU came out of the guest.
    pub exits: Vec<Arc<AtomicU64>>,
    /// The devices.
    pub bus: Arc<MmioBus<SharedMemory>>,
}

impl Running {
    fn stats(&self) -> Stats {
        let exits = self.exits.iter().map(|exits| exits.load(Ordering::Relaxed));
        let devices = self.bus.requests().map(|(name, requests)| DeviceStats {
            name: name.to_owned(),
            requests,
        });
        Stats {
            exits: exits.collect(),
            devices: devices.collect(),
            instructions: None,
        }
    }
}

#[derive(Debug)]
struct Kick {
    device: SharedDevice,
    queue: usize,
    event: EventFd,
}

/// How a CPU thread ends the machine.
#[derive(Debug)]
pub struct Ender {
    end: Arc<Mutex<Option<ExitReason>>>,
    event: EventFd,
}

impl Ender {
    /// Ends the machine.
    pub fn end(&self, reason: ExitReason) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // The first reason counts.
        end.get_or_insert(reason);
        let _ = self.event.write(1);
    }
}

impl EventLoop {
    /// A loop that serves the control channel.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(
        control: OwnedFd,
        reporter: Arc<Reporter>,
        log: Arc<ConsoleLog>,
    ) -> Result<Self, VmmError> {
        let poller = epoll::create(CreateFlags::CLOEXEC).map_err(polled)?;
        let end_event = EventFd::new(EFD_NONBLOCK).map_err(|source| VmmError::Io {
            what: "make an event descriptor",
            source,
        })?;
        let token = |token| EventData::new_u64(token);
        epoll::add(&poller, &control, token(CONTROL), EventFlags::IN).map_err(polled)?;
        epoll::add(&poller, borrow(&end_event), token(END), EventFlags::IN).map_err(polled)?;
        Ok(Self {
            poller: Arc::new(poller),
            control,
            reporter,
            log,
            end_event,
            end: Arc::default(),
            kicks: Vec::new(),
            vsock: None,
            gofer: None,
            files: None,
        })
    }

    /// The poller, for those who add descriptors later.
    #[must_use]
    pub fn poller(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.poller)
    }

    /// A way to end the loop from another thread.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn ender(&self) -> Result<Ender, VmmError> {
        let event = self.end_event.try_clone();
        let event = event.map_err(|source| VmmError::Io {
            what: "copy an event descriptor",
            source,
        })?;
        let end = Arc::clone(&self.end);
        Ok(Ender { end, event })
    }

    /// Serves a device's queues here.
    ///
    /// # Errors
    /// When the host's poller refuses.
    pub fn add_device(
        &mut self,
        device: &SharedDevice,
        kicks: Vec<EventFd>,
    ) -> Result<(), VmmError> {
        for (queue, event) in kicks.into_iter().enumerate() {
            let token = EventData::new_u64(FIRST_KICK + self.kicks.len() as u64);
            epoll::add(&*self.poller, borrow(&event), token, EventFlags::IN).map_err(polled)?;
            self.kicks.push(Kick {
                device: Arc::clone(device),
                queue,
                event,
            });
        }
        Ok(())
    }

    /// Serves the socket device's queues and its streams here.
    ///
    /// # Errors
    /// As [`add_device`](Self::add_device).
    pub fn add_vsock(
        &mut self,
        vsock: Arc<Mutex<Vsock<SharedMemory>>>,
        kicks: Vec<EventFd>,
    ) -> Result<(), VmmError> {
        self.vsock = Some(Arc::clone(&vsock));
        let device: SharedDevice = vsock;
        self.add_device(&device, kicks)
    }

    /// Attaches directories to these files, and ends the machine when their gofer ends.
    ///
    /// # Errors
    /// When the host's poller refuses.
    pub fn add_gofer(
        &mut self,
        gofer: Gofer,
        files: SharedFiles<SharedMemory>,
    ) -> Result<(), VmmError> {
        let token = EventData::new_u64(GOFER);
        // That it hung up is told unasked; its answers are for another thread.
        epoll::add(&*self.poller, gofer.socket(), token, EventFlags::empty()).map_err(polled)?;
        self.gofer = Some(gofer);
        self.files = Some(files);
        Ok(())
    }

    /// Runs until the machine ends, and says how.
    ///
    /// # Errors
    /// When the poller fails.
    pub fn run(mut self, running: &Running) -> Result<ExitReason, VmmError> {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(
                &*self.poller,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(polled(errno)),
            }
            for event in &events {
                if let Some(reason) = self.handle(event.data.u64(), event.flags, running) {
                    self.finish();
                    return Ok(reason);
                }
            }
        }
    }

    fn handle(&mut self, token: u64, flags: EventFlags, running: &Running) -> Option<ExitReason> {
        match token {
            CONTROL => return self.handle_request(running),
            END => {
                let _ = self.end_event.read();
                let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
                return end.take();
            }
            GOFER => return self.gofer.as_ref().map(Gofer::end),
            token if token & STREAM_TOKEN != 0 => {
                if let Some(vsock) = &self.vsock {
                    lock(vsock).stream_ready(token, flags);
                }
            }
            token => {
                let at = usize::try_from(token - FIRST_KICK).ok();
                if let Some(kick) = at.and_then(|at| self.kicks.get(at)) {
                    let _ = kick.event.read();
                    lock(&kick.device).kicked(kick.queue);
                }
            }
        }
        None
    }

    /// Takes one request of the parent; when the parent is gone, so is the machine.
    fn handle_request(&self, running: &Running) -> Option<ExitReason> {
        let mut buffer = vec![0; MAX_MESSAGE];
        match control::receive::<Call>(self.control.as_fd(), &mut buffer) {
            Ok(Some((call, fds))) => {
                if let Some(reply) = self.serve(call.id, call.request, fds, running) {
                    self.reporter.answer(call.id, reply);
                }
                None
            }
            // Nothing that could be answered.
            Err(Errno::BADMSG) => None,
            Ok(None) | Err(_) => Some(ExitReason::Stopped),
        }
    }

    /// Does what is asked; `None` when the answer comes later.
    fn serve(
        &self,
        id: u64,
        request: Request,
        mut fds: Vec<OwnedFd>,
        running: &Running,
    ) -> Option<Result<Reply, String>> {
        let done = |()| Reply::Done;
        Some(match request {
            Request::Connect { port } => match (&self.vsock, fds.pop()) {
                (Some(vsock), Some(stream)) => {
                    lock(vsock).connect(id, port, stream);
                    return None;
                }
                _ => Err("the request came without a socket".to_owned()),
            },
            Request::Pause => running.cpus.stop().map(done),
            Request::Resume => {
                running.cpus.start();
                Ok(Reply::Done)
            }
            Request::Stats => {
                let mut stats = running.stats();
                stats.devices.extend(self.gofer.iter().map(Gofer::stats));
                Ok(Reply::Stats(stats))
            }
            Request::Start(_) => Err("the machine has been started before".to_owned()),
            Request::Attach(what) => far_end::attach(&what, fds, self.files.as_ref()),
            Request::Detach(what) => far_end::detach(&what, self.files.as_ref()),
        })
    }

    fn finish(&mut self) {
        if let Some(vsock) = &self.vsock {
            lock(vsock).finish();
        }
        self.log.flush();
    }
}

/// A poller for the notifications of one device and what else it watches, made before its thread is confined.
///
/// # Errors
/// When the host is out of descriptors, or its poller refuses.
pub fn poll_device(device: &SharedDevice, kicks: &[EventFd]) -> Result<OwnedFd, VmmError> {
    let poller = epoll::create(CreateFlags::CLOEXEC).map_err(polled)?;
    for (queue, kick) in (0u64..).zip(kicks) {
        let token = EventData::new_u64(queue);
        epoll::add(&poller, borrow(kick), token, EventFlags::IN).map_err(polled)?;
    }
    devices::watch(&*lock(device), &poller).map_err(polled)?;
    Ok(poller)
}

/// Serves one device on a thread of its own, for as long as the process lives.
pub fn serve_device(device: &SharedDevice, poller: &OwnedFd, kicks: &[EventFd]) {
    let mut events = Vec::with_capacity(kicks.len().max(1));
    loop {
        events.clear();
        match epoll::wait(poller, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        for event in &events {
            let token = event.data.u64();
            let number = usize::try_from(token & !WATCHED_TOKEN).unwrap_or(usize::MAX);
            if token & WATCHED_TOKEN != 0 {
                lock(device).ready(number);
            } else if let Some(kick) = kicks.get(number) {
                let _ = kick.read();
                lock(device).kicked(number);
            }
        }
    }
}

fn lock<D: VirtioDevice<SharedMemory> + ?Sized>(device: &Mutex<D>) -> MutexGuard<'_, D> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

fn polled(errno: Errno) -> VmmError {
    VmmError::Io {
        what: "poll for events",
        source: errno.into(),
    }
}

/// The event descriptor's crate predates borrowed descriptors.
fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    crate::sys::borrow_event(event)
}

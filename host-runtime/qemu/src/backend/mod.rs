//! Our devices as back ends of QEMU's vhost-user devices.
//!
//! [`protocol`] takes QEMU's requests: where guest memory is ([`memory`]), where the rings are ([`ring`]), how the
//! guest notifies and is told ([`notify`]). When all rings are enabled it gives them to the device, and takes them
//! back when QEMU asks for their state. [`serve`] starts the two threads of a device: one for these requests, one for the
//! guest's. The device's lock is the only one that both take, after the requests' own.

pub mod memory;
pub mod notify;
pub mod protocol;
pub mod ring;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use devices::WATCHED_TOKEN;
use devices::vsock::{STREAM_TOKEN, Vsock};
use host_machine::DeviceStats;
use host_machine::far_end::Reporter;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::Errno;
use vhost::vhost_user::{BackendReqHandler, Error};

use crate::error::{QemuError, io};
use memory::SharedMemory;
use protocol::Backend;

/// A device of this machine.
pub type SharedDevice = devices::SharedDevice<SharedMemory>;

/// What the owner's requests need of a device that is served.
#[derive(Debug)]
pub struct Served {
    device: SharedDevice,
    requests: Arc<AtomicU64>,
}

impl Served {
    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        DeviceStats {
            name: device.name().to_owned(),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

/// A poller for a device's queues and streams.
///
/// # Errors
/// When the host is out of descriptors.
pub fn poller() -> Result<Arc<OwnedFd>, QemuError> {
    let poller = epoll::create(CreateFlags::CLOEXEC).map_err(io("make a poller"))?;
    Ok(Arc::new(poller))
}

/// What a device is served with.
#[derive(Debug)]
pub struct Service {
    /// QEMU's connection.
    pub stream: UnixStream,
    /// What the device's queues, and its streams if it has any, are polled by.
    pub poller: Arc<OwnedFd>,
    /// Whether the owner has stopped the CPUs: a device that is stopped and started meanwhile keeps its state.
    pub is_paused: Arc<AtomicBool>,
    /// Who is told when it cannot go on.
    pub reporter: Arc<Reporter>,
}

/// Serves a device; `vsock` is the same one, if its streams are to be served, too.
///
/// # Errors
/// When the host is out of threads or descriptors.
pub fn serve(
    device: SharedDevice,
    vsock: Option<Arc<Mutex<Vsock<SharedMemory>>>>,
    service: Service,
) -> Result<Served, QemuError> {
    let Service {
        stream,
        poller,
        is_paused,
        reporter,
    } = service;
    let (name, queues) = {
        let device = device.lock().unwrap_or_else(PoisonError::into_inner);
        devices::watch(&*device, &poller).map_err(io("poll a device's descriptors"))?;
        (device.name(), device.queue_sizes().len())
    };
    let backend = Backend::new(Arc::clone(&device), Arc::clone(&poller), is_paused)?;
    let requests = backend.requests();
    let backend = Arc::new(Mutex::new(backend));
    let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&backend));
    let spawn = |suffix: &str, run: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(format!("{name}{suffix}"));
        thread.spawn(run).map_err(io("start a thread"))
    };
    let take_requests = move || {
        loop {
            match handler.handle_request() {
                Ok(()) => {}
                // A ring that is enabled before features are agreed on: see there.
                Err(Error::InactiveFeature(_)) => {
                    let mut backend = backend.lock().unwrap_or_else(PoisonError::into_inner);
                    backend.enabled_early();
                }
                // QEMU has ended, which the main thread sees.
                Err(Error::Disconnected | Error::SocketBroken(_) | Error::PartialMessage) => return,
                Err(error) => reporter.fail(format!("QEMU's {name} device: {error}")),
            }
        }
    };
    spawn("-requests", Box::new(take_requests))?;
    let served = Arc::clone(&device);
    spawn(
        "",
        Box::new(move || poll(&served, queues, vsock.as_ref(), &poller)),
    )?;
    Ok(Served { device, requests })
}

/// Hands what is polled to the device, for as long as the process lives.
fn poll(
    device: &SharedDevice,
    queues: usize,
    vsock: Option<&Arc<Mutex<Vsock<SharedMemory>>>>,
    poller: &OwnedFd,
) {
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        match epoll::wait(poller, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        for event in &events {
            let (token, flags): (u64, EventFlags) = (event.data.u64(), event.flags);
            match vsock {
                Some(vsock) if token & STREAM_TOKEN != 0 => {
                    let mut vsock = vsock.lock().unwrap_or_else(PoisonError::into_inner);
                    vsock.stream_ready(token, flags);
                }
                _ if token & WATCHED_TOKEN != 0 => {
                    let which = usize::try_from(token & !WATCHED_TOKEN).unwrap_or(usize::MAX);
                    let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
                    device.ready(which);
                }
                _ => {
                    // A queue has two tokens: the guest's notifications and the device's own.
                    let queue = usize::try_from(token).unwrap_or(0) % queues.max(1);
                    let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
                    device.kicked(queue);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

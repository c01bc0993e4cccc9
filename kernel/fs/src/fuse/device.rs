//! virtio-fs devices (virtio 1.2, section 5.11) by their tags, and the file system type `virtiofs`.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use machine::virtio::{Device, SetupError};
use sched::{Mutex, WaitQueue};

use super::connection::Connection;
use super::session::Session;
use crate::file_system::{FileSystemType, MountRequest, SuperBlock};

/// Queue 0 is for FORGET and INTERRUPT, requests start at 1.
const URGENT_QUEUE: u16 = 0;
const REQUEST_QUEUE: u16 = 1;
const TAG_LEN: usize = 36;

/// A shared directory that can be mounted.
struct Shared {
    tag: Vec<u8>,
    connection: Arc<Connection>,
    /// The sessions, once they were mounted, by the names of what the server attached and none for its own root; they
    /// stay for further mounts.
    mounted: Mutex<Vec<Mounted>>,
}

struct Mounted {
    name: Vec<u8>,
    session: Arc<Session>,
    super_block: Arc<SuperBlock>,
}

static SHARED: SpinLock<Vec<Arc<Shared>>> = SpinLock::new(Vec::new());

/// Makes a file-system device known under its tag.
///
/// # Errors
/// Why the device cannot be driven.
pub fn add_device(mut device: Device) -> core::result::Result<(), SetupError> {
    device.negotiate(0)?;
    let mut tag = [0; TAG_LEN];
    device.read_config(0, &mut tag);
    let activity = try_arc(WaitQueue::new())?;
    let events = || {
        let woken = activity.clone();
        try_arc(move || woken.wake_all())
    };
    let urgent = device.queue(URGENT_QUEUE, 16, 0, events()?)?;
    let requests = device.queue(REQUEST_QUEUE, 128, 0, events()?)?;
    device.start()?;
    let connection = Connection::new(requests, urgent, activity);
    connection
        .and_then(|connection| add(&tag, try_arc(connection)?))
        .map_err(|_| SetupError::OutOfMemory)
}

/// Makes `connection` mountable under `tag` (up to its first NUL).
///
/// # Errors
/// `ENOMEM`.
pub(super) fn add(tag: &[u8], connection: Arc<Connection>) -> Result<()> {
    let tag = tag.split(|byte| *byte == 0).next().unwrap_or_default();
    let shared = Shared {
        tag: Vec::try_from_slice(tag)?,
        connection,
        mounted: Mutex::new(Vec::new()),
    };
    let shared = try_arc(shared)?;
    SHARED.lock().try_push(shared)?;
    Ok(())
}

/// The file system type `virtiofs`; the source of a mount is the device's tag, for the server's root, or `TAG/NAME` for
/// a directory that is attached to it. Each is a file system of its own, with its own `st_dev`.
#[derive(Debug, Clone, Copy)]
pub struct VirtioFs;

impl FileSystemType for VirtioFs {
    fn name(&self) -> &'static str {
        "virtiofs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        if request.options().next().is_some() {
            return Err(Errno::EINVAL);
        }
        let source: &[u8] = request.source;
        let mut parts = source.splitn(2, |byte| *byte == b'/');
        let tag = parts.next().unwrap_or_default();
        let name = parts.next();
        let shared = SHARED
            .lock()
            .iter()
            .find(|shared| shared.tag == tag)
            .cloned();
        let shared = shared.ok_or(Errno::EINVAL)?;
        shared.mount(name)
    }
}

impl Shared {
    /// The file system of the server's root, or of what it has attached by a name.
    fn mount(&self, name: Option<&[u8]>) -> Result<Arc<SuperBlock>> {
        let mut mounted = self.mounted.lock();
        let key = name.unwrap_or_default();
        let at = mounted.iter().position(|mounted| mounted.name == key);
        if let Some(known) = at.and_then(|at| mounted.get(at)) {
            // What was attached may be gone, and another be attached by its name.
            if name.is_none() || known.session.is_there() {
                return Ok(known.super_block.clone());
            }
            known.session.close();
        }
        if let Some(at) = at {
            let gone = mounted.swap_remove(at);
            drop(gone);
        }
        let session = Session::open(self.connection.clone(), name)?;
        let super_block = SuperBlock::new(session.clone())?;
        let new = Mounted {
            name: Vec::try_from_slice(key)?,
            session,
            super_block: super_block.clone(),
        };
        mounted.try_push(new)?;
        Ok(super_block)
    }
}

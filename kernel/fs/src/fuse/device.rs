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
    /// The session, once it was mounted; it stays for further mounts.
    mounted: Mutex<Option<Arc<SuperBlock>>>,
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
        mounted: Mutex::new(None),
    };
    let shared = try_arc(shared)?;
    SHARED.lock().try_push(shared)?;
    Ok(())
}

/// The file system type `virtiofs`; the source of a mount is the device's tag.
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
        let shared = SHARED
            .lock()
            .iter()
            .find(|shared| shared.tag == request.source)
            .cloned();
        let shared = shared.ok_or(Errno::EINVAL)?;
        let mut mounted = shared.mounted.lock();
        if let Some(super_block) = &*mounted {
            return Ok(super_block.clone());
        }
        let session = Session::open(shared.connection.clone())?;
        let super_block = SuperBlock::new(session)?;
        *mounted = Some(super_block.clone());
        Ok(super_block)
    }
}

//! virtio-fs (virtio 1.2, section 5.11): FUSE requests of the guest, served by `fuse-backend-rs` from
//! one directory.
//!
//! The server opens every inode relative to its parent's descriptor without following links and refuses
//! names with a slash; `..` at the root is the root. The device works on a thread of its own, since
//! its requests wait for the host's disks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter, Writer};

use super::{Active, Chain, VirtioDevice};
use crate::vmm::error::VmmError;
use crate::vmm::memory::Memory;

/// The name the guest mounts by.
const TAG: &[u8] = b"root";
/// How long the guest may rely on names and attributes it has seen.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The file system device.
pub struct Fs {
    server: Server<Arc<PassthroughFs>>,
    fs: Arc<PassthroughFs>,
    active: Option<Active>,
}

impl Fs {
    /// A server of what `root` will be when [`open`](Self::open) is called; `name` is for messages.
    ///
    /// It needs the host's procfs here, and no more later.
    ///
    /// # Errors
    /// When there is no procfs.
    pub fn new(name: &str, root: &str) -> Result<Self, VmmError> {
        let config = Config {
            root_dir: root.to_owned(),
            entry_timeout: CACHE_TIME,
            attr_timeout: CACHE_TIME,
            cache_policy: CachePolicy::Auto,
            // The server reaches extended attributes by paths, which the jail's root has not.
            xattr: false,
            // Also what makes the server check the names it is given.
            do_import: true,
            ..Config::default()
        };
        let failed = |source| VmmError::SharedDir {
            path: name.to_owned(),
            source,
        };
        let fs = Arc::new(PassthroughFs::new(config).map_err(failed)?);
        Ok(Self {
            server: Server::new(Arc::clone(&fs)),
            fs,
            active: None,
        })
    }

    /// Opens the root.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, name: &str) -> Result<(), VmmError> {
        let failed = |source| VmmError::SharedDir {
            path: name.to_owned(),
            source,
        };
        self.fs.import().map_err(failed)
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl VirtioDevice for Fs {
    fn id(&self) -> u32 {
        26
    }

    /// High-priority requests (forgets), then requests.
    fn queue_sizes(&self) -> &'static [u16] {
        &[128, 256]
    }

    /// The tag, padded to 36 bytes, and the number of request queues.
    fn config(&self) -> Vec<u8> {
        let mut config = TAG.to_vec();
        config.resize(36, 0);
        config.extend_from_slice(&1u32.to_le_bytes());
        config
    }

    fn activate(&mut self, active: Active) {
        self.active = Some(active);
        for queue in 0..self.queue_sizes().len() {
            self.kicked(queue);
        }
    }

    fn kicked(&mut self, queue: usize) {
        let Self { server, active, .. } = self;
        if let Some(active) = active {
            active.drain(queue, |memory, chain| serve(server, memory, chain));
        }
    }

    fn reset(&mut self) {
        self.active = None;
    }
}

/// Answers one request; a request that makes no sense gets an empty answer.
fn serve(server: &Server<Arc<PassthroughFs>>, memory: &Memory, chain: Chain) -> u32 {
    let Ok(reader) = Reader::from_descriptor_chain(memory, chain.clone()) else {
        return 0;
    };
    let Ok(writer) = VirtioFsWriter::new(memory, chain) else {
        return 0;
    };
    let written = server.handle_message(reader, Writer::VirtioFs(writer), None, None);
    written
        .ok()
        .and_then(|written| u32::try_from(written).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;

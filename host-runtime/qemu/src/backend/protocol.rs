//! QEMU's requests about one device (QEMU's docs/interop/vhost-user.rst).
//!
//! A device gets all its rings at once when the last of them is enabled, and gives them up when QEMU asks where one
//! of them stands, which it does when the guest's driver resets the device, when the CPUs are stopped, and at the end.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use devices::transport::GENERAL_FEATURES;
use devices::{Active, VirtioDevice};
use rustix::event::epoll::{self, EventData, EventFlags};
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::SharedDevice;
use super::memory::{Mapped, SharedMemory};
use super::notify::Calls;
use super::ring::{Addresses, Ring};
use crate::error::{QemuError, io};
use crate::sys;

const F_EVENT_IDX: u64 = 1 << 29;

/// One device's side of the protocol.
#[derive(Debug)]
pub struct Backend {
    device: SharedDevice,
    rings: Vec<Ring>,
    calls: Arc<Calls>,
    /// The device's own notifications to itself.
    kicks: Arc<[EventFd]>,
    poller: Arc<OwnedFd>,
    memory: Option<Mapped>,
    features: u64,
    requests: Arc<AtomicU64>,
    is_active: bool,
    is_paused: Arc<AtomicBool>,
}

impl Backend {
    /// For this device, whose queues are polled by `poller` under two tokens each: their number for the guest's
    /// notifications, and that plus the number of queues for the device's own.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(
        device: SharedDevice,
        poller: Arc<OwnedFd>,
        is_paused: Arc<AtomicBool>,
    ) -> std::result::Result<Self, QemuError> {
        let queues = lock(&device).queue_sizes().len();
        let mut kicks = Vec::with_capacity(queues);
        for token in (0u64..).skip(queues).take(queues) {
            let kick = EventFd::new(EFD_NONBLOCK).map_err(io("make an event descriptor"))?;
            let token = EventData::new_u64(token);
            // Each write is an event; nobody reads.
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&*poller, sys::borrow_event(&kick), token, flags)
                .map_err(io("poll an event descriptor"))?;
            kicks.push(kick);
        }
        Ok(Self {
            rings: (0..queues).map(|_| Ring::default()).collect(),
            calls: Arc::new(Calls::new(queues)),
            kicks: kicks.into(),
            device,
            poller,
            memory: None,
            features: 0,
            requests: Arc::default(),
            is_active: false,
            is_paused,
        })
    }

    /// What counts the chains that the device has used.
    #[must_use]
    pub fn requests(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.requests)
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        let index = usize::try_from(index).map_err(|_| Error::InvalidParam)?;
        self.rings.get_mut(index).ok_or(Error::InvalidParam)
    }

    /// Takes all rings as enabled: QEMU's network device says so once before features are agreed on, when the protocol's
    /// crate refuses it without a call to [`Self`].
    pub fn enabled_early(&mut self) {
        for ring in &mut self.rings {
            ring.is_enabled = true;
        }
    }

    /// Gives the device its rings once all that it will have are set up and enabled. QEMU enables those of a network device
    /// first and sets them up then, both of them; others are enabled last, and there those that have no addresses by
    /// then will have none: the guest has not set them up, or QEMU serves them by itself.
    fn activate_if_ready(&mut self) -> Result<()> {
        if self.is_active {
            return Ok(());
        }
        let needs_all = lock(&self.device).name() == "net";
        let is_set_up = |ring: &&Ring| ring.addresses.is_some() && ring.kick.is_some();
        let (set_up, others): (Vec<_>, Vec<_>) = self.rings.iter().partition(is_set_up);
        if set_up.is_empty() || needs_all && !others.is_empty() {
            return Ok(());
        }
        if set_up.iter().any(|ring| !ring.is_enabled) {
            return Ok(());
        }
        self.activate()
    }

    /// Gives the device its rings.
    fn activate(&mut self) -> Result<()> {
        let Some(mapped) = &self.memory else {
            return Err(Error::InvalidOperation("rings before memory"));
        };
        let mut device = lock(&self.device);
        let event_idx = self.features & F_EVENT_IDX != 0;
        let sizes = device.queue_sizes().iter();
        let queues = sizes.zip(&self.rings).map(|(most, ring)| {
            let queue = ring.queue(*most, &mapped.memory, event_idx);
            queue.ok_or(Error::InvalidOperation("a ring that is none"))
        });
        let active = Active {
            memory: Arc::clone(&mapped.memory),
            features: self.features,
            queues: queues.collect::<Result<_>>()?,
            notifier: Arc::clone(&self.calls) as _,
            kicks: Arc::clone(&self.kicks),
            requests: Arc::clone(&self.requests),
        };
        if !self.is_paused.load(Ordering::Acquire) {
            // A driver that starts, and not CPUs that run on.
            device.reset();
        }
        device.activate(active);
        self.is_active = true;
        Ok(())
    }

    /// Takes them back.
    fn suspend(&mut self) {
        if !std::mem::take(&mut self.is_active) {
            return;
        }
        let active = lock(&self.device).suspend();
        let queues = active.into_iter().flat_map(|active| active.queues);
        for (ring, queue) in self.rings.iter_mut().zip(queues) {
            ring.next_available = queue.next_avail();
        }
    }
}

fn lock(device: &SharedDevice) -> MutexGuard<'_, dyn VirtioDevice<SharedMemory> + 'static> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer to what was not offered.
fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("it was not offered"))
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.suspend();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_features(&mut self) -> Result<u64> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        Ok(GENERAL_FEATURES | lock(&self.device).features() | protocol)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.features = features;
        Ok(())
    }

    fn set_mem_table(&mut self, ctx: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let mapped = Mapped::new(ctx, files);
        let mapped = mapped.map_err(|why| Error::ReqHandlerError(std::io::Error::other(why)))?;
        let was_active = self.is_active;
        self.suspend();
        self.memory = Some(mapped);
        match was_active {
            true => self.activate(),
            false => Ok(()),
        }
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        self.ring(index)?.size = size;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        let memory = self.memory.as_ref().ok_or(Error::InvalidParam)?;
        let guest = |address| memory.guest_address(address).ok_or(Error::InvalidParam);
        let addresses = Addresses {
            descriptors: guest(descriptor)?,
            available: guest(available)?,
            used: guest(used)?,
        };
        self.ring(index)?.addresses = Some(addresses);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.ring(index)?.next_available = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.suspend();
        let poller = Arc::clone(&self.poller);
        let ring = self.ring(index)?;
        ring.is_enabled = false;
        ring.addresses = None;
        forget(&poller, ring);
        let base = u32::from(ring.next_available);
        Ok(VhostUserVringState::new(index, base))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let poller = Arc::clone(&self.poller);
        let ring = self.ring(u32::from(index))?;
        forget(&poller, ring);
        if let Some(kick) = &fd {
            let token = EventData::new_u64(u64::from(index));
            let flags = EventFlags::IN | EventFlags::ET;
            let added = epoll::add(&*poller, kick.as_fd(), token, flags);
            added.map_err(|errno| Error::ReqHandlerError(errno.into()))?;
        }
        ring.kick = fd;
        self.activate_if_ready()
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.calls.set(usize::from(index), fd);
        Ok(())
    }

    fn set_vring_err(&mut self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        let mut features = VhostUserProtocolFeatures::MQ;
        // The file system's and the network's QEMU has itself.
        if !matches!(lock(&self.device).name(), "fs" | "net") {
            features |= VhostUserProtocolFeatures::CONFIG;
        }
        Ok(features)
    }

    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.rings.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        if !enable {
            self.suspend();
        }
        self.ring(index)?.is_enabled = enable;
        self.activate_if_ready()
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let mut config = lock(&self.device).config();
        let offset = usize::try_from(offset).map_err(|_| Error::InvalidParam)?;
        let size = usize::try_from(size).map_err(|_| Error::InvalidParam)?;
        let end = offset.checked_add(size).ok_or(Error::InvalidParam)?;
        config.resize(config.len().max(end), 0);
        Ok(config[offset..end].to_vec())
    }

    fn set_config(&mut self, offset: u32, data: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        let at = usize::try_from(offset).map_err(|_| Error::InvalidParam)?;
        lock(&self.device).write_config(at, data);
        Ok(())
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_offered()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        not_offered()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_offered()
    }

    fn add_mem_region(&mut self, _: &VhostUserSingleMemoryRegion, _: File) -> Result<()> {
        not_offered()
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        not_offered()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered()
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_offered()
    }
}

/// Polls a ring's notifications no longer: QEMU has a copy of the descriptor, so closing ours is not enough.
fn forget(poller: &OwnedFd, ring: &mut Ring) {
    if let Some(kick) = ring.kick.take() {
        let _ = epoll::delete(poller, kick.as_fd());
    }
}

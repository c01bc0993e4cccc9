//! A device behind the protocol, driven as QEMU and a guest do.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use devices::rng::Rng;
use rustix::fs::MemfdFlags;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;

/// Where the memory begins in the guest, and in QEMU.
const GUEST: u64 = 0x10_0000;
const QEMU: u64 = 0x7f00_0000_0000;
const LENGTH: u64 = 1 << 20;
/// Offsets of the ring's parts and of its buffers.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x3000;
const ENTRIES: u16 = 16;
const F_VERSION_1: u64 = 1 << 32;
const F_PROTOCOL: u64 = 1 << 30;

/// QEMU, and the guest's driver behind it.
struct Driver {
    qemu: Frontend,
    memory: std::fs::File,
    kick: EventFd,
    call: EventFd,
    is_paused: Arc<AtomicBool>,
    served: Served,
}

impl Driver {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let (control, _) = UnixStream::pair().expect("sockets");
        let is_paused = Arc::<AtomicBool>::default();
        let service = Service {
            stream: theirs,
            poller: poller().expect("a descriptor"),
            is_paused: Arc::clone(&is_paused),
            reporter: Arc::new(Reporter::new(control.into())),
        };
        let device = Arc::new(Mutex::new(Rng::default()));
        let served = serve(device, None, service).expect("threads");
        let memory = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).expect("memory");
        let memory = std::fs::File::from(memory);
        memory.set_len(LENGTH).expect("room");
        let event = || EventFd::new(EFD_NONBLOCK).expect("a descriptor");
        let mut qemu = Frontend::from_stream(ours, 1);
        qemu.set_owner().expect("it answers");
        let features = qemu.get_features().expect("it answers");
        assert_eq!(features & F_VERSION_1, F_VERSION_1);
        let offered = qemu.get_protocol_features().expect("it answers");
        let accepted = offered & VhostUserProtocolFeatures::MQ;
        qemu.set_protocol_features(accepted).expect("it answers");
        assert_eq!(qemu.get_queue_num().expect("it answers"), 1);
        Self {
            qemu,
            memory,
            kick: event(),
            call: event(),
            is_paused,
            served,
        }
    }

    /// Starts the device, its ring at the entry `base`.
    fn start(&mut self, base: u16) {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: LENGTH,
            userspace_addr: QEMU,
            mmap_offset: 0,
            mmap_handle: self.memory.as_raw_fd(),
        };
        let ring = VringConfigData {
            queue_max_size: ENTRIES,
            queue_size: ENTRIES,
            flags: 0,
            desc_table_addr: QEMU + DESCRIPTORS,
            used_ring_addr: QEMU + USED,
            avail_ring_addr: QEMU + AVAILABLE,
            log_addr: None,
        };
        let qemu = &mut self.qemu;
        qemu.set_features(F_VERSION_1 | F_PROTOCOL).expect("sent");
        qemu.set_mem_table(&[region]).expect("sent");
        qemu.set_vring_num(0, ENTRIES).expect("sent");
        qemu.set_vring_base(0, base).expect("sent");
        qemu.set_vring_addr(0, &ring).expect("sent");
        qemu.set_vring_kick(0, &self.kick).expect("sent");
        qemu.set_vring_call(0, &self.call).expect("sent");
        qemu.set_vring_enable(0, true).expect("sent");
    }

    /// Makes buffer number `number` available, eight bytes for the device to fill.
    fn add(&self, number: u16) {
        let at = GUEST + BUFFERS + u64::from(number) * 8;
        let length_and_flags = 8u64 | 2 << 32;
        let descriptor = [at.to_le_bytes(), length_and_flags.to_le_bytes()].concat();
        self.put(DESCRIPTORS + u64::from(number) * 16, &descriptor);
        self.put(AVAILABLE + 4 + u64::from(number) * 2, &number.to_le_bytes());
        self.put(AVAILABLE + 2, &(number + 1).to_le_bytes());
    }

    /// Waits until the device has used so many buffers and the guest was told, and gives the last one.
    fn used(&self, wanted: u16) -> [u8; 8] {
        let begun = Instant::now();
        let index = || u16::from_le_bytes(self.get(USED + 2));
        while index() != wanted || self.call.read().is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", index());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.get(BUFFERS + u64::from(wanted - 1) * 8)
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at).expect("memory");
    }

    fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, at).expect("memory");
        bytes
    }
}

#[test]
fn a_device_serves_its_ring_stops_and_goes_on() {
    let mut driver = Driver::new();
    driver.start(0);
    driver.add(0);
    driver.kick.write(1).expect("room");
    assert_ne!(driver.used(1), [0; 8]);
    assert_eq!(driver.served.stats().requests, 1);

    driver.is_paused.store(true, Ordering::Release);
    assert_eq!(driver.qemu.get_vring_base(0).expect("it answers"), 1);
    driver.add(1);
    driver.kick.write(1).expect("room");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(driver.get(USED + 2), [1, 0], "it was stopped");
    driver.start(1);
    // Nobody notifies it again of what came meanwhile.
    assert_ne!(driver.used(2), [0; 8]);
    assert_eq!(driver.served.stats().requests, 2);
}

#[test]
fn memory_that_is_none_and_rings_outside_of_it_are_refused() {
    let file = || {
        let file = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).expect("memory");
        let file = std::fs::File::from(file);
        file.set_len(LENGTH).expect("room");
        file
    };
    let region = |guest, size| vhost::vhost_user::message::VhostUserMemoryRegion {
        guest_phys_addr: guest,
        memory_size: size,
        user_addr: QEMU + guest,
        mmap_offset: 0,
    };
    let mapped =
        |regions: &[_]| memory::Mapped::new(regions, regions.iter().map(|_| file()).collect());
    assert!(mapped(&[region(0, LENGTH + 1)]).is_err(), "past its end");
    assert!(mapped(&[region(0, LENGTH), region(4096, LENGTH)]).is_err());
    let mapped = mapped(&[region(LENGTH, LENGTH), region(0, LENGTH)]).expect("memory");
    assert_eq!(mapped.guest_address(QEMU + LENGTH + 5), Some(LENGTH + 5));
    assert_eq!(mapped.guest_address(QEMU + 2 * LENGTH), None);
    assert_eq!(mapped.guest_address(QEMU - 1), None);
    let ring = ring::Ring {
        size: ENTRIES,
        addresses: Some(ring::Addresses {
            descriptors: 0,
            available: 0x1000,
            used: 2 * LENGTH - 8,
        }),
        next_available: 0,
        kick: None,
        is_enabled: true,
    };
    assert!(ring.queue(ENTRIES, &mapped.memory, false).is_none());
}

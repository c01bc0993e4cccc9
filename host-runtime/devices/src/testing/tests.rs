//! A bounded number of rounds of each entry point, on noise that is the same each time.

use std::sync::{Arc, Mutex};

use rustix::event::epoll::{self, CreateFlags};
use vm_memory::GuestAddress;

use super::SharedMemory;
use super::fuzz::{
    ENTRIES, GUEST_CID, MEMORY, Noise, fuzz_queues, fuzz_registers, fuzz_vsock_packets,
};
use crate::SharedDevice;
use crate::balloon::{Balloon, Discard};
use crate::blk::Blk;
use crate::blk::disk::Disk;
use crate::console::{Console, ConsoleLog};
use crate::rng::Rng;
use crate::vsock::Vsock;

#[test]
fn no_packets_harm_the_streams() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for _ in 0..500 {
        fuzz_vsock_packets(&noise.bytes(8192));
    }
}

#[test]
fn no_queue_contents_harm_a_device() {
    let null = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .expect("it is there");
    let mut console = Console::new(Arc::new(ConsoleLog::new(null)));
    let mut rng = Rng::default();
    let mut balloon = Balloon::new(Box::new(Nothing));
    let mut vsock = vsock();
    let memory = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC);
    let disk = std::fs::File::from(memory.expect("memory"));
    disk.set_len(64 * 512).expect("room");
    let copy = disk.try_clone().expect("a descriptor");
    let mut blk = Blk::new(Disk::new(copy, "disk".to_owned()).expect("a file"));
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    for round in 0..200u16 {
        let mut input = noise.bytes(MEMORY / 2);
        for queue in 1..=3 {
            let base = queue * 0x1000;
            // Addresses that are mostly in memory, lengths that are mostly small, an index that is mostly plausible.
            for descriptor in 0..usize::from(ENTRIES) {
                let at = base + descriptor * 16;
                input[at + 2..at + 8].fill(0);
                input[at + 10..at + 12].fill(0);
                input[at + 15] = 0;
            }
            let index = if round % 8 == 7 {
                0x7fff
            } else {
                round % ENTRIES
            };
            input[base + 0x402..base + 0x404].copy_from_slice(&index.to_le_bytes());
        }
        fuzz_queues(&mut console, &input);
        fuzz_queues(&mut rng, &input);
        fuzz_queues(&mut balloon, &input);
        fuzz_queues(&mut vsock, &input);
        // The kind of a request is mostly one that exists, and its sector one of the disk.
        for (at, kind) in [0, 1, 4, 8, 11, 13]
            .into_iter()
            .cycle()
            .take(64)
            .enumerate()
        {
            let request = at * 0x100;
            input[request..request + 16].fill(0);
            input[request] = kind;
            input[request + 8] = at.to_le_bytes()[0];
        }
        fuzz_queues(&mut blk, &input);
    }
    assert_eq!(disk.metadata().expect("a file").len(), 64 * 512);
}

/// Memory that cannot be taken back; it is asked for in whole pages only.
#[derive(Debug)]
struct Nothing;

impl Discard for Nothing {
    fn discard(&self, start: GuestAddress, bytes: u64) -> std::io::Result<()> {
        assert!(bytes > 0 && (start.0 | bytes).is_multiple_of(4096));
        Err(std::io::ErrorKind::InvalidInput.into())
    }
}

/// A socket device that nobody listens to.
fn vsock() -> Vsock<SharedMemory> {
    let poller = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor");
    Vsock::new(GUEST_CID, Arc::new(poller), |_, _| ())
}

#[test]
fn no_registers_harm_a_device() {
    let devices: [SharedDevice<SharedMemory>; 2] = [
        Arc::new(Mutex::new(Rng::default())),
        Arc::new(Mutex::new(vsock())),
    ];
    let mut noise = Noise(0x0f1e_2d3c_4b5a_6978);
    for _ in 0..200 {
        for device in &devices {
            let mut input = noise.bytes(5 * 400);
            // Most writes go to registers that exist, and often the steps of a driver come in order.
            for word in input.chunks_exact_mut(5) {
                word[0] &= 0xfc;
            }
            for (at, status) in [1u8, 3, 11, 15].into_iter().enumerate() {
                input[at * 500..at * 500 + 5].copy_from_slice(&[0x70, status, 0, 0, 0]);
            }
            fuzz_registers(device, &input);
        }
    }
}

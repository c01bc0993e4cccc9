//! A bounded number of rounds of each entry point, on noise that is the same each time.

use super::*;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::event::epoll::{self, CreateFlags};

use crate::vmm::devices::console::Console;
use crate::vmm::devices::fs::Fs;
use crate::vmm::devices::rng::Rng;
use crate::vmm::devices::vsock::Vsock;
use crate::vmm::log::ConsoleLog;
use crate::vmm::reporter::Reporter;
use crate::vmm::seccomp;

/// Deterministic noise (xorshift).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()[4]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

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
    let mut vsock = vsock();
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    for round in 0..200u16 {
        let mut input = noise.bytes(MEMORY / 2);
        for queue in 1..=3 {
            let base = queue * 0x1000;
            // Addresses that are mostly in memory, lengths that are mostly small, a plausible index.
            for descriptor in 0..usize::from(ENTRIES) {
                let at = base + descriptor * 16;
                input[at + 2..at + 8].fill(0);
                input[at + 10..at + 12].fill(0);
                input[at + 15] = 0;
            }
            let index = (round % ENTRIES).to_le_bytes();
            input[base + 0x402..base + 0x404].copy_from_slice(&index);
        }
        fuzz_queues(&mut console, &input);
        fuzz_queues(&mut rng, &input);
        fuzz_queues(&mut vsock, &input);
    }
}

/// A socket device that nobody listens to.
fn vsock() -> Vsock {
    let poller = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor");
    let (parent, _) = UnixStream::pair().expect("descriptors");
    let reporter = Reporter::new(OwnedFd::from(parent));
    Vsock::new(Arc::new(poller), Arc::new(reporter))
}

#[test]
fn no_registers_harm_a_device() {
    let devices: [SharedDevice; 2] = [
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

/// Under the system-call filter, with a secret beside the shared directory.
#[test]
fn no_requests_reach_out_of_the_directory() {
    let folder = std::env::temp_dir().join(format!("nacre-fuzz-{}", std::process::id()));
    let shared = folder.join("shared");
    std::fs::create_dir_all(shared.join("a/b")).expect("room");
    std::fs::write(folder.join("secret"), "untouched").expect("room");
    std::fs::write(shared.join("a/file"), "contents").expect("room");
    std::os::unix::fs::symlink("../secret", shared.join("link")).expect("room");
    let root = shared.to_str().expect("a plain name").to_owned();
    let served = std::thread::spawn(move || {
        let mut fs = Fs::new("test", &root).expect("procfs");
        fs.open("test").expect("a directory");
        let line = EventFd::new(EFD_NONBLOCK).expect("a descriptor");
        seccomp::confine_thread(true);
        let mut noise = Noise(0x5851_f42d_4c95_7f2d);
        let names: [&[u8]; 6] = [b"a", b"a/file", b"..", b"link", b"../secret", b"b"];
        for round in 0..300 {
            let mut input = noise.bytes(256 * 32);
            for (at, request) in input.chunks_exact_mut(256).enumerate() {
                // Most end with a name, behind as many bytes as some operation has before it.
                let name = names[(at * 5 + round) % names.len()];
                let start = [0u8, 0, 4, 8, 16][(at + round) % 5];
                let from = 40 + usize::from(start);
                request[from..from + name.len()].copy_from_slice(name);
                request[from + name.len()] = 0;
                if at % 4 != 0 {
                    // Lookups, all that makes, renames or removes names, and what works on what is open.
                    let by_name = [
                        1, 1, 6, 8, 9, 10, 11, 12, 13, 14, 15, 27, 28, 35, 35, 44, 45,
                    ];
                    request[4] = by_name[(at * 7 + round) % by_name.len()];
                    request[1] = start + u8::try_from(name.len()).expect("short") + 1;
                }
            }
            fuzz_fuse(&mut fs, &line, &input);
        }
    });
    let outcome = served.join();
    let secret = std::fs::read_to_string(folder.join("secret"));
    let beside = std::fs::read_dir(&folder).expect("still there").count();
    std::fs::remove_dir_all(&folder).expect("still there");
    assert!(outcome.is_ok(), "the server panicked");
    assert_eq!(
        (secret.expect("still there").as_str(), beside),
        ("untouched", 2)
    );
}

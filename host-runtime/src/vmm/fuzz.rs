//! Entry points that take arbitrary bytes as a hostile guest's doing; for fuzzers and for tests.
//!
//! None may panic, hang or reach outside of guest memory, whatever the bytes.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::devices::vsock::mux::Mux;
use super::devices::vsock::packet::{HEADER, Header, TYPE_STREAM};
use super::devices::{Active, Interrupt, VirtioDevice};
use super::layout::GUEST_CID;
use super::memory::Memory;

/// The guest port of the fuzzed stream.
const PORT: u32 = 1024;
/// Guest memory of a fuzzed queue, in bytes.
const MEMORY: usize = 64 * 1024;
/// How many queue entries a fuzzed queue has.
const ENTRIES: u16 = 16;

/// Feeds packets to the socket device's streams: each is a header, then as many bytes as its length says.
///
/// To get past the first check, the first byte of each packet decides whether its addresses are put right.
pub fn fuzz_vsock_packets(input: &[u8]) {
    let Ok((mut host, stream)) = UnixStream::pair() else {
        return;
    };
    if stream.set_nonblocking(true).is_err() || host.set_nonblocking(true).is_err() {
        return;
    }
    let mut mux = Mux::default();
    let Some(port) = mux.connect(1, PORT, stream) else {
        return;
    };
    let mut rest = input;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let mut parsed = Header::parse(header);
        if header[0] & 3 != 0 {
            parsed.source_cid = GUEST_CID;
            parsed.destination_cid = 2;
            parsed.source_port = PORT;
            parsed.destination_port = port;
            parsed.kind = TYPE_STREAM;
            parsed.op %= 9;
            parsed.length %= 512;
        }
        let length = usize::try_from(parsed.length)
            .unwrap_or(usize::MAX)
            .min(after.len());
        let (data, after) = after.split_at(length);
        mux.receive(&parsed, data);
        if let Some(connection) = mux.get_mut(port) {
            connection.ready(header[1] & 1 != 0, header[1] & 2 != 0, header[1] & 4 != 0);
        }
        for _ in 0..4 {
            let _ = mux.next(usize::from(header[2]));
        }
        let _ = mux.take_outcomes();
        let _ = host.read(&mut [0; 300]);
        rest = after;
    }
}

/// Gives a device queues whose rings and descriptors are the input, and notifies each.
pub fn fuzz_queues(device: &mut dyn VirtioDevice, input: &[u8]) {
    let Ok(memory) = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]) else {
        return;
    };
    let input = &input[..input.len().min(MEMORY)];
    if memory.write_slice(input, GuestAddress(0)).is_err() {
        return;
    }
    let Ok(line) = EventFd::new(EFD_NONBLOCK) else {
        return;
    };
    let queues = device
        .queue_sizes()
        .iter()
        .zip(1u32..)
        .map(|(size, number)| {
            let mut queue = Queue::new(*size).unwrap_or_default();
            let base = number * 0x1000;
            queue.set_size(ENTRIES);
            queue.set_event_idx(number % 2 == 1);
            queue.set_desc_table_address(Some(base), None);
            queue.set_avail_ring_address(Some(base + 0x400), None);
            queue.set_used_ring_address(Some(base + 0x800), None);
            queue.set_ready(true);
            queue
        });
    let queues: Vec<Queue> = queues.collect();
    let count = queues.len();
    let interrupt = Arc::new(Interrupt::new(line));
    device.activate(Active {
        memory: Arc::new(memory),
        queues,
        interrupt,
    });
    for queue in 0..count {
        device.kicked(queue);
    }
    device.reset();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::devices::console::Console;
    use crate::vmm::devices::rng::Rng;
    use crate::vmm::log::ConsoleLog;

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
        let mut noise = Noise(0x0123_4567_89ab_cdef);
        for round in 0..200u16 {
            let mut input = noise.bytes(MEMORY / 2);
            for queue in 1..=2 {
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
        }
    }
}

//! Entry points that take arbitrary bytes as a hostile guest's doing; for fuzzers and for tests.
//!
//! None may panic, hang or reach outside of guest memory, whatever the bytes.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vsock_packet::{HEADER_LEN, Header, STREAM};
use zerocopy::FromBytes;

use super::{MMIO_START, Memory, SharedMemory};
use crate::mmio::{Interrupt, MmioBus, Registers};
use crate::vsock::mux::Mux;
use crate::{Active, SharedDevice, VirtioDevice};

/// The guest's context identifier.
pub(super) const GUEST_CID: u64 = 3;

/// The guest port of the fuzzed stream.
const PORT: u32 = 1024;
/// Guest memory of a fuzzed queue, in bytes.
pub(super) const MEMORY: usize = 64 * 1024;
/// The offset of the status register.
const STATUS: u64 = 0x70;
/// How many queue entries a fuzzed queue has.
pub(super) const ENTRIES: u16 = 16;

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
    let mut mux = Mux::new(GUEST_CID);
    let Some(port) = mux.connect(1, PORT, stream) else {
        return;
    };
    let mut rest = input;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let Ok(mut parsed) = Header::read_from_bytes(header) else {
            return;
        };
        if header[0] & 3 != 0 {
            parsed.src_cid = GUEST_CID.into();
            parsed.dst_cid = 2.into();
            parsed.src_port = PORT.into();
            parsed.dst_port = port.into();
            parsed.kind = STREAM.into();
            parsed.op %= 9;
            parsed.len %= 512;
        }
        let length = usize::try_from(parsed.len.get())
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
pub fn fuzz_queues(device: &mut dyn VirtioDevice<SharedMemory>, input: &[u8]) {
    let (Some(memory), Ok(line)) = (memory_with(input), EventFd::new(EFD_NONBLOCK)) else {
        return;
    };
    let active = active(device, memory, line);
    let count = active.queues.len();
    device.activate(active);
    for queue in 0..count {
        device.kicked(queue);
    }
    device.reset();
}

/// Sends requests to the file server of `device`: each is 256 bytes, of which as many as the second byte says
/// follow the header of 40.
///
/// To get past the first checks, the header's length is put right, its operation is one that exists, and
/// the node, and what may be a handle, are mostly small numbers, as the server gives them out. `line` is the
/// device's interrupt: none is made here, so that this runs under the VMM's system-call filter.
pub fn fuzz_fuse(device: &mut dyn VirtioDevice<SharedMemory>, line: &EventFd, input: &[u8]) {
    /// Where the request queue is, and the buffers of its one chain.
    const QUEUE: usize = 0x2000;
    const REQUEST: u16 = 0x8000;
    const ANSWER: u16 = 0xa000;
    for bytes in input.chunks_exact(256) {
        let mut request = bytes.to_vec();
        let length = u32::from(bytes[1]) % 217 + 40;
        request[..4].copy_from_slice(&length.to_le_bytes());
        request[4..8].copy_from_slice(&u32::from(bytes[4] % 52).to_le_bytes());
        if bytes[0] & 7 != 0 {
            request[16] = (request[16] % 4).max(1);
            request[17..24].fill(0);
        }
        if bytes[0] & 0x88 == 0x88 {
            request[40] %= 4;
            request[41..48].fill(0);
        }
        // The caller is root: another could do less.
        request[24..32].fill(0);
        let mut image = vec![0; MEMORY];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(REQUEST.into(), &request);
        put(QUEUE, &descriptor(REQUEST, length, 1, 1));
        put(QUEUE + 16, &descriptor(ANSWER, 0x4000, 2, 0));
        put(QUEUE + 0x402, &1u16.to_le_bytes());
        let (Some(memory), Ok(line)) = (memory_with(&image), line.try_clone()) else {
            return;
        };
        device.activate(active(device, memory, line));
    }
    device.reset();
}

/// Writes to, and reads from, a device's registers: five bytes each, an offset's low byte and a value.
pub fn fuzz_registers(device: &SharedDevice<SharedMemory>, input: &[u8]) {
    let (Some(memory), Ok(line)) = (memory_with(&[]), EventFd::new(EFD_NONBLOCK)) else {
        return;
    };
    let interrupt = Arc::new(Interrupt::new(line));
    let device = Arc::clone(device);
    let registers = Registers::new(device, Arc::new(memory), interrupt, Vec::new());
    let bus = MmioBus::new(MMIO_START, vec![registers]);
    for (at, word) in input.chunks_exact(5).enumerate() {
        let address = MMIO_START + u64::from(word[0]);
        let mut value = [word[1], word[2], word[3], word[4]];
        if word[1] & 7 != 0 {
            // Small enough for a status, a queue, its size, an address in memory.
            value[2..].fill(0);
        }
        bus.write(address, &value);
        bus.read(address, &mut value[..at % 5]);
    }
    bus.write(MMIO_START + STATUS, &[0; 4]);
}

fn descriptor(at: u16, length: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&at.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// Guest memory that begins with these bytes.
fn memory_with(bytes: &[u8]) -> Option<Memory> {
    let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).ok()?;
    let bytes = &bytes[..bytes.len().min(MEMORY)];
    memory.write_slice(bytes, GuestAddress(0)).ok()?;
    Some(memory)
}

/// Every queue of a device set up in a page of its own.
fn active(
    device: &dyn VirtioDevice<SharedMemory>,
    memory: Memory,
    line: EventFd,
) -> Active<SharedMemory> {
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
    Active {
        memory: Arc::new(memory),
        features: device.features(),
        queues: queues.collect(),
        notifier: Arc::new(Interrupt::new(line)),
        kicks: Arc::new([]),
        requests: Arc::default(),
    }
}

/// Deterministic noise (xorshift).
pub struct Noise(pub u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_le_bytes()[4]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

//! Frames both ways over either link, guests with too few or odd buffers, and links that go.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::link::HEADER;
use super::*;
use crate::testing::{BUFFERS, Driver, SharedMemory, WRITE};

const IDENTITY: Identity = Identity {
    mac: [2, 0, 0, 0, 0, 7],
    mtu: 1400,
};
/// Header without anything in it.
const PLAIN: [u8; HEADER] = [0; HEADER];

type Device = Arc<Mutex<Net<SharedMemory>>>;

struct Guest {
    driver: Driver,
    device: Device,
    lost: Arc<AtomicUsize>,
}

fn device(link: Link, rate: Option<u64>) -> (Device, Arc<AtomicUsize>) {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let tell = move |what: &str| {
        assert!(what.contains("has lost its link"), "{what}");
        count.fetch_add(1, Ordering::Relaxed);
    };
    let device = Net::new(IDENTITY, link, rate, tell).expect("a descriptor");
    (Arc::new(Mutex::new(device)), lost)
}

/// What takes the place of a tap: packets, and an end when the other side is closed.
fn packets() -> (Link, OwnedFd) {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None);
    let (ours, theirs) = pair.expect("sockets");
    let link = Link::tap(ours, |_, _| Ok(())).expect("a descriptor");
    (link, theirs)
}

fn stream() -> (Link, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    (Link::stream(ours.into()).expect("a descriptor"), theirs)
}

impl Guest {
    /// A driver that accepts all features but `without`.
    fn with(link: Link, without: u64, rate: Option<u64>) -> Self {
        let (device, lost) = device(link, rate);
        let features = device.lock().expect("not poisoned").features() & !without;
        let driver = Driver::new(device.clone());
        for status in [0, 1, 3] {
            driver.write(0x70, status);
        }
        for (half, bits) in [(0, (features & 0xffff_ffff) as u32), (1, 1)] {
            driver.write(0x24, half);
            driver.write(0x20, bits);
        }
        driver.write(0x70, 11);
        driver.set_up_queue(0, 0x1_0000);
        driver.set_up_queue(1, 0x2_0000);
        driver.write(0x70, 15);
        assert_eq!(driver.read(0x70), 15);
        Self {
            driver,
            device,
            lost,
        }
    }

    fn new(link: Link) -> Self {
        Self::with(link, 0, None)
    }

    /// As its thread does.
    fn kick(&mut self, queue: usize) {
        self.device.lock().expect("not poisoned").kicked(queue);
    }

    fn ready(&mut self) {
        self.device.lock().expect("not poisoned").ready(LINK);
    }

    /// Offers a buffer for a frame.
    fn offer(&mut self, at: u64, length: u32) {
        self.driver.add(RECEIVE, &[(at, length, WRITE)]);
    }

    /// Sends a frame, without looking at it.
    fn send(&mut self, frame: &[u8]) {
        self.driver.put(BUFFERS, &[&PLAIN[..], frame].concat());
        let length = u32::try_from(HEADER + frame.len()).expect("short");
        self.driver.add(TRANSMIT, &[(BUFFERS, length, 0)]);
        self.kick(TRANSMIT);
    }

    /// The carrier's bit, as the guest reads it.
    fn carrier(&self) -> u32 {
        // The status and the count of pairs of queues are in one word.
        let mut bytes = [0; 2];
        self.driver
            .bus
            .read(crate::testing::MMIO_START + 0x106, &mut bytes);
        u16::from_le_bytes(bytes).into()
    }
}

fn read(from: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let length = rustix::io::read(from, &mut bytes[..]).expect("a packet");
    bytes.truncate(length);
    bytes
}

#[test]
fn frames_and_their_headers_go_both_ways_through_a_tap() {
    let (link, host) = packets();
    let mut guest = Guest::new(link);
    assert_eq!(guest.carrier(), 1);
    guest.driver.put(BUFFERS, &[1; HEADER]);
    guest.driver.put(BUFFERS + 0x1000, b"frame");
    let chain = [(BUFFERS, 12, 0), (BUFFERS + 0x1000, 5, 0)];
    guest.driver.add(TRANSMIT, &chain);
    guest.kick(TRANSMIT);
    assert_eq!(guest.driver.used(TRANSMIT), [0]);
    assert_eq!(read(&host), [&[1; HEADER][..], b"frame"].concat());
    guest.offer(BUFFERS, 2048);
    guest.offer(BUFFERS + 0x1000, 2048);
    for byte in [b'a', b'b'] {
        rustix::io::write(&host, &[&[9; HEADER][..], &[byte; 60]].concat()).expect("room");
    }
    guest.ready();
    assert_eq!(guest.driver.used(RECEIVE), [72, 72]);
    // One buffer each.
    let header = [&[9; 10][..], &[1, 0]].concat();
    let got = guest.driver.get(BUFFERS + 0x1000, 72);
    assert_eq!(got, [&header[..], &[b'b'; 60]].concat());
}

#[test]
fn a_link_leaves_to_the_guest_what_its_driver_takes() {
    static FLAGS: AtomicU32 = AtomicU32::new(u32::MAX);
    let flags = |without| {
        let (ours, _theirs) = UnixStream::pair().expect("sockets");
        let link = Link::tap(ours.into(), |_, flags| {
            FLAGS.store(flags, Ordering::Relaxed);
            Ok(())
        });
        Guest::with(link.expect("a descriptor"), without, None).kick(RECEIVE);
        FLAGS.load(Ordering::Relaxed)
    };
    assert_eq!(flags(0), 7);
    assert_eq!(flags(F_GUEST_TSO6), 3);
    // Segments without checksums are nothing that can be had.
    assert_eq!(flags(F_GUEST_CSUM), 0);
    let (link, _) = stream();
    let offered = device(link, None)
        .0
        .lock()
        .expect("not poisoned")
        .features();
    assert_eq!(offered & OFFLOADS, 0);
    let (ours, _theirs) = UnixStream::pair().expect("sockets");
    let refuses = Link::tap(ours.into(), |_, _| {
        Err(std::io::ErrorKind::Unsupported.into())
    });
    let mut guest = Guest::new(refuses.expect("a descriptor"));
    guest.kick(RECEIVE);
    assert_eq!(
        (guest.lost.load(Ordering::Relaxed), guest.carrier()),
        (1, 0)
    );
}

#[test]
fn a_frame_takes_as_many_buffers_as_it_needs() {
    let (link, host) = packets();
    let mut guest = Guest::new(link);
    let frame: Vec<u8> = (0..3000u32).map(|at| at.to_le_bytes()[0]).collect();
    rustix::io::write(&host, &[&PLAIN[..], &frame].concat()).expect("room");
    // Two of three buffers are there: it waits for the third.
    guest.offer(BUFFERS, 1024);
    guest.offer(BUFFERS + 0x1000, 1024);
    guest.ready();
    assert_eq!(guest.driver.used(RECEIVE), [0; 0]);
    guest.offer(BUFFERS + 0x2000, 2048);
    guest.kick(RECEIVE);
    assert_eq!(guest.driver.used(RECEIVE), [1024, 1024, 964]);
    let parts = [(0, 1024), (0x1000, 1024), (0x2000, 964)];
    let got = parts.map(|(at, length)| guest.driver.get(BUFFERS + at, length));
    let header = [&[0; 10][..], &[3, 0]].concat();
    assert_eq!(got.concat(), [header, frame].concat());
}

#[test]
fn what_fits_into_no_buffer_is_lost_alone() {
    let (link, host) = packets();
    let mut guest = Guest::with(link, F_MRG_RXBUF, None);
    guest.offer(BUFFERS, 512);
    for length in [600, 60] {
        rustix::io::write(&host, &vec![0; HEADER + length]).expect("room");
    }
    guest.ready();
    // The buffer comes back with nothing in it; the next one takes the next frame.
    assert_eq!(guest.driver.used(RECEIVE), [0]);
    guest.offer(BUFFERS, 512);
    guest.kick(RECEIVE);
    assert_eq!(guest.driver.used(RECEIVE), [72]);
}

#[test]
fn chains_that_are_no_frames_go_back_and_nothing_is_sent() {
    let (link, host) = packets();
    let mut guest = Guest::new(link);
    // Too short, too long, outside of memory, and writable only.
    guest.driver.add(TRANSMIT, &[(BUFFERS, 12, 0)]);
    guest.driver.add(TRANSMIT, &[(BUFFERS, 100_000, 0)]);
    guest.driver.add(TRANSMIT, &[(1 << 40, 100, 0)]);
    guest.driver.add(TRANSMIT, &[(BUFFERS, 100, WRITE)]);
    guest.kick(TRANSMIT);
    assert_eq!(guest.driver.used(TRANSMIT), [0; 4]);
    guest.send(b"frame");
    assert_eq!(read(&host), [&PLAIN[..], b"frame"].concat());
    // Buffers that the device cannot write to.
    guest.driver.add(RECEIVE, &[(1 << 40, 2048, WRITE)]);
    guest.offer(BUFFERS, 2048);
    rustix::io::write(&host, &[7; 72]).expect("room");
    guest.ready();
    assert_eq!(guest.driver.used(RECEIVE), [0, 72]);
}

#[test]
fn a_stream_is_cut_into_frames_however_its_bytes_come() {
    use std::io::Write as _;
    let (link, mut host) = stream();
    let mut guest = Guest::new(link);
    for at in 0..4 {
        guest.offer(BUFFERS + at * 0x1000, 2048);
    }
    let framed = |length: u32| [&length.to_be_bytes()[..], &vec![5; length as usize]].concat();
    let bytes = [framed(60), framed(1500), framed(61)].concat();
    for part in bytes.chunks(7) {
        host.write_all(part).expect("room");
        guest.ready();
    }
    assert_eq!(guest.driver.used(RECEIVE), [72, 1512, 73]);
    guest.send(b"frame");
    let mut got = [0; 9];
    std::io::Read::read_exact(&mut host, &mut got).expect("a frame");
    assert_eq!(&got, b"\0\0\0\x05frame");
}

#[test]
fn a_stream_that_is_full_keeps_the_guest_waiting_and_loses_nothing() {
    use std::io::Read as _;
    let (link, mut host) = stream();
    let mut guest = Guest::new(link);
    let length = 60_000;
    let mut sent = 0;
    // Until a frame stays in the queue.
    loop {
        guest.send(&vec![sent; length]);
        sent += 1;
        if guest.driver.used(TRANSMIT).is_empty() {
            break;
        }
    }
    for number in 0..sent {
        let mut frame = vec![0; 4 + length];
        host.read_exact(&mut frame).expect("it is whole");
        guest.ready();
        assert_eq!(
            frame[..4],
            u32::try_from(length).expect("short").to_be_bytes()
        );
        assert!(frame[4..].iter().all(|byte| *byte == number), "{number}");
    }
    assert_eq!(guest.driver.used(TRANSMIT), [0]);
}

#[test]
fn a_link_that_goes_takes_the_carrier_and_holds_nobody_up() {
    for is_told_nonsense in [false, true] {
        let (link, host) = stream();
        let mut guest = Guest::new(link);
        let generation = guest.driver.read(0xfc);
        let host = is_told_nonsense.then_some(host);
        if let Some(mut host) = host.as_ref() {
            std::io::Write::write_all(&mut host, &[0xff; 4]).expect("room");
        }
        guest.ready();
        assert_eq!(guest.carrier(), 0);
        assert_ne!(guest.driver.read(0xfc), generation, "a change is told");
        for _ in 0..3 {
            guest.send(b"into the void");
            assert_eq!(guest.driver.used(TRANSMIT), [0]);
        }
        guest.ready();
        assert_eq!(guest.lost.load(Ordering::Relaxed), 1, "it is told once");
    }
}

#[test]
fn a_rate_holds_frames_back_until_its_timer_fires() {
    let (link, host) = packets();
    let mut guest = Guest::with(link, 0, Some(1_000_000));
    let mut sent = 0;
    loop {
        guest.send(&[3; 20_000]);
        sent += 1;
        if guest.driver.used(TRANSMIT).is_empty() {
            break;
        }
        read(&host);
        assert!(sent < 1000, "it is not held back");
    }
    let timer = {
        let device = guest.device.lock().expect("not poisoned");
        let timer = device.watched()[1];
        timer.try_clone_to_owned().expect("a descriptor")
    };
    while guest.driver.used(TRANSMIT).is_empty() {
        let mut polled = [rustix::event::PollFd::new(
            &timer,
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut polled, None), Ok(1));
        guest.device.lock().expect("not poisoned").ready(1);
    }
    assert_eq!(read(&host).len(), HEADER + 20_000);
}

#[test]
fn a_device_goes_on_from_its_state_on_another_link() {
    let (link, _host) = packets();
    let mut guest = Guest::new(link);
    guest.offer(BUFFERS, 2048);
    guest.kick(RECEIVE);
    let (link, host) = packets();
    let (next, _) = device(link, None);
    let mut driver = guest.driver.go_on_with(next.clone());
    rustix::io::write(&host, &[7; 72]).expect("room");
    next.lock().expect("not poisoned").ready(LINK);
    assert_eq!(driver.used(RECEIVE), [72]);
    let other = Identity {
        mtu: 9000,
        ..IDENTITY
    };
    let (link, _host) = packets();
    let mut other = Net::<SharedMemory>::new(other, link, None, |_| {}).expect("a descriptor");
    let saved = next.lock().expect("not poisoned").save().expect("it can");
    let said = other.restore(&saved).expect_err("another").to_string();
    assert!(said.contains("MTU 1400, and this one has"), "{said}");
}

//! Streams against a host that the tests play.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::sync::Mutex;

use abi::Errno;
use fs::Events;
use machine::virtio::fake::{self, FakeDevice, Pending};
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;
use vsock_packet::{End, HEADER_LEN, Header, Key, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use zerocopy::{FromBytes, IntoBytes};

use super::connection::{Connection, Phase, copy_out};
use super::device::{Queues, Vsock};
use super::listener::Listener;
use super::socket::VsockSocket;
use crate::socket::{Ancillary, ReceiveFlags, SendFlags, Shutdown, Socket};

const GUEST: u64 = 3;
const HOST: u64 = 2;
const PORT: u32 = 1024;
const HOST_PORT: u32 = 5000;

type Sent = Arc<Mutex<VecDeque<(Header, Vec<u8>)>>>;

/// The machine's device and its far end.
struct Host {
    vsock: Arc<Vsock>,
    /// Buffers that the guest gave for packets to come.
    buffers: Arc<Mutex<VecDeque<Pending>>>,
    receive: FakeDevice,
    /// Packets that the guest sent.
    sent: Sent,
    /// Takes out no packets as long as it is stuck; those that it has not taken out.
    is_stuck: Arc<AtomicBool>,
    left: Arc<Mutex<VecDeque<Pending>>>,
    transmit: FakeDevice,
}

fn host() -> Host {
    let buffers = Arc::new(Mutex::new(VecDeque::new()));
    let sent = Sent::default();
    let given = buffers.clone();
    let (receive, receive_device) = fake::queue(
        128,
        Box::new(move |_, pending| given.lock().unwrap().push_back(pending)),
    );
    let out = sent.clone();
    let is_stuck = Arc::new(AtomicBool::new(false));
    let left = Arc::new(Mutex::new(VecDeque::new()));
    let (stuck, leaves) = (is_stuck.clone(), left.clone());
    let (transmit, transmit_device) = fake::queue(
        128,
        Box::new(move |device, pending| {
            if stuck.load(Ordering::SeqCst) {
                leaves.lock().unwrap().push_back(pending);
                return;
            }
            let bytes = pending.request();
            let (header, payload) = Header::read_from_prefix(&bytes).unwrap();
            assert_eq!(header.len.get() as usize, payload.len());
            out.lock().unwrap().push_back((header, payload.to_vec()));
            device.answer(pending, &[]);
        }),
    );
    let queues = Queues {
        receive,
        transmit,
        _events: None,
    };
    let vsock = Vsock::new(GUEST, queues, Arc::new(WaitQueue::new())).unwrap();
    Host {
        vsock,
        buffers,
        receive: receive_device,
        sent,
        is_stuck,
        left,
        transmit: transmit_device,
    }
}

impl Host {
    /// Sends a packet to the guest, which acts on it.
    fn send(&self, op: Op, flags: u32, payload: &[u8], credit: u32) {
        let mut header = Header {
            src_cid: HOST.into(),
            dst_cid: GUEST.into(),
            src_port: HOST_PORT.into(),
            dst_port: PORT.into(),
            len: u32::try_from(payload.len()).unwrap().into(),
            kind: 1.into(),
            op: op.to_raw().into(),
            ..Header::default()
        };
        header.flags = flags.into();
        header.buf_alloc = credit.into();
        let buffer = self.buffers.lock().unwrap().pop_front().unwrap();
        self.receive
            .answer(buffer, &[header.as_bytes(), payload].concat());
        self.vsock.pump();
    }

    /// The next packet from the guest.
    fn next(&self) -> (Op, Header, Vec<u8>) {
        let (header, payload) = self.sent.lock().unwrap().pop_front().expect("a packet");
        (Op::from_raw(header.op.get()).unwrap(), header, payload)
    }

    fn is_quiet(&self) -> bool {
        self.sent.lock().unwrap().is_empty()
    }

    /// A stream that the host opened.
    fn accepted(&self, credit: u32) -> Arc<dyn Socket> {
        let listener = Listener::new(4).unwrap();
        let port = self.vsock.bind(Some(PORT)).unwrap();
        self.vsock.listen(port, listener.clone()).unwrap();
        self.send(Op::Request, 0, &[], credit);
        assert_eq!(self.next().0, Op::Response);
        let connection = listener.take().unwrap();
        VsockSocket::on(self.vsock.clone())
            .unwrap()
            .accepted(connection)
            .unwrap()
    }
}

fn read(socket: &Arc<dyn Socket>, max: usize) -> abi::Result<Vec<u8>> {
    let mut bytes = vec![0; max];
    let received = socket.receive(&mut IoWriter::kernel(&mut bytes), ReceiveFlags::DONTWAIT)?;
    bytes.truncate(received.len);
    Ok(bytes)
}

fn write(socket: &Arc<dyn Socket>, bytes: &[u8]) -> abi::Result<usize> {
    socket.send(
        &mut IoReader::kernel(bytes),
        SendFlags::DONTWAIT,
        None,
        Ancillary::default(),
    )
}

/// What the guest would answer stays with a host that takes nothing out, which is the one that has to wait.
#[test]
fn a_host_that_takes_nothing_out_is_not_listened_to() {
    let host = host();
    host.is_stuck.store(true, Ordering::SeqCst);
    // Each asks for an answer: nobody listens. The host has 64 buffers for them at a time.
    let mut asked = 0;
    while !host.buffers.lock().unwrap().is_empty() {
        host.send(Op::Request, 0, &[], 1000);
        asked += 1;
        assert!(asked < 1000, "the guest remembers all");
    }
    assert_eq!(host.vsock.wait_room(true, 0), Err(Errno::EAGAIN));
    assert_eq!(host.vsock.wait_room(false, 1), Err(Errno::ETIMEDOUT));
    host.is_stuck.store(false, Ordering::SeqCst);
    loop {
        let pending = host.left.lock().unwrap().pop_front();
        let Some(pending) = pending else { break };
        host.sent
            .lock()
            .unwrap()
            .push_back((Header::default(), Vec::new()));
        host.transmit.answer(pending, &[]);
    }
    while host.vsock.pump() {}
    assert_eq!(host.vsock.wait_room(true, 0), Ok(()));
    assert_eq!(host.sent.lock().unwrap().len(), asked, "all are answered");
}

#[test]
fn nobody_listens() {
    let host = host();
    host.send(Op::Request, 0, &[], 1000);
    assert_eq!(host.next().0, Op::Reset);
    host.send(Op::Data, 0, b"x", 1000);
    assert_eq!(host.next().0, Op::Reset);
    host.send(Op::Reset, 0, &[], 1000);
    assert!(host.is_quiet());
}

#[test]
fn bytes_go_both_ways_within_the_credit() {
    let host = host();
    let socket = host.accepted(10);
    assert_eq!(read(&socket, 9), Err(Errno::EAGAIN));
    host.send(Op::Data, 0, b"hello", 10);
    host.send(Op::Data, 0, &[7; 3000], 10);
    assert_eq!(socket.available(), Ok(3005));
    assert_eq!(read(&socket, 5), Ok(b"hello".to_vec()));
    assert_eq!(read(&socket, 4000), Ok(vec![7; 3000]));
    assert_eq!(write(&socket, b"0123456789ab"), Ok(10));
    let (op, header, payload) = host.next();
    assert_eq!((op, payload.as_slice()), (Op::Data, &b"0123456789"[..]));
    assert_eq!(header.fwd_cnt.get(), 3005);
    assert_eq!(write(&socket, b"ab"), Err(Errno::EAGAIN));
    assert!(!socket.poll(None).contains(Events::WRITABLE));
    host.send(Op::CreditUpdate, 0, &[], 12);
    assert_eq!(write(&socket, b"abc"), Ok(2));
}

#[test]
fn the_host_hears_of_room_as_bytes_are_read() {
    let host = host();
    let socket = host.accepted(10);
    for _ in 0..20 {
        host.send(Op::Data, 0, &[1; 4000], 10);
    }
    assert!(host.is_quiet());
    assert_eq!(read(&socket, 80_000).unwrap().len(), 80_000);
    let (op, header, _) = host.next();
    assert_eq!((op, header.fwd_cnt.get()), (Op::CreditUpdate, 80_000));
}

#[test]
fn more_than_the_credit_resets() {
    let host = host();
    let socket = host.accepted(10);
    for _ in 0..70 {
        host.send(Op::Data, 0, &[1; 4000], 10);
    }
    assert_eq!(host.next().0, Op::Reset);
    let mut total = 0;
    let end = loop {
        match read(&socket, 100_000) {
            Ok(bytes) if bytes.is_empty() => break Ok(()),
            Ok(bytes) => total += bytes.len(),
            Err(errno) => break Err(errno),
        }
    };
    assert_eq!((total, end), (260_000, Err(Errno::ECONNRESET)));
}

#[test]
fn each_direction_ends_by_itself() {
    let host = host();
    let socket = host.accepted(10);
    host.send(Op::Data, 0, b"last", 10);
    host.send(Op::Shutdown, SHUTDOWN_SEND, &[], 10);
    assert_eq!(read(&socket, 9), Ok(b"last".to_vec()));
    assert_eq!(read(&socket, 9), Ok(Vec::new()));
    assert!(socket.poll(None).contains(Events::RDHUP | Events::WRITABLE));
    assert_eq!(write(&socket, b"still"), Ok(5));
    assert_eq!(host.next().0, Op::Data);
    socket
        .shutdown(Shutdown {
            receive: false,
            send: true,
        })
        .unwrap();
    let (op, header, _) = host.next();
    assert_eq!((op, header.flags.get()), (Op::Shutdown, SHUTDOWN_SEND));
    assert_eq!(write(&socket, b"x"), Err(Errno::EPIPE));
}

#[test]
fn closing_tells_the_host_which_resets() {
    let host = host();
    let socket = host.accepted(10);
    drop(socket);
    let (op, header, _) = host.next();
    assert_eq!(
        (op, header.flags.get()),
        (Op::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE)
    );
    host.send(Op::Reset, 0, &[], 10);
    assert!(host.is_quiet());
    // The same ports can be used again.
    host.send(Op::Request, 0, &[], 10);
    assert_eq!(host.next().0, Op::Response);
}

#[test]
fn connecting_is_answered_or_refused() {
    let host = host();
    for (answer, expected) in [(Op::Response, true), (Op::Reset, false)] {
        let key = Key {
            local_port: PORT,
            peer: End {
                cid: HOST,
                port: HOST_PORT,
            },
        };
        let connection = host.vsock.connect(key).unwrap();
        assert_eq!(host.next().0, Op::Request);
        host.send(answer, 0, &[], 10);
        let state = connection.state.lock();
        assert_eq!(state.phase == Phase::Established, expected);
        assert_eq!(state.error, (!expected).then_some(Errno::ECONNRESET));
        drop(state);
        host.vsock.forget(key);
    }
}

#[test]
fn packets_that_cannot_be_are_dropped() {
    let host = host();
    let socket = host.accepted(10);
    let before = HEADER_LEN;
    for len in [0, 10, before - 1] {
        let buffer = host.buffers.lock().unwrap().pop_front().unwrap();
        host.receive.answer(buffer, &vec![0xff; len]);
        host.vsock.pump();
    }
    host.send(Op::Data, 0, b"fine", 10);
    assert_eq!(read(&socket, 9), Ok(b"fine".to_vec()));
}

/// Two readers of one stream get each byte once; an empty packet gives none.
#[test]
fn readers_take_turns() {
    const PIECES: usize = 60;
    const LEN: usize = 2000;
    let key = Key {
        local_port: 1,
        peer: End { cid: HOST, port: 2 },
    };
    for _ in 0..50 {
        let connection = Connection::new(key, Phase::Established).unwrap();
        let take_in = |byte: u8, len: usize| {
            let frame = machine::Frame::alloc_zeroed().unwrap();
            frame.fill(0, len, byte);
            assert!(connection.state.lock().take_in(frame, 0, len).0);
        };
        take_in(0, 0);
        for piece in 0..PIECES {
            take_in(u8::try_from(piece).unwrap(), LEN);
            take_in(0, 0);
        }
        let read = || {
            let (mut counts, mut bytes) = ([0_usize; PIECES], [0; 300]);
            loop {
                let mut to = IoWriter::kernel(&mut bytes);
                let len = copy_out(&connection, &mut to, false, drop).unwrap();
                if len == 0 {
                    return counts;
                }
                bytes[..len]
                    .iter()
                    .for_each(|byte| counts[usize::from(*byte)] += 1);
            }
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(read);
            (read(), other.join().unwrap())
        });
        assert!(one.iter().zip(other).all(|(a, b)| a + b == LEN));
    }
}

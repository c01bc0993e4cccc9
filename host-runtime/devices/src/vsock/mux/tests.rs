//! Streams against a guest made of packets.

use std::io::{Read, Write};
use std::time::Duration;

use super::super::connection::BUFFER;
use vsock_packet::{SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

use super::*;

const GUEST_CID: u64 = 3;
const GUEST_PORT: u32 = 1024;

/// The guest's end of a mux with one stream.
struct Guest {
    mux: Mux,
    port: u32,
    host: UnixStream,
}

impl Guest {
    /// A stream that the guest has been asked for.
    fn asked() -> Self {
        let (host, inner) = UnixStream::pair().expect("sockets");
        inner.set_nonblocking(true).expect("a socket");
        host.set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a socket");
        let mut mux = Mux::new(GUEST_CID);
        let port = mux.connect(7, GUEST_PORT, inner).expect("room");
        let mut guest = Self { mux, port, host };
        let (header, _) = guest.mux.next(4096).expect("a request");
        assert_eq!(
            (header.op.get(), header.dst_port.get()),
            (Op::Request.to_raw(), GUEST_PORT)
        );
        guest
    }

    /// A stream that the guest has accepted.
    fn accepted() -> Self {
        let mut guest = Self::asked();
        guest.send(Op::Response, 0, &[]);
        assert_eq!(guest.mux.take_outcomes(), [Outcome::Connected(7)]);
        guest
    }

    fn header(&self, op: Op) -> Header {
        Header {
            src_cid: GUEST_CID.into(),
            dst_cid: HOST_CID.into(),
            src_port: GUEST_PORT.into(),
            dst_port: self.port.into(),
            kind: STREAM.into(),
            op: op.to_raw().into(),
            buf_alloc: 4096.into(),
            ..Header::default()
        }
    }

    fn send(&mut self, op: Op, flags: u32, data: &[u8]) {
        let mut header = self.header(op);
        header.flags = flags.into();
        header.len = u32::try_from(data.len()).expect("short").into();
        self.mux.receive(&header, data);
    }

    fn next_op(&mut self) -> Option<(u16, u32)> {
        self.mux
            .next(4096)
            .map(|(header, _)| (header.op.get(), header.flags.get()))
    }

    fn ready(&mut self, readable: bool, gone: bool) {
        let connection = self.mux.get_mut(self.port).expect("there");
        connection.ready(readable, true, gone);
    }
}

#[test]
fn data_flows_both_ways() {
    let mut guest = Guest::accepted();
    guest.send(Op::Data, 0, b"from the guest");
    let mut read = [0; 14];
    guest.host.read_exact(&mut read).expect("data");
    assert_eq!(&read, b"from the guest");
    guest.host.write_all(b"from the host").expect("room");
    guest.ready(true, false);
    let (header, data) = guest.mux.next(4096).expect("data");
    assert_eq!(
        (header.op.get(), header.fwd_cnt.get()),
        (Op::Data.to_raw(), 14)
    );
    assert_eq!(data, b"from the host");
    assert_eq!(guest.next_op(), None);
}

#[test]
fn a_refused_attempt_is_reported() {
    let mut guest = Guest::asked();
    guest.send(Op::Reset, 0, &[]);
    assert_eq!(guest.mux.take_outcomes(), [Outcome::Refused(7)]);
    assert_eq!(guest.next_op(), None);
}

#[test]
fn the_guests_credit_is_kept() {
    let mut guest = Guest::accepted();
    guest.host.write_all(&[5; 6000]).expect("room");
    guest.ready(true, false);
    let (_, data) = guest.mux.next(3000).expect("data");
    assert_eq!(data.len(), 3000);
    let (_, data) = guest.mux.next(3000).expect("data");
    assert_eq!(data.len(), 1096);
    assert_eq!(guest.next_op(), None, "the guest's buffer is full");
    let mut header = guest.header(Op::CreditUpdate);
    header.fwd_cnt = 4096.into();
    guest.mux.receive(&header, &[]);
    let (_, data) = guest.mux.next(3000).expect("data");
    assert_eq!(data.len(), 1904);
}

#[test]
fn a_guest_that_ignores_its_credit_is_reset() {
    let mut guest = Guest::accepted();
    let packet = vec![1; 64 * 1024];
    // The host reads nothing: its socket fills, then the buffer, then it is too much.
    for _ in 0..64 {
        guest.send(Op::Data, 0, &packet);
    }
    assert_eq!(guest.next_op(), Some((Op::Reset.to_raw(), 0)));
    assert_eq!(guest.next_op(), None);
    assert!(guest.mux.get_mut(guest.port).is_none());
}

#[test]
fn what_the_host_takes_late_arrives_whole() {
    let mut guest = Guest::accepted();
    let sent: Vec<u8> = (0..BUFFER).map(|byte| (byte % 251) as u8).collect();
    guest.send(Op::Data, 0, &sent);
    guest.send(Op::Shutdown, SHUTDOWN_SEND, &[]);
    let mut read = vec![0; sent.len()];
    let half = sent.len() / 2;
    guest.host.read_exact(&mut read[..half]).expect("data");
    guest.ready(false, false);
    guest.host.read_exact(&mut read[half..]).expect("data");
    guest.ready(false, false);
    assert_eq!(read, sent);
    assert_eq!(guest.host.read(&mut [0; 1]).expect("the end"), 0);
    assert_eq!(guest.next_op(), Some((Op::CreditUpdate.to_raw(), 0)));
}

#[test]
fn each_direction_ends_alone() {
    let mut guest = Guest::accepted();
    guest
        .host
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket");
    guest.ready(true, false);
    assert_eq!(
        guest.next_op(),
        Some((Op::Shutdown.to_raw(), SHUTDOWN_SEND))
    );
    guest.send(Op::Data, 0, b"still");
    let mut read = [0; 5];
    guest.host.read_exact(&mut read).expect("data");
    guest.send(Op::Shutdown, SHUTDOWN_BOTH, &[]);
    assert_eq!(guest.next_op(), Some((Op::Reset.to_raw(), 0)));
    assert_eq!(guest.host.read(&mut read).expect("the end"), 0);
}

#[test]
fn a_host_that_hangs_up_ends_both() {
    let mut guest = Guest::accepted();
    guest.host.write_all(b"last words").expect("room");
    let (other, _) = UnixStream::pair().expect("sockets");
    drop(std::mem::replace(&mut guest.host, other));
    guest.ready(true, true);
    let (header, data) = guest.mux.next(4096).expect("data");
    assert_eq!(
        (header.op.get(), data.as_slice()),
        (Op::Data.to_raw(), &b"last words"[..])
    );
    assert_eq!(
        guest.next_op(),
        Some((Op::Shutdown.to_raw(), SHUTDOWN_BOTH))
    );
    guest.send(Op::Data, 0, b"too late");
    guest.send(Op::Shutdown, SHUTDOWN_RECEIVE, &[]);
    guest.send(Op::Reset, 0, &[]);
    assert!(guest.mux.get_mut(guest.port).is_none());
}

#[test]
fn a_guest_cannot_connect_to_the_host() {
    let mut mux = Mux::new(GUEST_CID);
    let request = Header {
        src_cid: GUEST_CID.into(),
        dst_cid: HOST_CID.into(),
        src_port: 5.into(),
        dst_port: 22.into(),
        kind: STREAM.into(),
        op: Op::Request.to_raw().into(),
        ..Header::default()
    };
    mux.receive(&request, &[]);
    let (answer, _) = mux.next(4096).expect("an answer");
    assert_eq!(
        (
            answer.op.get(),
            answer.src_port.get(),
            answer.dst_port.get()
        ),
        (3, 22, 5)
    );
    for _ in 0..10_000 {
        mux.receive(&request, &[]);
    }
    let answers = std::iter::from_fn(|| mux.next(4096)).count();
    assert_eq!(answers, MOST_ANSWERS, "answers are bounded");
}

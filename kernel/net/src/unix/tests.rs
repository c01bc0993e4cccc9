//! Unix sockets against each other.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Errno;
use fs::{Credentials, Events, File, Kuid, OpenFlags, UserNamespace};
use memory::io::{IoReader, IoWriter};

use super::UnixSocket;
use crate::file::SocketFile;
use crate::options::Switches;
use crate::socket::{
    Ancillary, Owner, Peer, ReceiveFlags, Received, SendFlags, Shutdown, Socket, SocketType,
};
use fs::job_control::PidRef;

fn my_peer() -> Peer {
    static PID: std::sync::LazyLock<PidRef> = std::sync::LazyLock::new(|| PidRef::new(Arc::new(7)));
    Peer {
        pid: Some(PID.clone()),
        uid: user(1),
        gid: UserNamespace::INITIAL.kgid(2).unwrap(),
    }
}

fn user(number: u32) -> Kuid {
    UserNamespace::INITIAL.kuid(number).unwrap()
}

fn me() -> Owner {
    Owner {
        peer: my_peer(),
        credentials: Arc::new(Credentials::root()),
    }
}

fn pair(kind: SocketType) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
    UnixSocket::pair(kind, me(), &crate::Network::default()).unwrap()
}

fn send(socket: &UnixSocket, bytes: &[u8]) -> abi::Result<usize> {
    let flags = SendFlags::DONTWAIT;
    socket.send(
        &mut IoReader::kernel(bytes),
        flags,
        None,
        Ancillary::default(),
    )
}

fn receive_with(
    socket: &UnixSocket,
    max: usize,
    flags: ReceiveFlags,
) -> abi::Result<(Vec<u8>, Received)> {
    let mut bytes = vec![0; max];
    let flags = flags | ReceiveFlags::DONTWAIT;
    let received = socket.receive(&mut IoWriter::kernel(&mut bytes), flags)?;
    bytes.truncate(received.len);
    Ok((bytes, received))
}

fn receive(socket: &UnixSocket, max: usize) -> abi::Result<Vec<u8>> {
    receive_with(socket, max, ReceiveFlags::empty()).map(|(bytes, _)| bytes)
}

#[test]
fn a_stream_joins_what_was_sent() {
    let (one, other) = pair(SocketType::Stream);
    assert_eq!(receive(&other, 9), Err(Errno::EAGAIN));
    assert_eq!(send(&one, b"abc"), Ok(3));
    assert_eq!(send(&one, b"def"), Ok(3));
    assert_eq!(other.available(), Ok(6));
    let (peeked, _) = receive_with(&other, 5, ReceiveFlags::PEEK).unwrap();
    assert_eq!(peeked, b"abcde");
    assert_eq!(receive(&other, 2), Ok(b"ab".to_vec()));
    assert_eq!(receive(&other, 9), Ok(b"cdef".to_vec()));
}

#[test]
fn messages_keep_their_edges() {
    for kind in [SocketType::Datagram, SocketType::SeqPacket] {
        let (one, other) = pair(kind);
        assert_eq!(
            (send(&one, b"first"), send(&one, b""), send(&one, b"x")),
            (Ok(5), Ok(0), Ok(1))
        );
        let (bytes, received) = receive_with(&other, 3, ReceiveFlags::empty()).unwrap();
        assert_eq!((bytes.as_slice(), received.full_len), (&b"fir"[..], 5));
        assert_eq!(receive(&other, 9), Ok(Vec::new()));
        assert_eq!(receive(&other, 9), Ok(b"x".to_vec()));
        assert_eq!(send(&one, &vec![0; 300_000]), Err(Errno::EMSGSIZE));
    }
}

#[test]
fn an_end_that_closes_is_end_of_file_and_broken_pipe() {
    let (one, other) = pair(SocketType::Stream);
    send(&one, b"last").unwrap();
    drop(one);
    assert!(
        other
            .poll(None)
            .contains(Events::READABLE | Events::RDHUP | Events::HUP)
    );
    assert_eq!(receive(&other, 9), Ok(b"last".to_vec()));
    assert_eq!(receive(&other, 9), Ok(Vec::new()));
    assert_eq!(send(&other, b"x"), Err(Errno::EPIPE));
}

#[test]
fn unread_bytes_reset_the_sender() {
    let (one, other) = pair(SocketType::Stream);
    send(&one, b"never read").unwrap();
    drop(other);
    assert_eq!(receive(&one, 9), Err(Errno::ECONNRESET));
    assert_eq!(receive(&one, 9), Ok(Vec::new()));
}

#[test]
fn half_a_connection_can_be_shut_down() {
    let (one, other) = pair(SocketType::Stream);
    one.shutdown(Shutdown {
        receive: false,
        send: true,
    })
    .unwrap();
    assert_eq!(send(&one, b"x"), Err(Errno::EPIPE));
    assert_eq!(receive(&other, 9), Ok(Vec::new()));
    assert_eq!(send(&other, b"back"), Ok(4));
    assert_eq!(receive(&one, 9), Ok(b"back".to_vec()));
    assert!(!other.poll(None).contains(Events::HUP));
}

#[test]
fn a_full_receiver_stops_the_sender() {
    let (one, other) = pair(SocketType::Stream);
    let mut sent = 0;
    while let Ok(count) = send(&one, &[1; 10_000]) {
        sent += count;
    }
    assert!(sent >= 100_000);
    assert!(!one.poll(None).contains(Events::WRITABLE));
    let mut taken = 0;
    while let Ok(bytes) = receive(&other, 50_000) {
        taken += bytes.len();
    }
    assert_eq!(taken, sent);
    assert!(one.poll(None).contains(Events::WRITABLE));
}

#[test]
fn files_travel_with_the_first_byte() {
    let (one, other) = pair(SocketType::Stream);
    let (passed, _kept) = pair(SocketType::Datagram);
    let credentials = Arc::new(Credentials::root());
    let socket: Arc<dyn Socket> = passed;
    let file: Arc<File> = SocketFile::open(socket, OpenFlags::empty(), &credentials).unwrap();
    send(&one, b"ab").unwrap();
    let ancillary = Ancillary {
        files: files(file.clone()),
        sender: None,
        files_uid: my_peer().uid,
        about: None,
    };
    one.send(
        &mut IoReader::kernel(b"cd"),
        SendFlags::empty(),
        None,
        ancillary,
    )
    .unwrap();
    send(&one, b"ef").unwrap();
    let (bytes, received) = receive_with(&other, 3, ReceiveFlags::empty()).unwrap();
    assert_eq!(
        (bytes.as_slice(), received.ancillary.files.len()),
        (&b"abc"[..], 1)
    );
    assert!(Arc::ptr_eq(&received.ancillary.files[0], &file));
    let (bytes, received) = receive_with(&other, 9, ReceiveFlags::empty()).unwrap();
    assert_eq!(
        (bytes.as_slice(), received.ancillary.files.len()),
        (&b"def"[..], 0)
    );
}

#[test]
fn credentials_come_when_asked_for() {
    let (one, other) = pair(SocketType::Stream);
    assert_eq!(other.peer(), my_peer());
    send(&one, b"x").unwrap();
    assert_eq!(
        receive_with(&other, 9, ReceiveFlags::empty())
            .unwrap()
            .1
            .ancillary
            .sender,
        None
    );
    send(&one, b"before").unwrap();
    other.options().set(Switches::PASSCRED, true);
    send(&one, b"x").unwrap();
    let (bytes, received) = receive_with(&other, 9, ReceiveFlags::empty()).unwrap();
    assert_eq!(bytes, b"before", "not what another wrote, too");
    assert_eq!(received.ancillary.sender, Some(Peer::NOBODY));
    assert_eq!(
        receive_with(&other, 9, ReceiveFlags::empty())
            .unwrap()
            .1
            .ancillary
            .sender,
        Some(my_peer())
    );
}

fn files(file: Arc<File>) -> collections::Vec<Arc<File>> {
    let mut files = collections::Vec::new();
    files.try_push(file).unwrap();
    files
}

fn file_of(socket: &Arc<UnixSocket>) -> Arc<File> {
    SocketFile::open(
        socket.clone(),
        OpenFlags::empty(),
        &Arc::new(Credentials::root()),
    )
    .unwrap()
}

fn send_file(socket: &UnixSocket, file: Arc<File>, uid: Kuid) {
    let ancillary = Ancillary {
        files: files(file),
        files_uid: uid,
        sender: None,
        about: None,
    };
    let sent = socket.send(
        &mut IoReader::kernel(b"f"),
        SendFlags::DONTWAIT,
        None,
        ancillary,
    );
    assert_eq!(sent, Ok(1));
}

/// Waits for whoever drops them, which may be another test.
fn all_land(uid: Kuid) {
    while super::files_in_flight(uid) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn sockets_that_hold_only_each_other_are_collected() {
    let uid = user(4711);
    let (one, other) = pair(SocketType::Stream);
    let (kept, far) = pair(SocketType::Stream);
    send_file(&one, file_of(&other), uid);
    send_file(&other, file_of(&one), uid);
    let (inner, inner_far) = pair(SocketType::Stream);
    send_file(&kept, file_of(&inner), uid);
    send_file(&inner_far, file_of(&inner_far), uid);
    drop((one, other, inner, inner_far));
    super::flight::collect();
    while super::files_in_flight(uid) > 2 {
        std::thread::yield_now();
    }
    super::flight::collect();
    assert_eq!(super::files_in_flight(uid), 2, "what `far` can reach stays");
    drop(far);
    all_land(uid);
}

#[test]
fn sockets_deep_in_each_other_are_dropped_one_by_one() {
    let uid = user(4712);
    let (mut near, mut far) = pair(SocketType::Stream);
    for _ in 0..20_000 {
        let (outer, outer_far) = pair(SocketType::Stream);
        send_file(&outer, file_of(&far), uid);
        drop(near);
        (near, far) = (outer, outer_far);
    }
    drop((near, far));
    all_land(uid);
}

#[test]
fn memory_that_runs_out_is_an_error_at_every_allocation_and_nothing_is_lost() {
    for nth in 1.. {
        let (one, other) = pair(SocketType::Stream);
        send(&one, b"kept").unwrap();
        let (passed, _far) = pair(SocketType::Datagram);
        let ancillary = Ancillary {
            files: files(file_of(&passed)),
            files_uid: user(4713),
            sender: None,
            about: None,
        };
        collections::testing::fail_nth(nth);
        let sent = one.send(
            &mut IoReader::kernel(&[7; 50_000]),
            SendFlags::DONTWAIT,
            None,
            ancillary,
        );
        let was_not_reached = collections::testing::fail_never();
        let (mut bytes, received) = receive_with(&other, 60_000, ReceiveFlags::empty()).unwrap();
        assert_eq!(&bytes[..4], b"kept");
        // What follows descriptors is another receive's.
        bytes.extend(receive(&other, 60_000).unwrap_or_default());
        match sent {
            Ok(count) => assert_eq!(
                (count + 4, received.ancillary.files.len()),
                (bytes.len(), 1)
            ),
            Err(errno) => {
                assert!(matches!(errno, Errno::ENOMEM | Errno::ENOBUFS), "{errno}");
                assert_eq!(bytes.len(), 4);
            }
        }
        drop(received);
        assert_eq!(one.unsent(), 0, "what is gone is not charged");
        assert_eq!(super::files_in_flight(user(4713)), 0);
        if was_not_reached {
            return;
        }
    }
}

#[test]
fn a_sender_is_charged_until_its_messages_are_gone() {
    let (one, other) = pair(SocketType::Datagram);
    let mut count = 0;
    while send(&one, b"x").is_ok() {
        count += 1;
    }
    // As many as Linux takes with its default buffer.
    assert_eq!(count, 278);
    assert_eq!(one.unsent(), 278 * 768);
    assert_eq!(send(&other, b"back"), Ok(4), "only the sender is full");
    drop(other);
    assert_eq!(one.unsent(), 0);
    let (one, _other) = pair(SocketType::Stream);
    let sent = send(&one, &[1; 1_000_000]).unwrap();
    assert_eq!(sent, 219_264);
}

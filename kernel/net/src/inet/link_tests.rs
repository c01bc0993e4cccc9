//! Two namespaces whose interfaces' devices are the two ends of a cable: what one sends the other gets, as bytes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::collections::VecDeque;
use std::sync::Mutex;

use abi::Errno;
use fs::UserNamespace;
use memory::io::{IoReader, IoWriter};

use super::attach::attach_to;
use super::device::{ChecksumStart, Full, NetDevice, Offloads};
use super::interface::Local;
use super::ip::{Endpoint, Ip};
use super::socket::datagram::DatagramSocket;
use super::socket::stream::StreamSocket;
use super::stack::Route;
use super::{Interface, wire};
use crate::NetNamespace;
use crate::address::Address;
use crate::socket::{Ancillary, Owner, Peer, ReceiveFlags, SendFlags, Socket};

/// One end of the cable.
#[derive(Debug)]
struct Plug {
    mac: [u8; 6],
    offloads: Offloads,
    sent: Mutex<VecDeque<Vec<u8>>>,
    room: Mutex<usize>,
}

impl NetDevice for Plug {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn transmit(&self, pieces: &[&[u8]], checksum: Option<ChecksumStart>) -> Result<(), Full> {
        let mut room = self.room.lock().unwrap();
        if *room == 0 {
            return Err(Full);
        }
        *room -= 1;
        let mut frame = pieces.concat();
        // What a device does that was asked to put the checksum in.
        if let Some(ChecksumStart { start, offset }) = checksum {
            let (start, at) = (usize::from(start), usize::from(start + offset));
            let sum = wire::Sum::default().add(&frame[start..]).checksum();
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        self.sent.lock().unwrap().push_back(frame);
        Ok(())
    }
}

/// A machine at one end.
struct Machine {
    namespace: Arc<NetNamespace>,
    plug: Arc<Plug>,
    interface: Arc<Interface>,
    ip: Ip,
    ip6: Ip,
}

fn machine(number: u8, offloads: Offloads) -> Machine {
    let namespace = NetNamespace::new(&UserNamespace::INITIAL).unwrap();
    let plug = Arc::new(Plug {
        mac: [2, 0, 0, 0, 0, number],
        offloads,
        sent: Mutex::default(),
        room: Mutex::new(usize::MAX),
    });
    let interface = attach_to(namespace.clone(), plug.clone()).unwrap();
    let ip = Ip::v4([10, 0, 0, number]);
    let ip6 = Ip::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number]);
    namespace
        .look(|stack| {
            let interface = stack.interface_mut(2).unwrap();
            interface.add(Local { ip, prefix: 24 }).unwrap();
            interface
                .add(Local {
                    ip: ip6,
                    prefix: 64,
                })
                .unwrap();
            interface.set_up(true).unwrap();
        })
        .unwrap();
    Machine {
        namespace,
        plug,
        interface,
        ip,
        ip6,
    }
}

fn machines() -> [Machine; 2] {
    [
        machine(1, Offloads::TX_CHECKSUM),
        machine(2, Offloads::empty()),
    ]
}

/// Carries frames until none is left; how many.
fn carry(machines: &[Machine; 2]) -> usize {
    let mut count = 0;
    loop {
        let before = count;
        for end in 0..2 {
            loop {
                let next = machines[end].plug.sent.lock().unwrap().pop_front();
                let Some(frame) = next else { break };
                machines[1 - end].interface.receive(&frame, false);
                count += 1;
            }
        }
        if count == before {
            return count;
        }
    }
}

fn owner() -> Owner {
    Owner {
        peer: Peer::NOBODY,
        credentials: Arc::new(fs::Credentials::root()),
    }
}

fn to(ip: Ip, port: u16, is_v6: bool) -> Address {
    let endpoint = Endpoint::new(ip, port);
    if is_v6 {
        Address::Inet6 {
            endpoint,
            flow: 0,
            scope: 0,
        }
    } else {
        Address::Inet(endpoint)
    }
}

fn port_of(socket: &dyn Socket) -> u16 {
    match socket.name() {
        Address::Inet(endpoint) | Address::Inet6 { endpoint, .. } => endpoint.port,
        other => panic!("{other:?}"),
    }
}

/// A connection between the two: the client's end, and the server's.
fn connection(machines: &[Machine; 2], is_v6: bool) -> (Arc<StreamSocket>, Arc<dyn Socket>) {
    let server = StreamSocket::new(is_v6, &owner(), &machines[1].namespace).unwrap();
    server.start_listening(8).unwrap();
    let client = StreamSocket::new(is_v6, &owner(), &machines[0].namespace).unwrap();
    let ip = if is_v6 {
        machines[1].ip6
    } else {
        machines[1].ip
    };
    let address = to(ip, port_of(&*server), is_v6);
    assert_eq!(client.connect_to(&address, true), Err(Errno::EINPROGRESS));
    carry(machines);
    assert_eq!(client.connect_to(&address, true), Ok(()));
    (client, server.accept(true).unwrap())
}

fn send(socket: &dyn Socket, bytes: &[u8]) -> abi::Result<usize> {
    socket.send(
        &mut IoReader::kernel(bytes),
        SendFlags::DONTWAIT,
        None,
        Ancillary::default(),
    )
}

fn receive(socket: &dyn Socket) -> abi::Result<Vec<u8>> {
    let mut bytes = vec![0; 100_000];
    let received = socket.receive(&mut IoWriter::kernel(&mut bytes), ReceiveFlags::DONTWAIT)?;
    bytes.truncate(received.len);
    Ok(bytes)
}

#[test]
fn a_connection_goes_over_the_cable() {
    for is_v6 in [false, true] {
        let machines = machines();
        let (client, end) = connection(&machines, is_v6);
        let text: Vec<u8> = (0..100_000_u32)
            .map(|index| index.to_le_bytes()[0])
            .collect();
        assert_eq!(send(&*client, &text), Ok(text.len()));
        let mut got = Vec::new();
        while got.len() < text.len() {
            assert!(carry(&machines) > 0, "stuck at {}", got.len());
            while let Ok(more) = receive(&*end) {
                got.extend(more);
            }
        }
        assert_eq!(got, text);
        assert_eq!(end.peer_name().unwrap(), client.name());
        drop(end);
        carry(&machines);
        assert_eq!(receive(&*client), Ok(Vec::new()));
    }
}

#[test]
fn a_device_without_room_is_waited_for() {
    let machines = machines();
    let (client, end) = connection(&machines, false);
    *machines[0].plug.room.lock().unwrap() = 2;
    send(&*client, &[7; 20_000]).unwrap();
    let mut got = 0;
    while got < 20_000 {
        let before = got;
        carry(&machines);
        while let Ok(more) = receive(&*end) {
            got += more.len();
        }
        *machines[0].plug.room.lock().unwrap() += 2;
        machines[0].interface.room();
        let waiting = machines[0].plug.sent.lock().unwrap().len();
        assert!(got > before || waiting > 0, "stuck at {got}");
    }
}

#[test]
fn nobody_at_a_port_is_told_by_both_protocols() {
    let machines = machines();
    for is_v6 in [false, true] {
        let ip = if is_v6 {
            machines[1].ip6
        } else {
            machines[1].ip
        };
        let address = to(ip, 9, is_v6);
        let client = StreamSocket::new(is_v6, &owner(), &machines[0].namespace).unwrap();
        assert_eq!(client.connect_to(&address, true), Err(Errno::EINPROGRESS));
        carry(&machines);
        assert_eq!(client.connect_to(&address, true), Err(Errno::ECONNREFUSED));
        let datagrams = DatagramSocket::new(is_v6, &owner(), &machines[0].namespace).unwrap();
        let caller = |socket: &DatagramSocket| {
            let mut reader = IoReader::kernel(b"anybody?");
            socket.send(&mut reader, SendFlags::empty(), None, Ancillary::default())
        };
        datagrams.connect_to(&address).unwrap();
        assert_eq!(caller(&datagrams), Ok(8));
        carry(&machines);
        assert_eq!(receive(&*datagrams), Err(Errno::ECONNREFUSED));
    }
}

#[test]
fn a_host_that_is_not_there_and_a_network_without_a_way() {
    let machines = machines();
    let client = StreamSocket::new(false, &owner(), &machines[0].namespace).unwrap();
    let nobody = to(Ip::v4([10, 0, 0, 99]), 80, false);
    assert_eq!(client.connect_to(&nobody, true), Err(Errno::EINPROGRESS));
    let start = sched::clock::monotonic_ns();
    for second in 1..4 {
        let now = start + second * 1_100_000_000;
        machines[0]
            .namespace
            .look(|stack| stack.expire(now, 9))
            .unwrap();
    }
    assert_eq!(client.connect_to(&nobody, true), Err(Errno::EHOSTUNREACH));
    let far = to(Ip::v4([192, 0, 2, 1]), 80, false);
    assert_eq!(client.connect_to(&far, true), Err(Errno::ENETUNREACH));
    // By a gateway, which is asked for in its place.
    let route = Route {
        target: Ip::ANY4,
        prefix: 0,
        gateway: Some(machines[1].ip),
        interface: 0,
        metric: 0,
    };
    let added = machines[0]
        .namespace
        .look(|stack| stack.add_route(route))
        .unwrap();
    assert_eq!(added, Ok(()));
    assert_eq!(
        machines[0]
            .namespace
            .look(|stack| stack.add_route(route))
            .unwrap(),
        Err(Errno::EEXIST)
    );
    let way = machines[0]
        .namespace
        .look(|stack| stack.way(Ip::v4([192, 0, 2, 1])))
        .unwrap();
    assert_eq!(way.map(|way| way.next), Some(machines[1].ip));
}

/// Whatever comes over the cable, nothing panics.
#[test]
fn senseless_frames_do_no_harm() {
    let machines = machines();
    let (client, end) = connection(&machines, false);
    send(&*client, b"one").unwrap();
    let frame = machines[0].plug.sent.lock().unwrap().pop_front().unwrap();
    let mut state = 1_u64;
    for _ in 0..20_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mut bad = frame.clone();
        for change in 0..3 {
            let roll = state.rotate_left(change * 17).to_le_bytes();
            let at = usize::from(u16::from_le_bytes([roll[3], roll[4]])) % bad.len();
            bad[at] = roll[6];
        }
        if state & 1 << 40 != 0 {
            bad.truncate(usize::from(state.to_le_bytes()[2]) % (frame.len() + 1));
        }
        if state & 3 << 41 == 0 && bad.len() > 14 {
            bad[12..14].copy_from_slice(if state & 1 << 43 == 0 {
                &[8, 6]
            } else {
                &[0x86, 0xdd]
            });
        }
        machines[1].interface.receive(&bad, true);
    }
    let _ = end.available();
}

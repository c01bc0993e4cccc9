//! `passt`, in a network namespace of the test's: it answers the guest, listens for it, and goes with it.

mod support;

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nacre_host_net::{NetError, user};
use support::{Namespace, arp_request, is_arp_reply, is_possible, read, veth};

/// The guest's port, and the host's that leads to it.
const GUEST: u16 = 80;
const HOST: u16 = 18_080;

/// The next frame of a stream.
fn next(link: &impl std::os::fd::AsFd, buffer: &mut Vec<u8>) -> Vec<u8> {
    loop {
        if let Some((length, rest)) = buffer.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).expect("short");
            if let Some(frame) = rest.get(..length) {
                let frame = frame.to_vec();
                buffer.drain(..4 + length);
                return frame;
            }
        }
        let mut bytes = [0; 4096];
        let length = read(link, &mut bytes);
        assert_ne!(length, 0, "passt has ended");
        buffer.extend(&bytes[..length]);
    }
}

/// Whether it opens a TCP connection to the guest's port.
fn is_syn(frame: &[u8]) -> bool {
    let port = GUEST.to_be_bytes();
    frame.get(12..14) == Some(&[8, 0])
        && frame.get(23) == Some(&6)
        && frame.get(36..38) == Some(&port)
        && frame.get(47).is_some_and(|flags| flags & 2 != 0)
}

#[test]
fn a_user_network_answers_listens_and_goes_with_its_pod() {
    if !is_possible(&["ip", "passt"]) {
        return;
    }
    let (host, outside) = (Namespace::new("host"), Namespace::new("world"));
    veth(&host, &outside);
    // This thread's only; what it starts is in it, too.
    host.enter();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, HOST)).expect("ours alone");
    let forward = format!("127.0.0.1:{HOST}:{GUEST}");
    let forwards = [forward.parse().expect("right")];
    let refused = user::start(&forwards, None).expect_err("somebody has it");
    assert!(
        refused
            .to_string()
            .contains("cannot publish 127.0.0.1:18080:80")
    );
    drop(taken);
    let network = user::start(&forwards, None).expect("passt starts");
    let plan = &network.plan;
    assert_eq!(plan.interfaces[0].mtu, 65_520);
    let link = &network.nets[0].link;
    let mac = network.nets[0].config.mac;
    let gateway = [10, 0, 2, 2];
    let question = arp_request(mac, [10, 0, 2, 15], gateway);
    let length = u32::try_from(question.len()).expect("short");
    let framed = [&length.to_be_bytes()[..], &question].concat();
    rustix::io::write(link, &framed).expect("room");
    let mut buffer = Vec::new();
    while !is_arp_reply(&next(link, &mut buffer), gateway) {}
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, HOST)).expect("passt listens");
    while !is_syn(&next(link, &mut buffer)) {}
    drop(client);
    drop(network);
    // Its port is free once it has gone, which nobody told it to.
    while TcpListener::bind((Ipv4Addr::LOCALHOST, HOST)).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_host_without_a_way_out_is_told() {
    if !is_possible(&["ip"]) {
        return;
    }
    let host = Namespace::new("nowhere");
    host.enter();
    assert!(matches!(user::start(&[], None), Err(NetError::NoRoute)));
}

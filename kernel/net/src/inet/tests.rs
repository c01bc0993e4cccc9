//! Two connections against each other, over a network that loses, doubles and reorders.

use alloc::vec::Vec;

use abi::Errno;
use collections::VecDeque;

use super::bytes::Bytes;
use super::ip::{Endpoint, Ip};
use super::packet::{Body, Flags, Packet, Segment};
use super::stack::Counters;
use super::tcp::{Net, Pair, State, Switch, Tcb, Woken};
use memory::io::IoReader;

const MS: u64 = 1_000_000;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Two ends and what is on its way between them.
struct Line {
    now: u64,
    ends: [Tcb; 2],
    /// When something arrives, and at which end.
    flying: Vec<(u64, usize, Segment)>,
    random: Random,
    /// Of a hundred packets.
    lost: u64,
    doubled: u64,
    delay_ms: u64,
    jitter_ms: u64,
    counters: Counters,
}

impl Line {
    fn new(seed: u64) -> Line {
        let one = Endpoint::new(Ip::LOOPBACK4, 1000);
        let other = Endpoint::new(Ip::LOOPBACK4, 2000);
        let end = |local, remote| {
            let mut tcb = Tcb::new(Pair { local, remote }, 64);
            tcb.own_mss = 1460;
            tcb
        };
        Line {
            now: MS,
            ends: [end(one, other), end(other, one)],
            flying: Vec::new(),
            random: Random(seed),
            lost: 0,
            doubled: 0,
            delay_ms: 1,
            jitter_ms: 0,
            counters: Counters::default(),
        }
    }

    /// Has one end do something, and sends what it makes on its way.
    fn with<R>(&mut self, end: usize, act: impl FnOnce(&mut Tcb, &mut Net<'_>) -> R) -> R {
        let mut out = VecDeque::default();
        let mut woken = Woken::default();
        let mut net = Net {
            now: self.now,
            out: &mut out,
            woken: &mut woken,
            counters: &mut self.counters,
        };
        let result = act(&mut self.ends[end], &mut net);
        for packet in out {
            let Packet {
                body: Body::Tcp(segment),
                ..
            } = packet
            else {
                panic!("not TCP's")
            };
            let copies = match self.random.below(100) {
                roll if roll < self.lost => 0,
                roll if roll < self.lost + self.doubled => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay = self.delay_ms + self.random.below(self.jitter_ms + 1);
                self.flying
                    .push((self.now + delay * MS, 1 - end, segment.clone()));
            }
        }
        result
    }

    /// Lets time go on to what happens next; whether something did.
    fn step(&mut self) -> bool {
        let arrival = self
            .flying
            .iter()
            .enumerate()
            .min_by_key(|(_, (at, ..))| *at)
            .map(|(index, (at, ..))| (*at, index));
        let due = (0..2)
            .filter_map(|end| self.ends[end].deadline().map(|at| (at, end)))
            .min();
        match (arrival, due) {
            (Some((at, index)), due) if due.is_none_or(|(due, _)| at <= due) => {
                self.now = self.now.max(at);
                let (_, end, segment) = self.flying.remove(index);
                self.with(end, |tcb, net| tcb.input(segment, true, net));
                true
            }
            (_, Some((at, end))) => {
                self.now = self.now.max(at);
                self.with(end, Tcb::expire);
                true
            }
            _ => false,
        }
    }

    /// Connects the first end to the second.
    fn connect(&mut self) {
        self.with(0, |tcb, net| tcb.connect(u32::MAX - 2000, net));
        let syn = loop {
            if let Some(index) = self
                .flying
                .iter()
                .position(|(.., segment)| segment.flags == Flags::SYN)
            {
                break self.flying.remove(index).2;
            }
            assert!(self.step());
        };
        self.flying.clear();
        self.with(1, |tcb, net| tcb.accept_syn(&syn, 77, net));
        for _ in 0..200 {
            if self.ends.iter().all(|end| end.state == State::Established) {
                return;
            }
            assert!(self.step());
        }
        panic!("no connection: {:?}", self.ends);
    }

    fn send(&mut self, end: usize, bytes: &[u8]) {
        let bytes = Bytes::read(&mut IoReader::kernel(bytes), bytes.len()).unwrap();
        self.with(end, |tcb, net| tcb.send(bytes, net)).unwrap();
    }

    fn receive(&mut self, end: usize) -> Vec<u8> {
        let len = self.ends[end].available();
        let parts = self.ends[end].front(0, len).unwrap();
        let bytes = parts
            .iter()
            .flat_map(|part| part.as_slice().to_vec())
            .collect();
        drop(parts);
        self.with(end, |tcb, net| tcb.consume(len, net));
        bytes
    }
}

#[test]
fn a_connection_opens_carries_and_closes() {
    let mut line = Line::new(1);
    line.connect();
    line.send(0, b"hello");
    while line.ends[1].available() < 5 {
        assert!(line.step());
    }
    assert_eq!(line.receive(1), b"hello");
    line.with(0, Tcb::finish);
    while line.ends[1].state != State::CloseWait {
        assert!(line.step());
    }
    line.send(1, b"bye");
    line.with(1, Tcb::finish);
    while line.ends[0].state != State::TimeWait || line.ends[1].state != State::Closed {
        assert!(line.step());
    }
    assert_eq!(line.receive(0), b"bye");
    assert_eq!((line.ends[0].error, line.ends[1].error), (None, None));
    while line.step() {}
    assert_eq!(line.ends[0].state, State::Closed);
    assert!(line.now > 60_000 * MS);
}

/// Sends many bytes both ways over a bad line, and closes.
fn carries(seed: u64, lost: u64, doubled: u64, jitter_ms: u64) -> Line {
    let mut line = Line::new(seed);
    (line.lost, line.doubled, line.jitter_ms) = (lost, doubled, jitter_ms);
    line.connect();
    let total = 300_000;
    let byte = |index: usize, end: usize| (index * 7 + index / 251 + end).to_le_bytes()[0];
    let mut sent = [0; 2];
    let mut got = [0; 2];
    for _ in 0..200_000 {
        for end in 0..2 {
            let room = line.ends[end].room().min(total - sent[end]).min(10_000);
            if room > 0 {
                let bytes: Vec<u8> = (sent[end]..sent[end] + room)
                    .map(|index| byte(index, end))
                    .collect();
                line.send(end, &bytes);
                sent[end] += room;
                if sent[end] == total {
                    line.with(end, Tcb::finish);
                }
            }
            for received in line.receive(1 - end) {
                assert_eq!(
                    received,
                    byte(got[end], end),
                    "byte {} of end {end}",
                    got[end]
                );
                got[end] += 1;
            }
        }
        let is_over = line
            .ends
            .iter()
            .all(|end| matches!(end.state, State::TimeWait | State::Closed));
        if got == [total; 2] && is_over {
            return line;
        }
        assert!(line.step(), "stuck: {:?}", line.ends);
    }
    panic!("not done: {got:?}, {:?}", line.ends);
}

#[test]
fn all_arrives_in_order_whatever_the_line_does() {
    let clean = carries(1, 0, 0, 0);
    assert_eq!(clean.counters.retransmitted, 0);
    for seed in 2..12 {
        let bad = carries(seed, 5, 3, 6);
        assert!(bad.counters.retransmitted > 0);
    }
}

#[test]
fn a_window_that_was_shut_opens_again() {
    let mut line = Line::new(3);
    line.ends[1].receive_size = 8192;
    line.connect();
    let bytes = [b'x'; 60_000];
    line.send(0, &bytes);
    let mut got = 0;
    let mut steps = 0;
    while got < bytes.len() {
        // Read only when nothing else happens for long, so that the window is shut.
        steps += 1;
        if steps % 40 == 0 {
            got += line.receive(1).len();
        }
        if !line.step() {
            let now = line.receive(1).len();
            assert!(now > 0, "stuck at {got}: {:?}", line.ends);
            got += now;
        }
    }
}

#[test]
fn nobody_there_is_told() {
    let mut line = Line::new(4);
    line.lost = 100;
    line.with(0, |tcb, net| tcb.connect(1, net));
    while line.step() {}
    assert_eq!(
        (line.ends[0].state, line.ends[0].error),
        (State::Closed, Some(Errno::ETIMEDOUT))
    );
    assert!(line.now > 100_000 * MS && line.now < 140_000 * MS);
}

#[test]
fn a_reset_is_told_once_and_believed_only_in_its_place() {
    let mut line = Line::new(5);
    line.connect();
    let mut reset = Segment {
        flags: Flags::RST,
        source_port: 2000,
        target_port: 1000,
        seq: 1_000_000,
        ..Segment::default()
    };
    line.with(0, |tcb, net| tcb.input(reset.clone(), true, net));
    assert_eq!(line.ends[0].state, State::Established);
    reset.seq = 78;
    line.with(0, |tcb, net| tcb.input(reset, true, net));
    assert_eq!(
        (line.ends[0].state, line.ends[0].error),
        (State::Closed, Some(Errno::ECONNRESET))
    );
}

#[test]
fn a_quiet_peer_that_is_gone_is_noticed() {
    let mut line = Line::new(6);
    line.connect();
    while line.step() {}
    line.ends[0].keepalive.idle_s = 10;
    line.ends[0].keepalive.interval_s = 1;
    line.ends[0].keepalive.count = 3;
    let now = line.now;
    line.ends[0].set_keepalive(true, now);
    for _ in 0..20 {
        assert!(line.step());
    }
    assert_eq!(line.ends[0].state, State::Established);
    line.lost = 100;
    while line.step() {}
    assert_eq!(line.ends[0].error, Some(Errno::ETIMEDOUT));
}

#[test]
fn closing_with_bytes_unread_resets() {
    let mut line = Line::new(7);
    line.connect();
    line.send(0, b"unread");
    while line.ends[1].available() == 0 {
        assert!(line.step());
    }
    line.with(1, |tcb, net| tcb.close(false, net));
    while line.ends[0].state != State::Closed {
        assert!(line.step());
    }
    assert_eq!(line.ends[0].error, Some(Errno::ECONNRESET));
}

#[test]
fn small_writes_wait_for_each_other_unless_told_not_to() {
    let segments = |switch: Switch| {
        let mut line = Line::new(8);
        line.connect();
        while line.step() {}
        line.ends[0].switches.insert(switch);
        let before = line.counters.segments_out;
        for _ in 0..5 {
            line.send(0, b"x");
        }
        line.counters.segments_out - before
    };
    assert_eq!(segments(Switch::empty()), 1);
    assert_eq!(segments(Switch::NODELAY), 5);
    assert_eq!(segments(Switch::CORK), 0);
}

/// Whatever a segment says, nothing panics, and what is received stays within the buffer.
#[test]
fn senseless_segments_do_no_harm() {
    for seed in 0..300 {
        let mut line = Line::new(seed);
        line.ends[1].receive_size = 5000;
        line.connect();
        let mut random = Random(seed);
        for _ in 0..60 {
            let near = |random: &mut Random, of: u32| {
                of.wrapping_add(u32::try_from(random.below(9000)).unwrap())
                    .wrapping_sub(4000)
            };
            let payload = [b'?'; 1500];
            let len = usize::try_from(random.below(1500)).unwrap();
            let segment = Segment {
                source_port: 1000,
                target_port: 2000,
                seq: near(&mut random, u32::MAX - 1999),
                ack: near(&mut random, 78),
                flags: Flags::from_bits_truncate(random.below(64).to_le_bytes()[0]),
                window: u16::try_from(random.below(65536)).unwrap(),
                mss: Some(u16::try_from(random.below(65536)).unwrap()),
                window_scale: Some(random.below(256).to_le_bytes()[0]),
                payload: (len > 0).then(|| Bytes::copy(&payload[..len]).unwrap()),
            };
            line.with(1, |tcb, net| tcb.input(segment, true, net));
            if random.below(4) == 0 {
                line.send(1, b"answer");
            }
            if random.below(6) == 0 {
                line.step();
            }
            assert!(line.ends[1].available() <= 5000);
        }
        line.with(1, |tcb, net| tcb.close(seed % 2 == 0, net));
        for _ in 0..200 {
            line.step();
        }
    }
}

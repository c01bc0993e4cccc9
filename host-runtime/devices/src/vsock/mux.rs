//! All vsock streams of one guest, without queues: packets in, packets out.
//!
//! Only the host opens connections; a guest that asks for one is answered with a reset.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use vsock_packet::{Header, Op, STREAM};

use super::connection::{Connection, Stage};

/// The host's context identifier.
const HOST_CID: u64 = 2;
/// The most streams at one time.
const MOST_CONNECTIONS: usize = 1024;
/// The most answers to packets of no connection that wait; further ones are dropped.
const MOST_ANSWERS: usize = 256;
/// The first port number given to the host's side.
const FIRST_PORT: u32 = 1 << 30;

/// What became of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The guest accepted.
    Connected(u64),
    /// It refused.
    Refused(u64),
}

/// What a guest that goes on later has to be told of its streams: none of them has a host end any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedStreams {
    guest_cid: u64,
    /// How many have been opened, so that no port is given out while the guest may still know it.
    opened: u32,
    /// The host's and the guest's port of each that is to be reset.
    resets: Vec<(u32, u32)>,
}

/// All streams of one guest.
#[derive(Debug)]
pub struct Mux {
    guest_cid: u64,
    connections: BTreeMap<u32, Connection>,
    /// The connection that was served last; the next one is its successor.
    last_served: u32,
    opened: u32,
    answers: VecDeque<Header>,
    outcomes: Vec<Outcome>,
}

impl Mux {
    /// No streams yet, for the guest with this context identifier.
    #[must_use]
    pub fn new(guest_cid: u64) -> Self {
        Self {
            guest_cid,
            connections: BTreeMap::new(),
            last_served: 0,
            opened: 0,
            answers: VecDeque::new(),
            outcomes: Vec::new(),
        }
    }

    /// Begins a connection; gives the host's port, or `None` when there are too many.
    pub fn connect(&mut self, attempt: u64, guest_port: u32, stream: UnixStream) -> Option<u32> {
        if self.connections.len() >= MOST_CONNECTIONS {
            return None;
        }
        let port = loop {
            let port = FIRST_PORT | (self.opened & (FIRST_PORT - 1));
            self.opened = self.opened.wrapping_add(1);
            if !self.connections.contains_key(&port) {
                break port;
            }
        };
        self.connections
            .insert(port, Connection::new(attempt, guest_port, stream));
        Some(port)
    }

    /// The connection of a host port.
    pub fn get_mut(&mut self, host_port: u32) -> Option<&mut Connection> {
        self.connections.get_mut(&host_port)
    }

    /// What became of attempts since this was last asked.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Takes a packet from the guest.
    pub fn receive(&mut self, header: &Header, data: &[u8]) {
        let valid =
            header.kind == STREAM && header.src_cid == self.guest_cid && header.dst_cid == HOST_CID;
        let op = Op::from_raw(header.op.get());
        let host_port = header.dst_port.get();
        let connection = self.connections.get_mut(&host_port);
        let connection = connection.filter(|found| valid && header.src_port == found.guest_port);
        let Some(connection) = connection else {
            if op != Some(Op::Reset) {
                self.answer_reset(header);
            }
            return;
        };
        connection.note_credit(header);
        match (op, connection.stage) {
            (Some(Op::Response), Stage::Connecting(attempt)) => {
                connection.open();
                self.outcomes.push(Outcome::Connected(attempt));
            }
            (Some(Op::Reset), _) => self.remove(host_port),
            (Some(Op::Shutdown), Stage::Open) => connection.shut_down(header.flags.get()),
            (Some(Op::Data), Stage::Open) => connection.receive(data),
            (Some(Op::CreditUpdate), _) => {}
            (Some(Op::CreditRequest), _) => connection.tell_credit(),
            (_, Stage::Resetting) => {}
            _ => connection.reset(),
        }
    }

    /// The next packet for the guest, with at most `capacity` bytes of data.
    pub fn next(&mut self, capacity: usize) -> Option<(Header, Vec<u8>)> {
        if let Some(answer) = self.answers.pop_front() {
            return Some((answer, Vec::new()));
        }
        let after = self
            .connections
            .range(self.last_served.saturating_add(1)..)
            .map(|(port, _)| *port);
        let before = self
            .connections
            .range(..=self.last_served)
            .map(|(port, _)| *port);
        let order: Vec<u32> = after.chain(before).collect();
        for port in order {
            let Some(connection) = self.connections.get_mut(&port) else {
                continue;
            };
            let Some((mut header, data)) = connection.next(capacity) else {
                continue;
            };
            header.src_cid = HOST_CID.into();
            header.dst_cid = self.guest_cid.into();
            header.src_port = port.into();
            if connection.stage == Stage::Resetting {
                self.remove(port);
            }
            self.last_served = port;
            return Some((header, data));
        }
        None
    }

    /// Gives the host everything that waits, until the deadline.
    pub fn finish(&mut self, deadline: Instant) {
        for connection in self.connections.values_mut() {
            connection.finish(deadline);
        }
    }

    /// Takes out every connection, to be dropped: the guest's driver is gone.
    pub fn clear(&mut self) -> Vec<Connection> {
        let ports: Vec<u32> = self.connections.keys().copied().collect();
        self.answers.clear();
        let gone = ports.into_iter().filter_map(|port| self.take(port));
        gone.collect()
    }

    /// What is left of the streams when their host ends are gone.
    pub(super) fn save(&self) -> SavedStreams {
        let streams = self.connections.iter();
        let streams = streams.map(|(port, connection)| (*port, connection.guest_port));
        let is_right =
            |answer: &&Header| answer.dst_cid == self.guest_cid && answer.src_cid == HOST_CID;
        let answers = self.answers.iter().filter(is_right);
        let answers = answers.map(|answer| (answer.src_port.get(), answer.dst_port.get()));
        SavedStreams {
            guest_cid: self.guest_cid,
            opened: self.opened,
            resets: streams.chain(answers).collect(),
        }
    }

    /// Goes on where another guest's streams have ended: each is reset.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn restore(&mut self, saved: &SavedStreams) -> Result<(), String> {
        if saved.guest_cid != self.guest_cid {
            return Err(format!("it is of the guest {}", saved.guest_cid));
        }
        if saved.resets.len() > MOST_CONNECTIONS + MOST_ANSWERS {
            return Err(format!("it has {} streams", saved.resets.len()));
        }
        self.opened = saved.opened;
        let resets = saved.resets.iter();
        self.answers
            .extend(resets.map(|(host_port, guest_port)| Header {
                src_cid: HOST_CID.into(),
                dst_cid: self.guest_cid.into(),
                src_port: (*host_port).into(),
                dst_port: (*guest_port).into(),
                kind: STREAM.into(),
                op: Op::Reset.to_raw().into(),
                ..Header::default()
            }));
        Ok(())
    }

    fn remove(&mut self, port: u32) {
        drop(self.take(port));
    }

    fn take(&mut self, port: u32) -> Option<Connection> {
        let connection = self.connections.remove(&port)?;
        if let Stage::Connecting(attempt) = connection.stage {
            self.outcomes.push(Outcome::Refused(attempt));
        }
        Some(connection)
    }

    fn answer_reset(&mut self, header: &Header) {
        if self.answers.len() < MOST_ANSWERS {
            self.answers.push_back(Header {
                src_cid: header.dst_cid,
                dst_cid: header.src_cid,
                src_port: header.dst_port,
                dst_port: header.src_port,
                kind: STREAM.into(),
                op: Op::Reset.to_raw().into(),
                ..Header::default()
            });
        }
    }
}

#[cfg(test)]
mod tests;

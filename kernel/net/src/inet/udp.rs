//! [`Udp`]: the state of a UDP socket (udp(7)).

use alloc::sync::Arc;

use abi::Errno;
use collections::VecDeque;
use sched::WaitQueue;

use super::bytes::Bytes;
use super::ip::{Endpoint, Ip};
use super::tcp::Net;

/// What a datagram that waits costs besides its bytes.
const OVERHEAD: usize = 512;

/// A datagram that waits to be read.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) from: Endpoint,
    /// The address that it was sent to.
    pub(crate) to: Ip,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) payload: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Udp {
    pub(crate) local: Endpoint,
    /// Whether the program has chosen the address.
    pub(crate) has_own_ip: bool,
    pub(crate) remote: Option<Endpoint>,
    pub(crate) is_v6: bool,
    pub(crate) is_v6_only: bool,
    pub(crate) error: Option<Errno>,
    pub(crate) ends_receiving: bool,
    pub(crate) ends_sending: bool,
    pub(crate) notice: Arc<WaitQueue>,
    pub(crate) queue: VecDeque<Received>,
    used: usize,
    /// Bytes that may wait.
    pub(crate) receive_size: usize,
    pub(crate) dropped: u64,
}

impl Udp {
    pub(crate) fn new(is_v6: bool, notice: Arc<WaitQueue>) -> Udp {
        Udp {
            local: Endpoint::new(if is_v6 { Ip::ANY6 } else { Ip::ANY4 }, 0),
            has_own_ip: false,
            remote: None,
            is_v6,
            is_v6_only: false,
            error: None,
            ends_receiving: false,
            ends_sending: false,
            notice,
            queue: VecDeque::default(),
            used: 0,
            receive_size: 212_992,
            dropped: 0,
        }
    }

    /// How well a datagram from `from` to `to` fits it; `None` when it is not for it (`compute_score`).
    pub(crate) fn score(&self, from: Endpoint, to: Endpoint) -> Option<u32> {
        let mut score = 0;
        if self.local.ip == Ip::ANY4 && !to.ip.is_v4()
            || self.local.ip == Ip::ANY6 && to.ip.is_v4() && self.is_v6_only
        {
            return None;
        }
        if !self.local.ip.is_any() {
            if self.local.ip != to.ip {
                return None;
            }
            score += 4;
        }
        if let Some(remote) = self.remote {
            if remote != from {
                return None;
            }
            score += 8;
        }
        // A socket of version 4 is preferred to one that takes both.
        Some(score + u32::from(!self.is_v6))
    }

    /// Queues a datagram; one that finds no room is lost.
    pub(crate) fn input(&mut self, received: Received, net: &mut Net<'_>) {
        let cost = received.payload.len() + OVERHEAD;
        let fits = self.used + cost <= self.receive_size.max(cost);
        if self.ends_receiving || !fits || self.queue.try_push_back(received).is_err() {
            self.dropped += 1;
            net.counters.datagrams_dropped += 1;
            return;
        }
        self.used += cost;
        net.counters.datagrams_in += 1;
        net.wake(Some(&self.notice));
    }

    /// Takes the first, or looks at it.
    pub(crate) fn take(&mut self, is_peek: bool) -> Option<Received> {
        if is_peek {
            return self.queue.front().cloned();
        }
        let taken = self.queue.pop_front()?;
        self.used -= taken.payload.len() + OVERHEAD;
        Some(taken)
    }

    /// Bytes that wait, as /proc/net/udp has them.
    pub(crate) fn waiting(&self) -> usize {
        self.used
    }
}

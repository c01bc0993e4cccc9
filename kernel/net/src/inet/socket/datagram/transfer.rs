//! Sending and receiving by UDP sockets.

use abi::{Errno, Result};
use memory::io::{IoReader, IoWriter};

use super::DatagramSocket;
use crate::address::Address;
use crate::inet::address::{to_reach, told};
use crate::inet::bytes::Bytes;
use crate::inet::interface::LOOPBACK;
use crate::inet::ip::Endpoint;
use crate::inet::option;
use crate::inet::packet::{Body, Datagram, Packet};
use crate::inet::stack::Stack;
use crate::inet::udp::Received as Waiting;
use crate::options::{Switches, end_of_wait};
use crate::socket::{AboutPacket, Ancillary, ReceiveFlags, Received};

/// Longest payload, of either version.
const LONGEST_4: usize = 65535 - 28;
const LONGEST_6: usize = 65535 - 8;

impl DatagramSocket {
    pub(super) fn send_one(&self, from: &mut IoReader<'_>, to: Option<&Address>) -> Result<usize> {
        let (is_v6, len) = (self.common.is_v6, from.remaining());
        let is_v6_only = self.look(|udp| udp.is_v6_only)?;
        let target = match to {
            Some(Address::Unspecified) => None,
            Some(address) => Some(to_reach(address, is_v6, is_v6_only, true)?),
            None => None,
        };
        if target.is_some_and(|target| target.port == 0) {
            return Err(Errno::EINVAL);
        }
        if len > LONGEST_6 {
            return Err(Errno::EMSGSIZE);
        }
        let payload = Bytes::read(from, len)?;
        if payload.len() < len {
            return Err(Errno::EFAULT);
        }
        self.common.namespace.run(|stack, _| {
            let packet = self.packet(stack, payload, target)?;
            stack.counters.datagrams_out += 1;
            stack.send(packet)
        })??;
        Ok(len)
    }

    pub(super) fn receive_one(
        &self,
        to: &mut IoWriter<'_>,
        flags: ReceiveFlags,
    ) -> Result<Received> {
        if flags.contains(ReceiveFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        let Some(waiting) = self.wait(flags)? else {
            return Ok(Received::default());
        };
        let full_len = waiting.payload.len();
        let room = to.remaining().min(full_len);
        let len = if room == 0 {
            0
        } else {
            to.write(waiting.payload.as_slice())?
        };
        if len < room {
            return Err(Errno::EFAULT);
        }
        let about = self.common.wishes.about(self.common.is_v6, &waiting);
        Ok(Received {
            len,
            full_len,
            from: Some(told(waiting.from, self.common.is_v6)),
            ancillary: Ancillary {
                about,
                ..Ancillary::default()
            },
        })
    }

    /// The packet that carries `payload` to `target`, or to whom it is connected to.
    fn packet(
        &self,
        stack: &mut Stack,
        payload: Bytes,
        target: Option<Endpoint>,
    ) -> Result<Packet> {
        self.ensure_port(stack)?;
        let udp = stack.udp.get_mut(self.common.id).ok_or(Errno::EBADF)?;
        let remote = target.or(udp.remote).ok_or(Errno::EDESTADDRREQ)?;
        if udp.ends_sending {
            return Err(Errno::EPIPE);
        }
        if let Some(errno) = udp.error.take() {
            return Err(errno);
        }
        let local = udp.local;
        let longest = if remote.ip.is_v4() {
            LONGEST_4
        } else {
            LONGEST_6
        };
        if payload.len() > longest {
            return Err(Errno::EMSGSIZE);
        }
        let may_broadcast = self.common.options.has(Switches::BROADCAST);
        let source = stack.source_for(remote.ip)?;
        let is_broadcast = stack.is_broadcast(remote.ip);
        if is_broadcast && !may_broadcast {
            return Err(Errno::EACCES);
        }
        let wishes = &self.common.wishes;
        Ok(Packet {
            source: if local.ip.is_any() { source } else { local.ip },
            target: remote.ip,
            ttl: wishes.ttl(remote.ip.is_v4()),
            tos: wishes.tos(remote.ip.is_v4()),
            body: Body::Udp(Datagram {
                source_port: local.port,
                target_port: remote.port,
                payload,
            }),
        })
    }

    /// Waits for a datagram; `None` at the end.
    fn wait(&self, flags: ReceiveFlags) -> Result<Option<Waiting>> {
        let nonblocking = flags.contains(ReceiveFlags::DONTWAIT);
        let look = || {
            let looked = self.look(|udp| {
                if let Some(errno) = udp.error.take() {
                    return Some(Err(errno));
                }
                if let Some(waiting) = udp.take(flags.contains(ReceiveFlags::PEEK)) {
                    return Some(Ok(Some(waiting)));
                }
                if udp.ends_receiving && !nonblocking {
                    return Some(Ok(None));
                }
                nonblocking.then_some(Err(Errno::EAGAIN))
            });
            looked.unwrap_or_else(|errno| Some(Err(errno)))
        };
        let deadline = self.common.options.receive_deadline();
        let waited = self
            .common
            .notice
            .wait_interruptible_deadline(deadline, look);
        waited.map_err(|errno| end_of_wait(errno, deadline))?
    }
}

impl option::Wishes {
    /// What a program has asked to be told of a datagram.
    fn about(&self, is_v6: bool, waiting: &Waiting) -> Option<AboutPacket> {
        use option::Wish;
        let is_v6 = is_v6 && !(waiting.to.is_v4() && self.has(Wish::PKTINFO4));
        let wish = |v4, v6| self.has(if is_v6 { v6 } else { v4 });
        let about = AboutPacket {
            target: wish(Wish::PKTINFO4, Wish::PKTINFO6).then_some((waiting.to, LOOPBACK)),
            ttl: wish(Wish::TTL4, Wish::TTL6).then_some(waiting.ttl),
            tos: wish(Wish::TOS4, Wish::TOS6).then_some(waiting.tos),
            is_v6,
        };
        let is_told = about.target.is_some() || about.ttl.is_some() || about.tos.is_some();
        is_told.then_some(about)
    }
}

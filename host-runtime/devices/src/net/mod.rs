//! virtio network device (virtio 1.2, section 5.1): one pair of queues, and a descriptor that frames go through.
//!
//! [`link`] is the other end, [`queues`] moves frames between it and the guest's buffers, [`rate`] bounds how many.
//! The device opens nothing and knows no addresses but its own: its owner has made the link and hands the descriptor
//! over. It works on a thread of its own, which can do nothing but read and write. It never waits: a guest without
//! buffers, a link without room and a rate that is used up are each gone on from when that is told. A link that has
//! gone makes the guest's carrier go, and what the guest sends then is lost, as it is without a cable.

pub mod link;
mod queues;
mod rate;

use std::fmt::{self, Debug};
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::state::{Saved, StateError};
use super::{Active, Space, VirtioDevice};
use link::{Link, Lost};
use queues::Stop;
use rate::Limit;

pub(super) const F_CSUM: u64 = 1;
pub(super) const F_GUEST_CSUM: u64 = 1 << 1;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
pub(super) const F_GUEST_TSO4: u64 = 1 << 7;
pub(super) const F_GUEST_TSO6: u64 = 1 << 8;
const F_HOST_TSO4: u64 = 1 << 11;
const F_HOST_TSO6: u64 = 1 << 12;
pub(super) const F_MRG_RXBUF: u64 = 1 << 15;
const F_STATUS: u64 = 1 << 16;
/// What takes a link that knows the header: checksums and segments that one side leaves to the other.
const OFFLOADS: u64 =
    F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6;

/// The queues, by their numbers.
pub(super) const RECEIVE: usize = 0;
pub(super) const TRANSMIT: usize = 1;
const QUEUE_SIZE: u16 = 256;

/// In the configuration's status: the carrier is there.
const LINK_UP: u16 = 1;

/// What [`VirtioDevice::ready`] is called with.
const LINK: usize = 0;

/// The version of what a device is saved as.
const SAVED_VERSION: u32 = 1;

/// What the guest is told of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The most bytes of a packet, without Ethernet's header.
    pub mtu: u16,
}

/// Who is told, in a sentence, that the link has gone.
struct Teller(Box<dyn Fn(&str) + Send>);

impl Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

/// The network device.
#[derive(Debug)]
pub struct Net<S> {
    identity: Identity,
    link: Link,
    is_up: bool,
    limit: Option<Limit>,
    teller: Teller,
    /// The link has not been told yet what this driver takes.
    must_set_offloads: bool,
    active: Option<Active<S>>,
    /// A frame of the guest's on its way, kept for its memory.
    frame: Vec<u8>,
}

impl<S> Net<S> {
    /// A device of this identity on this link. `rate` is the most bytes a second, each way. `tell` is called when the
    /// link has gone.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new(
        identity: Identity,
        link: Link,
        rate: Option<u64>,
        tell: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            identity,
            link,
            is_up: true,
            limit: rate.map(Limit::new).transpose()?,
            teller: Teller(Box::new(tell)),
            must_set_offloads: false,
            active: None,
            frame: Vec::new(),
        })
    }

    /// The link has gone, for good.
    fn lose_link(&mut self, lost: &Lost) {
        self.link = Link::Gone;
        self.is_up = false;
        (self.teller.0)(&format!(
            "the guest's network interface has lost its link: {lost}"
        ));
        if let Some(active) = &self.active {
            active.notifier.config_changed();
        }
    }
}

impl<S: Space> Net<S> {
    /// Has the link leave to the guest what its driver takes, and nothing else.
    fn set_offloads(&mut self) {
        let accepted = self.active.as_ref().map(|active| active.features);
        if let Some(features) = accepted.filter(|_| std::mem::take(&mut self.must_set_offloads))
            && let Err(lost) = self.link.set_offloads(features)
        {
            self.lose_link(&lost);
        }
    }

    /// Gives frames of the link's to the guest, until one side has no more.
    fn receive(&mut self) {
        if let Some(active) = &mut self.active
            && let Stop::Lost(lost) = queues::receive(active, &mut self.link, self.limit.as_mut())
        {
            self.lose_link(&lost);
        }
    }

    /// Takes frames from the guest, until there are no more or the link has no room.
    fn transmit(&mut self) {
        if let Some(active) = &mut self.active {
            let limit = self.limit.as_mut();
            let stop = queues::transmit(active, &mut self.link, limit, &mut self.frame);
            if let Stop::Lost(lost) = stop {
                self.lose_link(&lost);
                // What it still has is lost like what it sends later, and it is told so by its buffers.
                self.transmit();
            }
        }
    }
}

impl<S: Space> VirtioDevice<S> for Net<S> {
    fn id(&self) -> u32 {
        1
    }

    fn name(&self) -> &'static str {
        "net"
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        let own = F_MAC | F_STATUS | F_MTU | F_MRG_RXBUF;
        match self.link.has_header() {
            true => own | OFFLOADS,
            false => own,
        }
    }

    /// `struct virtio_net_config`, up to the MTU.
    fn config(&self) -> Vec<u8> {
        let Identity { mac, mtu } = self.identity;
        let status = if self.is_up { LINK_UP } else { 0 };
        let words = [status, 1, mtu].map(u16::to_le_bytes);
        [&mac[..], words.as_flattened()].concat()
    }

    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        let link = self.link.descriptor();
        let timer = self.limit.as_ref().map(Limit::timer);
        link.into_iter().chain(timer).collect()
    }

    fn activate(&mut self, active: Active<S>) {
        self.must_set_offloads = true;
        let come = [RECEIVE, TRANSMIT].map(|queue| active.kick(queue));
        self.active = Some(active);
        if come.contains(&false) {
            self.kicked(RECEIVE);
            self.kicked(TRANSMIT);
        }
    }

    fn kicked(&mut self, queue: usize) {
        self.set_offloads();
        match queue {
            RECEIVE => self.receive(),
            TRANSMIT => self.transmit(),
            _ => {}
        }
    }

    /// The link has frames or room, or the rate allows more.
    fn ready(&mut self, which: usize) {
        self.set_offloads();
        if which == LINK
            && let Err(lost) = self.link.flush()
        {
            self.lose_link(&lost);
        }
        self.receive();
        self.transmit();
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }

    fn save(&self) -> Result<Saved, StateError> {
        Saved::new("net", SAVED_VERSION, &self.identity)
    }

    /// The link is another one: frames on their way are lost, as they may be on any network.
    fn restore(&mut self, saved: &Saved) -> Result<(), StateError> {
        let identity: Identity = saved.fields("net", SAVED_VERSION)?;
        if identity != self.identity {
            let (found, here) = (identity, self.identity);
            return Err(StateError::Unfit {
                of: "net".to_owned(),
                what: format!("it is of an interface with {found}, and this one has {here}"),
            });
        }
        Ok(())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.mac;
        let mtu = self.mtu;
        write!(
            f,
            "address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x} and MTU {mtu}"
        )
    }
}

#[cfg(test)]
mod tests;

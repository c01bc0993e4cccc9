//! The driver of virtio network devices (virtio 1.2, section 5.1): frames between a device's queues and an interface.
//!
//! [`Driver`] is a [`NetDevice`] for the stack. A kernel thread for each device takes in what arrives ([`receive`]) and
//! hands it to the interface; who sends puts frames into the transmit queue itself ([`transmit`]). Buffers are made with
//! the queues, so that neither way allocates a frame's memory. All that the device says is checked: a frame that makes
//! no sense is dropped, and of a queue that breaks the rules nothing is used any more.
//!
//! Locking: the spin lock of each direction's buffers is a leaf above the queue's own. The thread calls the interface
//! with no lock held.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use collections::try_arc;
use machine::PAGE_SIZE;
use machine::virtio::{Device, Running, SetupError};
use sched::WaitQueue;
use sched::thread::ThreadBuilder;

use crate::inet::{ChecksumStart, Full, Interface, NetDevice, Offloads};
use receive::Receiver;
use transmit::Transmitter;

mod header;
mod receive;
mod transmit;

/// Features (section 5.1.3).
mod feature {
    pub(super) const CSUM: u64 = 1;
    pub(super) const GUEST_CSUM: u64 = 1 << 1;
    pub(super) const MTU: u64 = 1 << 3;
    pub(super) const MAC: u64 = 1 << 5;
    pub(super) const GUEST_TSO4: u64 = 1 << 7;
    pub(super) const GUEST_TSO6: u64 = 1 << 8;
    pub(super) const MRG_RXBUF: u64 = 1 << 15;
    pub(super) const STATUS: u64 = 1 << 16;
}

/// Frames of several buffers, and what only makes sense with those.
const MERGED: u64 = feature::MRG_RXBUF | feature::GUEST_TSO4 | feature::GUEST_TSO6;
const WANTED: u64 =
    feature::CSUM | feature::GUEST_CSUM | feature::MTU | feature::MAC | feature::STATUS | MERGED;

/// Entries of each queue, if the device has as many.
const ENTRIES: u16 = 256;
/// Bytes of Ethernet's header.
const ETHERNET: usize = 14;
/// The least and the most of a packet, and what a device that does not say takes.
const MTU_LEAST: u16 = 68;
const MTU_MOST: u16 = 65_520;
const MTU_USUAL: u16 = 1500;
/// In the configuration: the carrier is there.
const LINK_UP: u8 = 1;

/// What the device has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    mac: [u8; 6],
    mtu: u16,
    offloads: Offloads,
    is_merging: bool,
    tells_carrier: bool,
}

impl Identity {
    /// From what was agreed on and the configuration's first twelve bytes; `None` when it makes no sense.
    fn read(features: u64, config: [u8; 12]) -> Option<Identity> {
        let has = |feature: u64| features & feature != 0;
        let [a, b, c, d, e, f, _, _, _, _, low, high] = config;
        let mac = [a, b, c, d, e, f];
        let is_one = mac[0] & 1 == 0 && mac != [0; 6];
        let mut offloads = Offloads::empty();
        offloads.set(Offloads::TX_CHECKSUM, has(feature::CSUM));
        offloads.set(Offloads::RX_CHECKSUM, has(feature::GUEST_CSUM));
        let is_merging = has(feature::MRG_RXBUF);
        // Without merging, a frame has one page.
        let one_page = u16::try_from(PAGE_SIZE - header::LEN - ETHERNET).unwrap_or(MTU_USUAL);
        let most = if is_merging { MTU_MOST } else { one_page };
        let mtu = match has(feature::MTU) {
            true => u16::from_le_bytes([low, high]),
            false => MTU_USUAL,
        };
        let fits = is_one && mtu >= MTU_LEAST;
        (has(feature::MAC) && fits).then_some(Identity {
            mac,
            mtu: mtu.min(most),
            offloads,
            is_merging,
            tells_carrier: has(feature::STATUS),
        })
    }
}

/// A device and its interface's way to it.
#[derive(Debug)]
pub(crate) struct Driver {
    identity: Identity,
    transmitter: Transmitter,
}

/// What the device's interrupts tell the thread.
#[derive(Debug, Default)]
struct Activity {
    came: AtomicBool,
    waiters: WaitQueue,
}

impl Activity {
    fn tell(&self) {
        self.came.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    fn wait(&self) {
        let came = || self.came.swap(false, Ordering::AcqRel).then_some(());
        self.waiters.wait_until(came);
    }
}

/// Who is handed what a device receives: an [`Interface`], or a test.
pub(crate) trait Upper: Send + Sync {
    /// A frame came; its checksum is known to be right.
    fn receive(&self, frame: &[u8], is_verified: bool);
    /// There is room again after [`Full`].
    fn room(&self);
    /// The carrier came or went.
    fn set_carrier(&self, is_there: bool);
}

impl Upper for Interface {
    fn receive(&self, frame: &[u8], is_verified: bool) {
        Interface::receive(self, frame, is_verified);
    }

    fn room(&self) {
        Interface::room(self);
    }

    fn set_carrier(&self, is_there: bool) {
        Interface::set_carrier(self, is_there);
    }
}

/// Takes a network device into use.
///
/// # Errors
/// Why it cannot be driven.
pub fn add_device(mut device: Device) -> Result<(), SetupError> {
    let mut features = device.negotiate(WANTED)?;
    if features & feature::MRG_RXBUF == 0 && features & MERGED != 0 {
        // Large frames would not fit.
        features = device.negotiate(WANTED & !MERGED)?;
    }
    let mut config = [0; 12];
    device.read_config(0, &mut config);
    let identity = Identity::read(features, config).ok_or(SetupError::FeaturesRefused)?;
    let activity = try_arc(Activity::default())?;
    let tells = || {
        let told = activity.clone();
        try_arc(move || told.tell())
    };
    let receive = device.queue(0, ENTRIES, 0, tells()?)?;
    let transmit = device.queue(1, ENTRIES, 0, tells()?)?;
    let running = device.start()?;
    let receiver = Receiver::new(receive, identity)?;
    let driver = try_arc(Driver {
        identity,
        transmitter: Transmitter::new(transmit, identity.mtu)?,
    })?;
    let interface = crate::inet::attach(driver.clone()).map_err(|_| SetupError::OutOfMemory)?;
    let work = Worker {
        driver,
        receiver,
        running,
        has_carrier: None,
    };
    let run = move || work.run(&activity, &*interface);
    let thread = ThreadBuilder::new(b"virtio-net", run);
    thread
        .spawn()
        .map(|_| ())
        .map_err(|_| SetupError::OutOfMemory)
}

/// What the thread of a device works with.
struct Worker {
    driver: Arc<Driver>,
    receiver: Receiver,
    running: Running,
    /// What the interface was last told.
    has_carrier: Option<bool>,
}

impl Worker {
    /// Takes in frames for ever.
    fn run(mut self, activity: &Activity, upper: &dyn Upper) {
        loop {
            let is_only_told = !self.pump(upper);
            if is_only_told {
                // No queue has anything: it may have been the configuration.
                self.look_at_carrier(upper);
            }
            if self.receiver.is_broken() || self.driver.transmitter.is_broken() {
                machine::log!("virtio-net: the device is broken; its interface has no carrier");
                upper.set_carrier(false);
                return;
            }
            activity.wait();
        }
    }

    /// Takes in what has arrived, and tells of room; whether there was any.
    fn pump(&mut self, upper: &dyn Upper) -> bool {
        let mut any = self.receiver.take_in(upper);
        if self.driver.transmitter.has_room_again() {
            upper.room();
            any = true;
        }
        any
    }

    fn look_at_carrier(&mut self, upper: &dyn Upper) {
        let mut status = [LINK_UP];
        if self.driver.identity.tells_carrier {
            self.running.read_config(6, &mut status);
        }
        let is_there = status[0] & LINK_UP != 0;
        if self.has_carrier.replace(is_there) != Some(is_there) {
            upper.set_carrier(is_there);
        }
    }
}

impl NetDevice for Driver {
    fn mac(&self) -> [u8; 6] {
        self.identity.mac
    }

    fn mtu(&self) -> usize {
        self.identity.mtu.into()
    }

    fn offloads(&self) -> Offloads {
        self.identity.offloads
    }

    fn transmit(&self, pieces: &[&[u8]], checksum: Option<ChecksumStart>) -> Result<(), Full> {
        self.transmitter.send(pieces, checksum)
    }
}

#[cfg(test)]
mod tests;

//! [`NetDevice`]: what a driver of a network device does for its interface.

use core::fmt::Debug;

use bitflags::bitflags;

bitflags! {
    /// What a device does by itself.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Offloads: u32 {
        /// It puts the checksum into a frame that is sent with a [`ChecksumStart`].
        const TX_CHECKSUM = 1 << 0;
        /// It says of frames received whether their checksum is right.
        const RX_CHECKSUM = 1 << 1;
    }
}

/// Which part of a frame to put a checksum into (virtio's `csum_start` and `csum_offset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumStart {
    /// Where what it is of begins, in the frame.
    pub start: u16,
    /// Where it stands, behind `start`.
    pub offset: u16,
}

/// The device takes no frame now; [`super::Interface::room`] tells when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A device that sends and receives Ethernet frames.
pub trait NetDevice: Debug + Send + Sync {
    /// Its hardware address.
    fn mac(&self) -> [u8; 6];

    /// The longest IP packet, in bytes.
    fn mtu(&self) -> usize;

    /// What it does by itself.
    fn offloads(&self) -> Offloads;

    /// Queues the frame that `pieces` make one after the other, which it copies.
    ///
    /// # Errors
    /// [`Full`] when there is no room for it.
    fn transmit(&self, pieces: &[&[u8]], checksum: Option<ChecksumStart>) -> Result<(), Full>;
}

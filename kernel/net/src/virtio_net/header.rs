//! The header before each frame (`struct virtio_net_hdr_v1`, virtio 1.2, section 5.1.6).

use crate::inet::ChecksumStart;

/// Its bytes.
pub(super) const LEN: usize = 12;

/// The checksum is to be put in; of what is before it, the pseudo header's sum is there.
const NEEDS_CSUM: u8 = 1;
/// The checksum is right.
const DATA_VALID: u8 = 2;

/// Of a frame to be sent.
pub(super) fn to_send(checksum: Option<ChecksumStart>) -> [u8; LEN] {
    let mut header = [0; LEN];
    if let Some(ChecksumStart { start, offset }) = checksum {
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
    }
    header
}

/// Whether the device vouches for the checksum of a frame received. One that is still to be put in never went over
/// a wire.
pub(super) fn is_verified(header: &[u8; LEN]) -> bool {
    header[0] & (NEEDS_CSUM | DATA_VALID) != 0
}

/// How many buffers a frame received is in: a claim.
pub(super) fn buffers(header: &[u8; LEN]) -> u16 {
    u16::from_le_bytes([header[10], header[11]])
}

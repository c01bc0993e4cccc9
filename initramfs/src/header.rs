//! The fixed 64 bytes at the start of an image, little-endian, decoded by hand so that a wrong
//! file is told apart from a broken index before rkyv sees a byte.
//!
//! | offset | bytes | meaning |
//! |---|---|---|
//! | 0 | 8 | magic, `NACREIRD` |
//! | 8 | 4 | format version |
//! | 12 | 4 | checksum policy: 0 none, 1 FNV-1a-64 of the index |
//! | 16 | 8 | length of the index, in bytes |
//! | 24 | 8 | offset of the file contents, a multiple of the page size |
//! | 32 | 8 | length of the image, a multiple of the page size |
//! | 40 | 8 | checksum of the index (0 with policy 0) |
//! | 48 | 16 | zeros |

use crate::{ArchiveError, PAGE_SIZE};

/// The first bytes of every image.
pub(crate) const MAGIC: [u8; 8] = *b"NACREIRD";
/// The format that this crate reads and writes.
pub(crate) const VERSION: u32 = 1;
/// Length of the header in bytes; the index follows it.
pub(crate) const HEADER_LEN: usize = 64;
/// Checksum policy: the index is not summed.
const CHECKSUM_NONE: u32 = 0;
/// Checksum policy: FNV-1a-64 of the index. File contents are never summed: reading all of
/// them would cost every microVM its shared, untouched pages.
const CHECKSUM_FNV1A: u32 = 1;

/// The header, decoded and checked against the image's real length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Length of the index in bytes; it starts at [`HEADER_LEN`].
    pub(crate) index_len: usize,
    /// Offset of the first file contents.
    pub(crate) data_offset: usize,
    /// Length of the whole image.
    pub(crate) image_len: usize,
}

impl Header {
    /// Decodes the header of `image`, checks its lengths and the index's checksum.
    pub(crate) fn read(image: &[u8]) -> Result<Self, ArchiveError> {
        let header = Self::read_start(image, image.len())?;
        check_sum(image, header.index(image))?;
        Ok(header)
    }

    /// Decodes the header at the start of an image of `len` bytes and checks its lengths.
    pub(crate) fn read_start(image: &[u8], len: usize) -> Result<Self, ArchiveError> {
        if image.len() < HEADER_LEN {
            return Err(ArchiveError::TooShort { len });
        }
        if image[..8] != MAGIC {
            return Err(ArchiveError::BadMagic);
        }
        let version = read_u32(image, 8);
        if version != VERSION {
            return Err(ArchiveError::UnknownVersion { version });
        }
        let header = Self {
            index_len: read_len(image, 16)?,
            data_offset: read_len(image, 24)?,
            image_len: read_len(image, 32)?,
        };
        header.check_lengths(len)?;
        Ok(header)
    }

    /// The bytes of the index. The lengths have been checked.
    pub(crate) fn index(self, image: &[u8]) -> &[u8] {
        &image[HEADER_LEN..HEADER_LEN + self.index_len]
    }

    /// The header's 64 bytes, with the checksum of `index`.
    #[cfg(feature = "build")]
    pub(crate) fn to_bytes(self, index: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&CHECKSUM_FNV1A.to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.index_len as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&(self.data_offset as u64).to_le_bytes());
        bytes[32..40].copy_from_slice(&(self.image_len as u64).to_le_bytes());
        bytes[40..48].copy_from_slice(&fnv1a(index).to_le_bytes());
        bytes
    }

    /// The index lies before the contents and both lie in the image.
    fn check_lengths(self, actual: usize) -> Result<(), ArchiveError> {
        let index_end = HEADER_LEN.checked_add(self.index_len);
        let in_order = index_end.is_some_and(|end| end <= self.data_offset);
        let aligned = self.data_offset.is_multiple_of(PAGE_SIZE);
        if self.image_len > actual {
            return Err(ArchiveError::Truncated {
                expected: self.image_len,
                len: actual,
            });
        }
        if !in_order || !aligned || self.data_offset > self.image_len {
            return Err(ArchiveError::BadHeader);
        }
        Ok(())
    }
}

/// Refuses an index whose sum is not the one in the header.
fn check_sum(image: &[u8], index: &[u8]) -> Result<(), ArchiveError> {
    match read_u32(image, 12) {
        CHECKSUM_NONE => Ok(()),
        CHECKSUM_FNV1A if fnv1a(index) == read_u64(image, 40) => Ok(()),
        CHECKSUM_FNV1A => Err(ArchiveError::BadChecksum),
        policy => Err(ArchiveError::UnknownChecksum { policy }),
    }
}

/// FNV-1a, 64 bits: finds accidents, not attackers; whoever writes the image is trusted by it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn read_u32(image: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&image[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn read_u64(image: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&image[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn read_len(image: &[u8], at: usize) -> Result<usize, ArchiveError> {
    usize::try_from(read_u64(image, at)).map_err(|_| ArchiveError::BadHeader)
}

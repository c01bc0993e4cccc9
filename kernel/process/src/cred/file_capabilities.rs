//! Capabilities of a program: the extended attribute `security.capability` (capabilities(7), "File capabilities").

use abi::{Errno, Result};
use fs::Capabilities;

/// The name of the attribute.
pub const ATTRIBUTE: &[u8] = b"security.capability";

const REVISION_MASK: u32 = 0xff00_0000;
const EFFECTIVE: u32 = 1;

/// What a program gets; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCapabilities {
    /// Those that it gets as far as the bounding set allows.
    pub permitted: Capabilities,
    /// Those that it gets if the caller passes them on.
    pub inheritable: Capabilities,
    /// Whether they are in effect at once.
    pub is_effective: bool,
}

impl FileCapabilities {
    /// Reads `struct vfs_cap_data` or `vfs_ns_cap_data`; `None` for those that count in a user namespace with
    /// another root.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn parse(value: &[u8]) -> Result<Option<Self>> {
        let word = |index: usize| {
            let bytes = value.get(index * 4..index * 4 + 4).unwrap_or(&[0; 4]);
            bytes.try_into().map_or(0, u32::from_le_bytes)
        };
        let (words, root) = match (word(0) & REVISION_MASK, value.len()) {
            (0x0100_0000, 12) => (1, 0),
            (0x0200_0000, 20) => (2, 0),
            (0x0300_0000, 24) => (2, word(5)),
            _ => return Err(Errno::EINVAL),
        };
        let set = |at: usize| {
            let high = if words == 2 { word(at + 2) } else { 0 };
            Capabilities::from_bits_truncate(u64::from(word(at)) | u64::from(high) << 32)
        };
        let own = Self {
            permitted: set(1),
            inheritable: set(2),
            is_effective: word(0) & EFFECTIVE != 0,
        };
        Ok((root == 0).then_some(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn every_revision_is_read() {
        let one = attribute(&[0x0100_0001, 1 << 10, 0]);
        let two = attribute(&[0x0200_0000, 1 << 10, 1 << 5, 1, 0]);
        let three = attribute(&[0x0300_0000, 1 << 10, 0, 0, 0, 0]);
        let elsewhere = attribute(&[0x0300_0000, 1 << 10, 0, 0, 0, 1000]);
        let read = |value: &[u8]| FileCapabilities::parse(value).unwrap();
        assert!(read(&one).unwrap().is_effective);
        let second = read(&two).unwrap();
        assert_eq!(
            second.permitted,
            Capabilities::NET_BIND_SERVICE | Capabilities::MAC_OVERRIDE
        );
        assert_eq!(second.inheritable, Capabilities::KILL);
        assert!(!second.is_effective && read(&three).is_some());
        assert_eq!(read(&elsewhere), None);
    }

    #[test]
    fn other_sizes_and_revisions_are_refused() {
        for bad in [
            &[][..],
            &[0x0200_0000],
            &[0x0200_0000, 0, 0],
            &[0x0400_0000, 0, 0, 0, 0],
        ] {
            assert_eq!(FileCapabilities::parse(&attribute(bad)), Err(Errno::EINVAL));
        }
    }
}

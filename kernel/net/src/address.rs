//! Socket addresses, from and to the bytes of `struct sockaddr`.

use alloc::vec::Vec;

use abi::raw::net as raw;
use abi::{Errno, Result};

/// Bytes of a path or abstract name in `struct sockaddr_un`.
const UNIX_NAME_MAX: usize = 108;
/// Bytes of `struct sockaddr_vm`.
const VSOCK_LEN: usize = 16;
const FAMILY_LEN: usize = 2;

/// The name of a unix socket (unix(7)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnixName {
    /// None.
    Unnamed,
    /// A path, without the NUL.
    Path(Vec<u8>),
    /// A name in the abstract namespace, without the leading NUL.
    Abstract(Vec<u8>),
}

/// An address of a family that is supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `AF_UNSPEC`: dissolves an association.
    Unspecified,
    /// `AF_UNIX`.
    Unix(UnixName),
    /// `AF_VSOCK`.
    Vsock {
        /// Which machine.
        cid: u32,
        /// Which port of it.
        port: u32,
    },
}

impl Address {
    /// Reads a `struct sockaddr` of the length that the caller gave.
    ///
    /// # Errors
    /// `EINVAL` for a length that does not fit the family, `EAFNOSUPPORT` for another family.
    pub fn from_bytes(bytes: &[u8]) -> Result<Address> {
        let (family, rest) = bytes
            .split_first_chunk::<FAMILY_LEN>()
            .ok_or(Errno::EINVAL)?;
        match u32::from(u16::from_ne_bytes(*family)) {
            raw::AF_UNSPEC => Ok(Address::Unspecified),
            raw::AF_UNIX => unix_name(rest).map(Address::Unix),
            raw::AF_VSOCK => {
                let whole = bytes.first_chunk::<VSOCK_LEN>().ok_or(Errno::EINVAL)?;
                let word = |at: usize| {
                    whole[at..at + 4]
                        .iter()
                        .rev()
                        .fold(0, |word, byte| word << 8 | u32::from(*byte))
                };
                Ok(Address::Vsock {
                    port: word(4),
                    cid: word(8),
                })
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// The `struct sockaddr`, in its full length.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "families are below 2^16")]
    pub fn to_bytes(&self) -> Vec<u8> {
        let family = |family: u32| (family as u16).to_ne_bytes().to_vec();
        match self {
            Address::Unspecified => family(raw::AF_UNSPEC),
            Address::Unix(name) => {
                let mut bytes = family(raw::AF_UNIX);
                match name {
                    UnixName::Unnamed => {}
                    UnixName::Path(path) => {
                        bytes.extend(path);
                        bytes.push(0);
                    }
                    UnixName::Abstract(name) => {
                        bytes.push(0);
                        bytes.extend(name);
                    }
                }
                bytes
            }
            Address::Vsock { cid, port } => {
                let mut bytes = family(raw::AF_VSOCK);
                bytes.extend([0; 2]);
                bytes.extend(port.to_ne_bytes());
                bytes.extend(cid.to_ne_bytes());
                bytes.extend([0; 4]);
                bytes
            }
        }
    }
}

fn unix_name(bytes: &[u8]) -> Result<UnixName> {
    if bytes.len() > UNIX_NAME_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(match bytes.split_first() {
        None => UnixName::Unnamed,
        Some((0, name)) => UnixName::Abstract(name.to_vec()),
        Some(_) => UnixName::Path(
            bytes
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default()
                .to_vec(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_bytes() {
        let all = [
            Address::Unspecified,
            Address::Unix(UnixName::Unnamed),
            Address::Unix(UnixName::Path(b"/run/x".to_vec())),
            Address::Unix(UnixName::Abstract(b"a\0b".to_vec())),
            Address::Vsock { cid: 3, port: 1024 },
        ];
        for address in all {
            assert_eq!(Address::from_bytes(&address.to_bytes()), Ok(address));
        }
    }

    #[test]
    fn wrong_lengths_and_families_are_refused() {
        assert_eq!(Address::from_bytes(&[1]), Err(Errno::EINVAL));
        assert_eq!(Address::from_bytes(&[40, 0, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(Address::from_bytes(&[2, 0, 0, 0]), Err(Errno::EAFNOSUPPORT));
        assert_eq!(
            Address::from_bytes(&[&[1, 0][..], &[b'x'; 109]].concat()),
            Err(Errno::EINVAL)
        );
    }
}

//! Socket addresses, from and to the bytes of `struct sockaddr`.

use core::fmt;
use core::ops::Deref;

use abi::raw::net as raw;
use abi::{Errno, Result};

use crate::inet::{Endpoint, Ip};

/// Bytes of a path or abstract name in `struct sockaddr_un`.
const UNIX_NAME_MAX: usize = 108;
/// Bytes of `struct sockaddr_vm`.
const VSOCK_LEN: usize = 16;
const FAMILY_LEN: usize = 2;

/// Bytes of a path or an abstract name.
#[derive(Clone, Copy)]
pub struct NameBytes {
    bytes: [u8; UNIX_NAME_MAX],
    len: u8,
}

impl NameBytes {
    /// `None` for more than fit `struct sockaddr_un`.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<NameBytes> {
        let mut bytes = [0; UNIX_NAME_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        let len = u8::try_from(name.len()).ok()?;
        Some(NameBytes { bytes, len })
    }
}

impl Default for NameBytes {
    fn default() -> NameBytes {
        NameBytes {
            bytes: [0; UNIX_NAME_MAX],
            len: 0,
        }
    }
}

impl Deref for NameBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl fmt::Write for NameBytes {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let end = start + text.len();
        let room = self.bytes.get_mut(start..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = u8::try_from(end).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

impl PartialEq for NameBytes {
    fn eq(&self, other: &NameBytes) -> bool {
        **self == **other
    }
}

impl Eq for NameBytes {}

impl PartialOrd for NameBytes {
    fn partial_cmp(&self, other: &NameBytes) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NameBytes {
    fn cmp(&self, other: &NameBytes) -> core::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for NameBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
}

/// The name of a unix socket (unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum UnixName {
    /// None.
    #[default]
    Unnamed,
    /// A path, without the NUL.
    Path(NameBytes),
    /// A name in the abstract namespace, without the leading NUL.
    Abstract(NameBytes),
}

/// An address as the caller gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// `AF_INET`.
    Inet(Endpoint),
    /// `AF_INET6`.
    Inet6 {
        /// Address and port.
        endpoint: Endpoint,
        /// Flow label, as in the structure.
        flow: u32,
        /// Which interface an address of one link is of.
        scope: u32,
    },
    /// Of a family that no socket here is of, or too short for its family.
    Other(u16),
}

impl Address {
    /// Reads a `struct sockaddr` of the length that the caller gave.
    ///
    /// # Errors
    /// `EINVAL` for a length that does not fit the family. What another family means is for the socket to say.
    pub fn from_bytes(bytes: &[u8]) -> Result<Address> {
        let (family, rest) = bytes
            .split_first_chunk::<FAMILY_LEN>()
            .ok_or(Errno::EINVAL)?;
        let family = u16::from_ne_bytes(*family);
        match u32::from(family) {
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
            raw::AF_INET => Ok(inet(bytes).unwrap_or(Address::Other(family))),
            raw::AF_INET6 => Ok(inet6(bytes).unwrap_or(Address::Other(family))),
            _ => Ok(Address::Other(family)),
        }
    }

    /// The `struct sockaddr`, in its full length.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "families are below 2^16")]
    pub fn to_bytes(&self) -> AddressBytes {
        let mut bytes = AddressBytes::default();
        let family = |family: u32| (family as u16).to_ne_bytes();
        match self {
            Address::Unspecified => bytes.add(&family(raw::AF_UNSPEC)),
            Address::Other(family) => bytes.add(&family.to_ne_bytes()),
            Address::Unix(name) => {
                bytes.add(&family(raw::AF_UNIX));
                match name {
                    UnixName::Unnamed => {}
                    UnixName::Path(path) => {
                        bytes.add(path);
                        bytes.add(&[0]);
                    }
                    UnixName::Abstract(name) => {
                        bytes.add(&[0]);
                        bytes.add(name);
                    }
                }
            }
            Address::Inet(endpoint) => {
                bytes.add(&family(raw::AF_INET));
                bytes.add(&endpoint.port.to_be_bytes());
                bytes.add(&endpoint.ip.to_v4());
                bytes.add(&[0; 8]);
            }
            Address::Inet6 {
                endpoint,
                flow,
                scope,
            } => {
                bytes.add(&family(raw::AF_INET6));
                bytes.add(&endpoint.port.to_be_bytes());
                bytes.add(&flow.to_ne_bytes());
                bytes.add(&endpoint.ip.to_v6());
                bytes.add(&scope.to_ne_bytes());
            }
            Address::Vsock { cid, port } => {
                bytes.add(&family(raw::AF_VSOCK));
                bytes.add(&[0; 2]);
                bytes.add(&port.to_ne_bytes());
                bytes.add(&cid.to_ne_bytes());
                bytes.add(&[0; 4]);
            }
        }
        bytes
    }
}

/// The bytes of a `struct sockaddr`.
#[derive(Debug, Clone, Copy)]
pub struct AddressBytes {
    bytes: [u8; FAMILY_LEN + UNIX_NAME_MAX + 1],
    len: usize,
}

impl Default for AddressBytes {
    fn default() -> AddressBytes {
        AddressBytes {
            bytes: [0; FAMILY_LEN + UNIX_NAME_MAX + 1],
            len: 0,
        }
    }
}

impl AddressBytes {
    /// Adds bytes; together no address has more than there is room for.
    fn add(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

impl Deref for AddressBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// `struct sockaddr_in`, which has 16 bytes.
fn inet(bytes: &[u8]) -> Option<Address> {
    let whole = bytes.first_chunk::<16>()?;
    let ip = Ip::v4([whole[4], whole[5], whole[6], whole[7]]);
    Some(Address::Inet(Endpoint::new(
        ip,
        u16::from_be_bytes([whole[2], whole[3]]),
    )))
}

/// `struct sockaddr_in6`, which may lack its scope (RFC 2133).
fn inet6(bytes: &[u8]) -> Option<Address> {
    let whole = bytes.first_chunk::<24>()?;
    let scope = bytes.get(24..28).and_then(|scope| scope.first_chunk::<4>());
    let ip = Ip::v6(*bytes.get(8..24)?.first_chunk::<16>()?);
    Some(Address::Inet6 {
        endpoint: Endpoint::new(ip, u16::from_be_bytes([whole[2], whole[3]])),
        flow: u32::from_ne_bytes([whole[4], whole[5], whole[6], whole[7]]),
        scope: scope.map_or(0, |scope| u32::from_ne_bytes(*scope)),
    })
}

fn unix_name(bytes: &[u8]) -> Result<UnixName> {
    let name = |bytes: &[u8]| NameBytes::new(bytes).ok_or(Errno::EINVAL);
    if bytes.len() > UNIX_NAME_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(match bytes.split_first() {
        None => UnixName::Unnamed,
        Some((0, rest)) => UnixName::Abstract(name(rest)?),
        Some(_) => {
            let path = bytes.split(|byte| *byte == 0).next();
            UnixName::Path(name(path.unwrap_or_default())?)
        }
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
            Address::Unix(UnixName::Path(NameBytes::new(b"/run/x").unwrap())),
            Address::Unix(UnixName::Abstract(NameBytes::new(b"a\0b").unwrap())),
            Address::Vsock { cid: 3, port: 1024 },
            Address::Inet(Endpoint::new(Ip::LOOPBACK4, 80)),
            Address::Inet6 {
                endpoint: Endpoint::new(Ip::LOOPBACK6, 80),
                flow: 7,
                scope: 9,
            },
        ];
        for address in all {
            assert_eq!(Address::from_bytes(&address.to_bytes()), Ok(address));
        }
    }

    #[test]
    fn wrong_lengths_and_families_are_refused() {
        assert_eq!(Address::from_bytes(&[1]), Err(Errno::EINVAL));
        assert_eq!(Address::from_bytes(&[40, 0, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(Address::from_bytes(&[2, 0, 0, 0]), Ok(Address::Other(2)));
        assert_eq!(
            Address::from_bytes(&[&[1, 0][..], &[b'x'; 109]].concat()),
            Err(Errno::EINVAL)
        );
    }
}

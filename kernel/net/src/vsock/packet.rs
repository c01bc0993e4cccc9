//! Packets of the socket device (virtio 1.2, section 5.10.6), little-endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub(super) const STREAM: u16 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_RCV`: the sender receives no more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_SEND`: the sender sends no more.
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
}

impl Op {
    pub(super) const fn from_raw(number: u16) -> Option<Op> {
        match number {
            1 => Some(Op::Request),
            2 => Some(Op::Response),
            3 => Some(Op::Reset),
            4 => Some(Op::Shutdown),
            5 => Some(Op::Data),
            6 => Some(Op::CreditUpdate),
            7 => Some(Op::CreditRequest),
            _ => None,
        }
    }

    pub(super) const fn to_raw(self) -> u16 {
        match self {
            Op::Request => 1,
            Op::Response => 2,
            Op::Reset => 3,
            Op::Shutdown => 4,
            Op::Data => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
        }
    }
}

/// `struct virtio_vsock_hdr`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) src_cid: U64,
    pub(super) dst_cid: U64,
    pub(super) src_port: U32,
    pub(super) dst_port: U32,
    pub(super) len: U32,
    pub(super) kind: U16,
    pub(super) op: U16,
    pub(super) flags: U32,
    pub(super) buf_alloc: U32,
    pub(super) fwd_cnt: U32,
}

/// Bytes of a header.
pub(super) const HEADER_LEN: usize = size_of::<Header>();

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) cid: u64,
    pub(super) port: u32,
}

/// A connection as packets name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) local_port: u32,
    pub(super) peer: End,
}

impl Header {
    /// A packet from port `key.local_port` of `cid` to `key.peer`.
    pub(super) fn new(cid: u64, key: Key, op: Op) -> Header {
        Header {
            src_cid: cid.into(),
            dst_cid: key.peer.cid.into(),
            src_port: key.local_port.into(),
            dst_port: key.peer.port.into(),
            kind: STREAM.into(),
            op: op.to_raw().into(),
            ..Header::default()
        }
    }

    /// The connection that a received packet belongs to.
    pub(super) fn key(&self) -> Key {
        let peer = End {
            cid: self.src_cid.get(),
            port: self.src_port.get(),
        };
        Key {
            local_port: self.dst_port.get(),
            peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_44_bytes_and_operations_have_their_numbers() {
        assert_eq!(HEADER_LEN, 44);
        for number in 1..=7 {
            assert_eq!(Op::from_raw(number).unwrap().to_raw(), number);
        }
        assert!(Op::from_raw(0).is_none() && Op::from_raw(8).is_none());
    }
}

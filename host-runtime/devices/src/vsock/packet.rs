//! The header of a vsock packet (virtio 1.2, section 5.10.6), as bytes and as fields.

/// The length of a header in bytes.
pub const HEADER: usize = 44;
/// The one type of socket there is here.
pub const TYPE_STREAM: u16 = 1;
/// Shutdown flag: the sender receives no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// Shutdown flag: the sender sends no more.
pub const SHUTDOWN_SEND: u32 = 2;
/// Both directions.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Asks for a connection.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or breaks one.
    Reset,
    /// Ends one or both directions.
    Shutdown,
    /// Carries data.
    ReadWrite,
    /// Tells how much may be sent.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

impl Op {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Response,
        Self::Reset,
        Self::Shutdown,
        Self::ReadWrite,
        Self::CreditUpdate,
        Self::CreditRequest,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::ReadWrite => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }

    /// The operation of a number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.number() == number)
    }
}

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The sender's context.
    pub source_cid: u64,
    /// The receiver's context.
    pub destination_cid: u64,
    /// The sender's port.
    pub source_port: u32,
    /// The receiver's port.
    pub destination_port: u32,
    /// How many bytes of data follow.
    pub length: u32,
    /// The type of socket.
    pub kind: u16,
    /// The operation's number.
    pub op: u16,
    /// Flags of the operation.
    pub flags: u32,
    /// How many bytes the sender can hold.
    pub buffer_size: u32,
    /// How many bytes the sender has passed on since the connection began, wrapping.
    pub forwarded: u32,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn parse(bytes: &[u8; HEADER]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Self {
            source_cid: long(0),
            destination_cid: long(8),
            source_port: word(16),
            destination_port: word(20),
            length: word(24),
            kind: u16::from_le_bytes([bytes[28], bytes[29]]),
            op: u16::from_le_bytes([bytes[30], bytes[31]]),
            flags: word(32),
            buffer_size: word(36),
            forwarded: word(40),
        }
    }

    /// Writes a header.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.source_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.destination_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buffer_size.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.forwarded.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header {
            source_cid: 2,
            destination_cid: 3,
            source_port: 0x1234_5678,
            destination_port: 1024,
            length: 17,
            kind: TYPE_STREAM,
            op: Op::Shutdown.number(),
            flags: SHUTDOWN_BOTH,
            buffer_size: 0x4_0000,
            forwarded: u32::MAX,
        };
        assert_eq!(Header::parse(&header.bytes()), header);
        assert_eq!(Op::from_number(4), Some(Op::Shutdown));
        assert_eq!(Op::from_number(8), None);
    }
}

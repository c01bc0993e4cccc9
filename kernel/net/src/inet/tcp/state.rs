//! What state a connection is in, and what is on or off of it.

use bitflags::bitflags;

use crate::inet::ip::Endpoint;

/// RFC 9293, 3.3.2; the numbers are those of `struct tcp_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "RFC 9293 documents each name")]
pub(crate) enum State {
    Established = 1,
    SynSent = 2,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Closed = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

impl State {
    /// Whether data may come in.
    pub(crate) fn may_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether data may go out.
    pub(crate) fn may_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// Whether both ends know of the connection, or did.
    pub(crate) fn is_synchronized(self) -> bool {
        !matches!(
            self,
            State::Closed | State::Listen | State::SynSent | State::SynReceived
        )
    }
}

bitflags! {
    /// What is on or off of a connection.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) struct Switch: u16 {
        /// `TCP_NODELAY`.
        const NODELAY = 1 << 0;
        /// `TCP_CORK`, or MSG_MORE of the last send.
        const CORK = 1 << 1;
        /// MSG_MORE of the last send.
        const MORE = 1 << 2;
        /// `SO_KEEPALIVE`.
        const KEEPALIVE = 1 << 3;
        /// The program's socket is gone.
        const ORPHAN = 1 << 4;
        /// `SEND_SHUTDOWN`: a FIN goes behind what is queued.
        const ENDS_SENDING = 1 << 5;
        /// `RCV_SHUTDOWN` by the program.
        const ENDS_RECEIVING = 1 << 6;
        /// The other end has sent its FIN and all before it is here.
        const GOT_FIN = 1 << 7;
        /// An acknowledgement is owed.
        const OWES_ACK = 1 << 8;
        /// It is owed now.
        const ACK_NOW = 1 << 9;
        /// Requests and responses take turns: an acknowledgement waits for data to go with (Linux's pingpong).
        const INTERACTIVE = 1 << 10;
        /// There was a connection and it is over (`SOCK_DONE`): reading tells the end.
        const DONE = 1 << 11;
        /// A segment was lost and is being sent again (fast recovery).
        const RECOVERS = 1 << 12;
        /// There is something to send and nothing is under way: by the window, or as more is waited for.
        const PROBES = 1 << 13;
        /// The FIN has been sent at least once.
        const SENT_FIN = 1 << 14;
        /// Somebody waits for room to send.
        const NO_SPACE = 1 << 15;
    }
}

/// How far connect(2) has come, as the program knows (`socket_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Link {
    #[default]
    Unconnected,
    Connecting,
    Connected,
}

/// Which two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) local: Endpoint,
    pub(crate) remote: Endpoint,
}

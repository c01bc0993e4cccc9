//! Terminal settings: `struct termios` as TCGETS has it, and questions about it (termios(3)).

use abi::raw::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct termios` of the kernel's ABI (36 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "termios(3) documents each name")]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
}

/// Index of a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "termios(3) documents each name")]
pub enum Cc {
    Intr = 0,
    Quit = 1,
    Erase = 2,
    Kill = 3,
    Eof = 4,
    Time = 5,
    Min = 6,
    Start = 8,
    Stop = 9,
    Susp = 10,
    Eol = 11,
    Reprint = 12,
    Discard = 13,
    WErase = 14,
    LNext = 15,
    Eol2 = 16,
}

impl Default for Termios {
    /// What a terminal starts with: `stty sane`, as Linux has it.
    fn default() -> Self {
        let mut cc = [0; 19];
        let set = [
            (Cc::Intr, 0x03),
            (Cc::Quit, 0x1c),
            (Cc::Erase, 0x7f),
            (Cc::Kill, 0x15),
            (Cc::Eof, 0x04),
            (Cc::Min, 1),
            (Cc::Start, 0x11),
            (Cc::Stop, 0x13),
            (Cc::Susp, 0x1a),
            (Cc::Reprint, 0x12),
            (Cc::Discard, 0x0f),
            (Cc::WErase, 0x17),
            (Cc::LNext, 0x16),
        ];
        for (index, byte) in set {
            cc[index as usize] = byte;
        }
        Termios {
            iflag: raw::ICRNL | raw::IXON,
            oflag: raw::OPOST | raw::ONLCR,
            cflag: raw::B38400 | raw::CS8 | raw::CREAD,
            lflag: raw::ISIG
                | raw::ICANON
                | raw::ECHO
                | raw::ECHOE
                | raw::ECHOK
                | raw::ECHOCTL
                | raw::ECHOKE
                | raw::IEXTEN,
            line: 0,
            cc,
        }
    }
}

impl Termios {
    /// The same, with characters of eight bits without parity, and a receiver that is on.
    #[must_use]
    pub const fn with_whole_bytes(&self) -> Self {
        Self {
            cflag: self.cflag & !(raw::CSIZE | raw::PARENB) | raw::CS8 | raw::CREAD,
            ..*self
        }
    }

    /// Whether a `c_iflag` bit is set.
    #[must_use]
    pub const fn has_input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }

    /// Whether a `c_oflag` bit is set.
    #[must_use]
    pub const fn has_output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }

    /// Whether a `c_lflag` bit is set.
    #[must_use]
    pub const fn has_local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    /// Whether input comes in lines.
    #[must_use]
    pub const fn is_canonical(&self) -> bool {
        self.has_local(raw::ICANON)
    }

    /// Whether `byte` is the control character `which`; 0 disables one.
    #[must_use]
    pub const fn is(&self, which: Cc, byte: u8) -> bool {
        byte != 0 && self.cc[which as usize] == byte
    }

    /// The value of a control character.
    #[must_use]
    pub const fn value(&self, which: Cc) -> u8 {
        self.cc[which as usize]
    }

    /// Whether output is stopped and continued with ^S and ^Q (`TIOCPKT_DOSTOP`).
    #[must_use]
    pub const fn stops_by_usual_characters(&self) -> bool {
        self.has_input(raw::IXON) && self.value(Cc::Stop) == 0x13 && self.value(Cc::Start) == 0x11
    }
}

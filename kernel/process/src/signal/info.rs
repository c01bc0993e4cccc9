//! What a signal carries: `siginfo_t`.

use zerocopy::IntoBytes;

use super::number::Signal;
use crate::task::numbers::PidNumber;

/// Values of `si_code`.
#[allow(missing_docs, reason = "sigaction(2) documents each name")]
pub mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_TKILL: i32 = -6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const ILL_ILLOPN: i32 = 2;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const SYS_SECCOMP: i32 = 1;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const TRAP_HWBKPT: i32 = 4;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
}

/// A signal with what is known about its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigInfo {
    /// Which signal.
    pub signal: Signal,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The fields that depend on the cause.
    pub payload: Payload,
}

/// The union in `siginfo_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Who sent it (kill, tgkill).
    Sender {
        /// `si_pid`.
        pid: PidNumber,
        /// `si_uid`.
        uid: u32,
    },
    /// Who sent it, with a value (sigqueue).
    Queued {
        /// `si_pid`.
        pid: PidNumber,
        /// `si_uid`.
        uid: u32,
        /// `si_value`.
        value: u64,
    },
    /// A POSIX timer.
    Timer {
        /// `si_timerid`.
        id: i32,
        /// `si_overrun`.
        overrun: i32,
        /// `si_value`.
        value: u64,
    },
    /// A child changed.
    Child {
        /// `si_pid`.
        pid: PidNumber,
        /// `si_uid`.
        uid: u32,
        /// `si_status`.
        status: i32,
        /// `si_utime`, in clock ticks.
        utime: i64,
        /// `si_stime`, in clock ticks.
        stime: i64,
    },
    /// An instruction.
    Fault {
        /// `si_addr`.
        addr: u64,
    },
    /// As user space gave it to rt_sigqueueinfo(2): the bytes after `si_code`.
    Raw([u8; 112]),
}

/// Size of `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;

impl SigInfo {
    /// A signal that the kernel sends for a reason of its own.
    #[must_use]
    pub fn kernel(signal: Signal) -> Self {
        Self {
            signal,
            errno: 0,
            code: code::SI_KERNEL,
            payload: Payload::Sender { pid: 0, uid: 0 },
        }
    }

    /// A signal that a process sends with kill(2).
    #[must_use]
    pub fn user(signal: Signal, pid: PidNumber, uid: u32) -> Self {
        Self {
            signal,
            errno: 0,
            code: code::SI_USER,
            payload: Payload::Sender { pid, uid },
        }
    }

    /// A signal that tells of events (`si_band`) on descriptor `fd` (`F_SETSIG`).
    #[must_use]
    pub fn io(signal: Signal, code: i32, events: u32, fd: i32) -> Self {
        let mut raw = [0; 112];
        raw[..8].copy_from_slice(i64::from(events).as_bytes());
        raw[8..12].copy_from_slice(fd.as_bytes());
        Self {
            signal,
            errno: 0,
            code,
            payload: Payload::Raw(raw),
        }
    }

    /// SIGSYS for call `number`, made by the instruction before `addr`, which a filter does not let pass; `errno` is what
    /// the filter says.
    #[must_use]
    pub fn system_call(addr: u64, number: u32, architecture: u32, errno: i32) -> Self {
        let mut raw = [0; 112];
        raw[..8].copy_from_slice(addr.as_bytes());
        raw[8..12].copy_from_slice(number.as_bytes());
        raw[12..16].copy_from_slice(architecture.as_bytes());
        Self {
            signal: Signal::SYS,
            errno,
            code: code::SYS_SECCOMP,
            payload: Payload::Raw(raw),
        }
    }

    /// A signal that an instruction at fault causes.
    #[must_use]
    pub fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        Self {
            signal,
            errno: 0,
            code,
            payload: Payload::Fault { addr },
        }
    }

    /// As user space reads it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SIGINFO_SIZE] {
        let mut bytes = [0; SIGINFO_SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, i32::from(self.signal.number()).as_bytes());
        put(4, self.errno.as_bytes());
        put(8, self.code.as_bytes());
        match &self.payload {
            Payload::Sender { pid, uid } => {
                put(16, pid.as_bytes());
                put(20, uid.as_bytes());
            }
            Payload::Queued { pid, uid, value } => {
                put(16, pid.as_bytes());
                put(20, uid.as_bytes());
                put(24, value.as_bytes());
            }
            Payload::Timer { id, overrun, value } => {
                put(16, id.as_bytes());
                put(20, overrun.as_bytes());
                put(24, value.as_bytes());
            }
            Payload::Child {
                pid,
                uid,
                status,
                utime,
                stime,
            } => {
                put(16, pid.as_bytes());
                put(20, uid.as_bytes());
                put(24, status.as_bytes());
                put(32, utime.as_bytes());
                put(40, stime.as_bytes());
            }
            Payload::Fault { addr } => put(16, addr.as_bytes()),
            Payload::Raw(raw) => put(16, raw),
        }
        bytes
    }

    /// From the bytes that rt_sigqueueinfo(2) was given, for `signal`.
    #[must_use]
    pub fn from_bytes(signal: Signal, bytes: &[u8; SIGINFO_SIZE]) -> Self {
        let word = |at: usize| {
            let mut field = [0; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            i32::from_ne_bytes(field)
        };
        let mut raw = [0; 112];
        raw.copy_from_slice(&bytes[16..]);
        Self {
            signal,
            errno: word(4),
            code: word(8),
            payload: Payload::Raw(raw),
        }
    }

    /// `si_pid` and `si_uid`, where the cause has them.
    #[must_use]
    pub fn sender(&self) -> Option<(PidNumber, u32)> {
        match self.payload {
            Payload::Sender { pid, uid }
            | Payload::Queued { pid, uid, .. }
            | Payload::Child { pid, uid, .. } => Some((pid, uid)),
            Payload::Timer { .. } | Payload::Fault { .. } | Payload::Raw(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_that_of_siginfo_t() {
        let info = SigInfo {
            signal: Signal::CHLD,
            errno: 0,
            code: code::CLD_EXITED,
            payload: Payload::Child {
                pid: 7,
                uid: 1000,
                status: 3,
                utime: 5,
                stime: 6,
            },
        };
        let bytes = info.to_bytes();
        let word = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(4), word(8)], [17, 0, 1]);
        assert_eq!([word(16), word(20), word(24)], [7, 1000, 3]);
        assert_eq!([word(32), word(40)], [5, 6]);
    }

    #[test]
    fn raw_information_comes_back_unchanged() {
        let mut bytes = [0; SIGINFO_SIZE];
        bytes[0] = 34;
        bytes[8..12].copy_from_slice(&code::SI_QUEUE.to_ne_bytes());
        bytes[24] = 99;
        let info = SigInfo::from_bytes(Signal::new(34).unwrap(), &bytes);
        assert_eq!(info.to_bytes(), bytes);
    }
}

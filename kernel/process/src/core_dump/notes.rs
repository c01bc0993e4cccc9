//! The notes of a core file: `struct elf_prstatus`, `elf_prpsinfo` and their kin (sys/procfs.h), as debuggers read them.

use abi::{Errno, Result};
use collections::Vec;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::signal::{SIGINFO_SIZE, SigInfo};
use crate::trace::registers::WORDS;

/// Types of notes.
pub(super) const NT_PRSTATUS: u32 = 1;
pub(super) const NT_FPREGSET: u32 = 2;
pub(super) const NT_PRPSINFO: u32 = 3;
pub(super) const NT_AUXV: u32 = 6;
pub(super) const NT_X86_XSTATE: u32 = 0x202;
pub(super) const NT_FILE: u32 = 0x4649_4c45;
pub(super) const NT_SIGINFO: u32 = 0x5349_4749;

/// `struct timeval`.
#[derive(Debug, Clone, Copy, Default, IntoBytes, Immutable, FromZeros)]
#[repr(C)]
pub(super) struct Time {
    seconds: u64,
    microseconds: u64,
}

impl Time {
    pub(super) fn from_ns(ns: u64) -> Self {
        Self {
            seconds: ns / 1_000_000_000,
            microseconds: ns % 1_000_000_000 / 1000,
        }
    }
}

/// Who a process is to others.
#[derive(Debug, Clone, Copy, Default, IntoBytes, Immutable, FromZeros)]
#[repr(C)]
pub(super) struct Ids {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
}

/// `struct elf_prstatus`.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, FromZeros)]
#[repr(C)]
pub(super) struct ThreadStatus {
    pub(super) signal: i32,
    pub(super) code: i32,
    pub(super) errno: i32,
    pub(super) current_signal: u16,
    padding: u16,
    pub(super) pending: u64,
    pub(super) blocked: u64,
    pub(super) ids: Ids,
    pub(super) user: Time,
    pub(super) system: Time,
    pub(super) children_user: Time,
    pub(super) children_system: Time,
    pub(super) registers: [u64; WORDS],
    pub(super) has_fpu: u32,
    padding_2: u32,
}

/// `struct elf_prpsinfo`.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable, FromZeros)]
#[repr(C)]
pub(super) struct ProcessInfo {
    pub(super) state: u8,
    pub(super) state_letter: u8,
    pub(super) is_zombie: u8,
    pub(super) nice: u8,
    padding: u32,
    pub(super) flags: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) ids: Ids,
    pub(super) name: [u8; 16],
    pub(super) args: [u8; 80],
}

const _: () = assert!(size_of::<ThreadStatus>() == 336);
const _: () = assert!(size_of::<ProcessInfo>() == 136);

/// Notes, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<u8>);

impl Notes {
    /// Adds a note of Linux's own (`LINUX`) or of System V's kinds (`CORE`).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn push(&mut self, kind: u32, contents: &[u8]) -> Result<()> {
        let name: &[u8] = if kind == NT_X86_XSTATE {
            b"LINUX\0"
        } else {
            b"CORE\0"
        };
        let size = |len: usize| u32::try_from(len).map_err(|_| Errno::EFBIG);
        let head = [size(name.len())?, size(contents.len())?, kind];
        self.0.try_extend_from_slice(head.as_bytes())?;
        for part in [name, contents] {
            self.0.try_extend_from_slice(part)?;
            while !self.0.len().is_multiple_of(4) {
                self.0.try_push(0)?;
            }
        }
        Ok(())
    }

    /// Adds what the signal carried.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn push_info(&mut self, info: &SigInfo) -> Result<()> {
        let bytes: [u8; SIGINFO_SIZE] = info.to_bytes();
        self.push(NT_SIGINFO, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_sys_procfs_h_has_them() {
        assert_eq!(core::mem::offset_of!(ThreadStatus, ids), 32);
        assert_eq!(core::mem::offset_of!(ThreadStatus, registers), 112);
        assert_eq!(core::mem::offset_of!(ProcessInfo, uid), 16);
        assert_eq!(core::mem::offset_of!(ProcessInfo, name), 40);
    }

    #[test]
    fn notes_are_padded_to_words() {
        let mut notes = Notes::default();
        notes.push(NT_AUXV, &[1, 2, 3]).unwrap();
        assert_eq!(notes.0.len(), 12 + 8 + 4);
        assert_eq!(&notes.0[12..17], b"CORE\0");
        notes.push(NT_X86_XSTATE, &[0; 8]).unwrap();
        assert_eq!(notes.0.len(), 24 + 12 + 8 + 8);
    }
}

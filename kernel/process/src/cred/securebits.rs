//! `SECBIT_*` of prctl(2).
#![allow(missing_docs, reason = "capabilities(7) documents each name")]

pub const NOROOT: u32 = 1 << 0;
pub const NO_SETUID_FIXUP: u32 = 1 << 2;
pub const KEEP_CAPS: u32 = 1 << 4;
pub const KEEP_CAPS_LOCKED: u32 = 1 << 5;
pub const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
/// Every lock bit.
pub const ALL_LOCKS: u32 = 0xaa;
/// Every bit there is.
pub const ALL: u32 = 0xff;

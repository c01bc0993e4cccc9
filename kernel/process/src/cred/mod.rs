//! Credential transitions: set*id, capabilities, exec. Pure functions from one
//! [`fs::Credentials`] to the next, as credentials(7) and capabilities(7) define them.

mod capabilities;
mod exec;
pub mod file_capabilities;
mod ids;
#[cfg(test)]
mod tests;

pub use capabilities::{capset, drop_bounding, lower_ambient, raise_ambient, set_securebits};
pub use exec::{FilePrivileges, for_exec};
pub use ids::{
    set_fsgid, set_fsuid, set_gid, set_groups, set_regid, set_resgid, set_resuid, set_reuid,
    set_uid,
};

/// `SECBIT_*` of prctl(2).
pub mod securebits {
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
}

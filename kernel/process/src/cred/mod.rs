//! Credential transitions: set*id, capabilities, exec. Pure functions from one
//! [`fs::Credentials`] to the next, as credentials(7) and capabilities(7) define them.

mod capabilities;
mod exec;
pub mod file_capabilities;
mod ids;
pub mod securebits;
#[cfg(test)]
mod tests;

pub use capabilities::{capset, drop_bounding, lower_ambient, raise_ambient, set_securebits};
pub use exec::{FilePrivileges, for_exec};
pub use ids::{
    set_fsgid, set_fsuid, set_gid, set_groups, set_regid, set_resgid, set_resuid, set_reuid,
    set_uid,
};

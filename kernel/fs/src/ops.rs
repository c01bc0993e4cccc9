//! The operations of the path-name system calls, on [`crate::Caller`]: permission and name rules, mount
//! flags, and keeping the dentry cache in step. File systems are called with all that decided.

mod attributes;
mod create;
mod open;
mod remove;
mod rename;
#[cfg(test)]
mod tests;
mod xattr;

pub(crate) use attributes::remove_privileges;
pub use attributes::{ChownTo, TimeChange};
pub use open::OpenHow;
pub use rename::RenameFlags;
pub(crate) use xattr::CAPABILITY;
pub use xattr::{XATTR_NAME_MAX, XATTR_SIZE_MAX};

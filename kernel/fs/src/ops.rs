//! The operations of the path-name system calls, on [`crate::Caller`]: permission and name rules, mount
//! flags, and keeping the dentry cache in step. File systems are called with all that decided.

mod attributes;
mod create;
mod open;
mod remove;
mod rename;
mod xattr;

pub use attributes::{ChownTo, TimeChange};
pub use open::OpenHow;
pub use rename::RenameFlags;

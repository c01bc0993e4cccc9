//! What a guest boots from, and what it is shown of the host's files.
//!
//! [`boot`] finds the kernel and the archive; [`SharedDir`] puts a container's root file system and its bind
//! mounts where the machine's shared directory is.

#![forbid(unsafe_code)]

pub mod boot;
mod error;
mod shared;

pub use error::ImageError;
pub use shared::{RootfsMount, SharedDir};

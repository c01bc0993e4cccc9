//! Linux ABI vocabulary shared by all kernel layers: error numbers and the constants and
//! structures of `linux-raw-sys`, re-exported. No behaviour lives here.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

mod errno;

pub use errno::Errno;
pub use linux_raw_sys as raw;

/// What a kernel operation returns: a value or the error number that user space will see.
pub type Result<T> = core::result::Result<T, Errno>;

//! The initramfs archive: the read-only tree of files that a microVM starts from.
//!
//! The image is meant to be mapped, not unpacked. The host maps the file read-only and shared
//! into every microVM, and the kernel maps pages of a file's contents straight into programs.
//! So each file's bytes begin on a page boundary and are padded with zeros to the next.
//!
//! ```text
//! 0        header, 64 bytes (see `header`)
//! 64       the index: an rkyv archive of `format::Index`
//! …        zeros to the next page boundary
//! data     file contents, each page-aligned and zero-padded to whole pages
//! ```
//!
//! [`Archive`] is the reader (`no_std`, no allocation); it validates the whole index once, in
//! [`Archive::new`], and everything after that is plain indexing. [`build`] is the host's writer.
//! Nothing here locks: an archive never changes. [`cpio`] reads the archives that other kernels take.
#![cfg_attr(not(any(test, feature = "build")), no_std)]

extern crate alloc;

#[cfg(feature = "build")]
pub mod build;
pub mod cpio;
mod error;
mod format;
mod header;
mod reader;
mod validate;

pub use error::ArchiveError;
pub use format::Kind;
pub use reader::{Archive, Entry, check_start};

/// Unit of alignment of file contents, in bytes: the page of x86-64.
pub const PAGE_SIZE: usize = 4096;

/// The longest name of one entry, in bytes (Linux's `NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// The longest target of a symbolic link, in bytes (Linux's `PATH_MAX` less the NUL).
pub const TARGET_MAX: usize = 4095;

#[cfg(all(test, feature = "build"))]
mod tests;

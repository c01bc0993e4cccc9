//! The index as rkyv lays it out: what the builder writes and the reader reads in place.
//!
//! Entries stand in breadth-first order: entry 0 is the root, the children of a directory are
//! one contiguous run sorted by name, and the runs follow one another in the order of their
//! directories. That makes a lookup a binary search per path component, and lets one linear
//! pass prove that the entries form a tree (`validate`).

use alloc::string::String;
use alloc::vec::Vec;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(Debug))]
#[repr(u8)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// One file, directory or symbolic link.
#[derive(Debug, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(crate) struct IndexEntry {
    /// Last component of the path, empty for the root.
    pub(crate) name: String,
    /// Index of the directory that holds this entry; the root is its own parent.
    pub(crate) parent: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// Permission bits, at most 0o7777.
    pub(crate) mode: u32,
    /// Owner's user id.
    pub(crate) uid: u32,
    /// Owner's group id.
    pub(crate) gid: u32,
    /// Directory: index of the first child. File: offset of the contents in the image, in
    /// bytes, a multiple of the page size. Symbolic link: 0.
    pub(crate) start: u64,
    /// Directory: number of children. File: length in bytes. Symbolic link: 0.
    pub(crate) len: u64,
    /// Symbolic link: where it points. Empty otherwise.
    pub(crate) target: String,
}

/// The index of the whole archive.
#[cfg_attr(
    not(feature = "build"),
    expect(dead_code, reason = "read only as ArchivedIndex")
)]
#[derive(Debug, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug))]
pub(crate) struct Index {
    /// Modification time of every entry, in seconds since 1970: one fixed value, so that the
    /// same files give the same image.
    pub(crate) mtime_s: u64,
    /// The entries, in breadth-first order.
    pub(crate) entries: Vec<IndexEntry>,
}

//! virtio-fs: a directory of the host as a file system, through a FUSE server behind a virtio device.
//!
//! [`add_device`] takes a device at start-up and remembers it by its tag; `mount -t virtiofs TAG`
//! then opens the session. [`connection`] moves messages ([`message`], in a [`slot`] each; [`forget`] has those without a
//! reply), [`session`] is one mounted server and its table of nodes. [`inode`] with its [`attributes`], [`entries`],
//! [`absences`] and [`xattrs`], and [`file`] with its [`handle`]s are what the VFS sees; [`transfer`] is the page cache's
//! way to the server, [`locks`] are file locks that the server gives. The server is not trusted: lengths, kinds, names and
//! numbers it sends are checked where they are taken in.
//!
//! Permissions are checked by the VFS, from the attributes the server tells. Attributes and entries are
//! believed for as long as the server says. Writes go through to the server at once.

mod absences;
mod attributes;
mod connection;
mod convert;
mod device;
mod directory;
mod entries;
mod file;
mod forget;
mod handle;
mod inode;
mod locks;
mod message;
mod session;
mod slot;
mod transfer;
mod wire;
mod xattrs;

#[cfg(test)]
mod tests;

pub use device::{VirtioFs, add_device};

//! Layer `fs`: names, files and the things that behave like files.
//!
//! [`Inode`], [`FileSystem`] and [`FileOps`] are what a file system implements; [`Dentry`], [`Mount`] and
//! [`Path`] are the tree of names above it; [`Caller`] has the operations of the path-name system calls;
//! [`File`] and [`FdTable`] are what descriptors mean.
//!
//! Lock order, outermost first: a file's position, [`SuperBlock`]'s rename lock, directory locks of
//! dentries (ancestors first), locks inside file systems, page caches; the mount topology is
//! taken with none of these held. Spin locks are leaves. Walks of known names take no lock (`walk/cached.rs`).
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acl;
mod anonymous;
pub mod archive;
pub mod block;
mod context;
mod cred;
mod dentry;
pub mod device;
pub mod epoll;
pub mod eventfd;
mod fd_table;
mod file;
mod file_ops;
mod file_system;
mod flags;
pub mod fuse;
mod inode;
pub mod ioctl;
pub mod job_control;
pub mod lock;
pub mod memfd;
mod metadata;
mod mount;
mod ops;
mod page_io;
mod path;
pub mod permission;
pub mod pipe;
mod poll;
pub mod random;
mod requests;
pub mod rng;
pub mod sigio;
pub mod sysfs;
pub mod timerfd;
pub mod tmpfs;
pub mod tty;
pub mod user_namespace;
mod walk;

pub use anonymous::{AnonymousInode, place_of};
pub use context::FsContext;
pub use cred::{Capabilities, Credentials};
pub use dentry::{Dentry, drop_unused};
pub use fd_table::{FD_MAX, FdRef, FdTable, FdView};
pub use file::File;
pub use file_ops::{Allocate, DirSink, FileOps, Io, Seek, downcast, seek_in};
pub use file_system::{
    FileSystem, FileSystemType, FsFlags, MountRequest, SuperBlock, find_type, register, type_names,
};
pub use flags::{LookupFlags, MountFlags, OpenFlags};
pub use inode::{Inode, InodeAccess, InodeBody, Link, NewInode, NewKind, RenameMode, XattrMode};
pub use metadata::{
    DeviceId, FileKind, Metadata, S_IFMT, S_ISGID, S_ISUID, S_ISVTX, SetAttr, StatFs, Timestamp,
};
pub use mount::{BindMode, DetachMode, Mount, MountNamespace, next_namespace_id};
pub use ops::{ChownTo, OpenHow, RenameFlags, TimeChange, XATTR_NAME_MAX, XATTR_SIZE_MAX};
pub use path::{InodeKey, NAME_MAX, PATH_MAX, Path};
pub use poll::{Events, PollTable, PollWaiter};
pub use user_namespace::{Kgid, Kuid, UserNamespace};
pub use walk::{Base, Caller};

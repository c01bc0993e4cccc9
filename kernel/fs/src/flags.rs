//! Flag words of the ABI that this layer acts on, as types.

use abi::raw::general as raw;
use abi::{Errno, Result};

bitflags::bitflags! {
    /// Flags of open(2) and fcntl(2) `F_SETFL`; bits as on x86-64.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct OpenFlags: u32 {
        /// `O_WRONLY`.
        const WRONLY = raw::O_WRONLY;
        /// `O_RDWR`.
        const RDWR = raw::O_RDWR;
        /// `O_CREAT`.
        const CREAT = raw::O_CREAT;
        /// `O_EXCL`.
        const EXCL = raw::O_EXCL;
        /// `O_NOCTTY`.
        const NOCTTY = raw::O_NOCTTY;
        /// `O_TRUNC`.
        const TRUNC = raw::O_TRUNC;
        /// `O_APPEND`.
        const APPEND = raw::O_APPEND;
        /// `O_NONBLOCK`.
        const NONBLOCK = raw::O_NONBLOCK;
        /// `O_DSYNC`.
        const DSYNC = raw::O_DSYNC;
        /// `O_ASYNC`.
        const ASYNC = raw::FASYNC;
        /// `O_DIRECT`.
        const DIRECT = raw::O_DIRECT;
        /// `O_LARGEFILE`.
        const LARGEFILE = raw::O_LARGEFILE;
        /// `O_DIRECTORY`.
        const DIRECTORY = raw::O_DIRECTORY;
        /// `O_NOFOLLOW`.
        const NOFOLLOW = raw::O_NOFOLLOW;
        /// `O_NOATIME`.
        const NOATIME = raw::O_NOATIME;
        /// `O_CLOEXEC`.
        const CLOEXEC = raw::O_CLOEXEC;
        /// `O_SYNC` less `O_DSYNC`.
        const SYNC_BIT = 0o4_000_000;
        /// `O_PATH`.
        const PATH = raw::O_PATH;
        /// `O_TMPFILE` less `O_DIRECTORY`.
        const TMPFILE_BIT = 0o20_000_000;
    }

    /// Flags of a mount that are enforced by the VFS (statfs(2) `ST_*`, mount(2) `MS_*` values).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// `MS_RDONLY`.
        const RDONLY = 1;
        /// `MS_NOSUID`.
        const NOSUID = 2;
        /// `MS_NODEV`.
        const NODEV = 4;
        /// `MS_NOEXEC`.
        const NOEXEC = 8;
        /// `O_NOATIME`.
        const NOATIME = 1 << 10;
        /// `MS_NODIRATIME`.
        const NODIRATIME = 1 << 11;
        /// `MS_RELATIME`.
        const RELATIME = 1 << 21;
    }

    /// How a path is walked: the flags of the *at calls and openat2(2)'s `RESOLVE_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct LookupFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory (also implied by a trailing slash).
        const DIRECTORY = 2;
        /// An empty path names the base itself (`AT_EMPTY_PATH`).
        const EMPTY_PATH = 4;
        /// `RESOLVE_NO_XDEV`.
        const NO_XDEV = 8;
        /// `RESOLVE_NO_MAGICLINKS`.
        const NO_MAGICLINKS = 16;
        /// `RESOLVE_NO_SYMLINKS`.
        const NO_SYMLINKS = 32;
        /// `RESOLVE_BENEATH`.
        const BENEATH = 64;
        /// `RESOLVE_IN_ROOT`.
        const IN_ROOT = 128;
        /// `RESOLVE_CACHED`: only what the dentry cache holds.
        const CACHED = 256;
    }
}

impl OpenFlags {
    /// Whether reading is allowed. With both bits of `O_ACCMODE`, ioctls alone are.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        matches!(self.bits() & raw::O_ACCMODE, raw::O_RDONLY | raw::O_RDWR)
    }

    /// Whether writing is allowed.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self.bits() & raw::O_ACCMODE, raw::O_WRONLY | raw::O_RDWR)
    }

    /// Whether opening needs the permission to read.
    #[must_use]
    pub const fn asks_to_read(self) -> bool {
        self.bits() & raw::O_ACCMODE != raw::O_WRONLY
    }

    /// Whether opening needs the permission to write.
    #[must_use]
    pub const fn asks_to_write(self) -> bool {
        self.bits() & raw::O_ACCMODE != raw::O_RDONLY
    }

    /// Whether this is `O_TMPFILE`.
    #[must_use]
    pub const fn is_tmpfile(self) -> bool {
        self.contains(Self::TMPFILE_BIT) && self.contains(Self::DIRECTORY)
    }

    /// What open(2) does with its flag word: unknown bits are ignored.
    #[must_use]
    pub const fn from_open(bits: u32) -> Self {
        Self::from_bits_truncate(bits)
    }

    /// What openat2(2) does with its flag word.
    ///
    /// # Errors
    /// `EINVAL` for a bit it does not know.
    pub fn from_openat2(bits: u64) -> Result<Self> {
        let bits = u32::try_from(bits).map_err(|_| Errno::EINVAL)?;
        Self::from_bits(bits).ok_or(Errno::EINVAL)
    }

    /// The flags that stay with an open file and that `F_GETFL` shows.
    #[must_use]
    pub fn status(self) -> Self {
        self - (Self::CREAT | Self::EXCL | Self::NOCTTY | Self::TRUNC | Self::CLOEXEC)
    }

    /// The flags that `F_SETFL` can change.
    #[must_use]
    pub fn settable() -> Self {
        Self::APPEND | Self::NONBLOCK | Self::ASYNC | Self::DIRECT | Self::NOATIME
    }
}

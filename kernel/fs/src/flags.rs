//! Flag words of the ABI that this layer acts on, as types.

use abi::raw::general as raw;
use abi::{Errno, Result};

bitflags::bitflags! {
    /// Flags of open(2) and fcntl(2) `F_SETFL`; bits as on x86-64.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[allow(missing_docs, reason = "open(2) documents each name")]
    pub struct OpenFlags: u32 {
        const WRONLY = raw::O_WRONLY;
        const RDWR = raw::O_RDWR;
        const CREAT = raw::O_CREAT;
        const EXCL = raw::O_EXCL;
        const NOCTTY = raw::O_NOCTTY;
        const TRUNC = raw::O_TRUNC;
        const APPEND = raw::O_APPEND;
        const NONBLOCK = raw::O_NONBLOCK;
        const DSYNC = raw::O_DSYNC;
        const ASYNC = raw::FASYNC;
        const DIRECT = raw::O_DIRECT;
        const LARGEFILE = raw::O_LARGEFILE;
        const DIRECTORY = raw::O_DIRECTORY;
        const NOFOLLOW = raw::O_NOFOLLOW;
        const NOATIME = raw::O_NOATIME;
        const CLOEXEC = raw::O_CLOEXEC;
        /// `O_SYNC` less `O_DSYNC`.
        const SYNC_BIT = 0o4_000_000;
        const PATH = raw::O_PATH;
        /// `O_TMPFILE` less `O_DIRECTORY`.
        const TMPFILE_BIT = 0o20_000_000;
    }

    /// Flags of a mount that are enforced by the VFS (statfs(2) `ST_*`, mount(2) `MS_*` values).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[allow(missing_docs, reason = "mount(2) documents each name")]
    pub struct MountFlags: u32 {
        const RDONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
        const NOATIME = 1 << 10;
        const NODIRATIME = 1 << 11;
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
    /// Whether reading is allowed.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.bits() & raw::O_ACCMODE != raw::O_WRONLY
    }

    /// Whether writing is allowed.
    #[must_use]
    pub const fn is_writable(self) -> bool {
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

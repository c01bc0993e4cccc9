//! What is known about a file: kind, attributes, and the changes that can be asked for.
//! `stat` structures of the ABI are made from these in the `syscall` layer.

use crate::user_namespace::{Kgid, Kuid};

/// What a file is. Never changes during an inode's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it; inode(7)")]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// `S_IFMT`: the file type bits of a mode.
pub const S_IFMT: u32 = 0o170_000;
/// Set-user-id bit of a mode.
pub const S_ISUID: u32 = 0o4000;
/// Set-group-id bit of a mode.
pub const S_ISGID: u32 = 0o2000;
/// Sticky bit of a mode.
pub const S_ISVTX: u32 = 0o1000;

impl FileKind {
    /// The type bits of `st_mode`.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        match self {
            FileKind::Regular => 0o100_000,
            FileKind::Directory => 0o040_000,
            FileKind::Symlink => 0o120_000,
            FileKind::CharDevice => 0o020_000,
            FileKind::BlockDevice => 0o060_000,
            FileKind::Fifo => 0o010_000,
            FileKind::Socket => 0o140_000,
        }
    }

    /// The kind that the type bits of `mode` name.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<FileKind> {
        match mode & S_IFMT {
            0o100_000 => Some(FileKind::Regular),
            0o040_000 => Some(FileKind::Directory),
            0o120_000 => Some(FileKind::Symlink),
            0o020_000 => Some(FileKind::CharDevice),
            0o060_000 => Some(FileKind::BlockDevice),
            0o010_000 => Some(FileKind::Fifo),
            0o140_000 => Some(FileKind::Socket),
            _ => None,
        }
    }

    /// `d_type` of getdents64(2).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the type bits are four")]
    pub const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// Nanoseconds since 1970-01-01 UTC, signed for the times before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From whole seconds and nanoseconds (0 to 999,999,999), saturating.
    #[must_use]
    pub const fn new(seconds: i64, nanoseconds: u32) -> Self {
        Self(
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds as i64),
        )
    }

    /// The wall clock now.
    #[must_use]
    pub fn now() -> Self {
        Self(i64::try_from(sched::clock::realtime_ns()).unwrap_or(i64::MAX))
    }

    /// Whether `earlier` is 24 hours back or more.
    #[must_use]
    pub const fn is_a_day_after(self, earlier: Self) -> bool {
        const DAY_NS: i64 = 24 * 60 * 60 * 1_000_000_000;
        self.0.saturating_sub(earlier.0) >= DAY_NS
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The rest, 0 to 999,999,999.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below 10^9 and not negative"
    )]
    pub const fn nanoseconds(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }
}

/// A device number, `dev_t` as user space sees it on x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceId {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceId {
    /// Device `major`:`minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The 64-bit `dev_t` encoding (`gnu_dev_makedev`).
    #[must_use]
    pub const fn encode(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
    }

    /// From the `dev_t` encoding.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the fields are masked")]
    pub const fn decode(dev: u64) -> Self {
        Self {
            major: (((dev >> 8) & 0xfff) | ((dev >> 32) & 0xffff_f000)) as u32,
            minor: ((dev & 0xff) | ((dev >> 12) & 0xffff_ff00)) as u32,
        }
    }
}

/// An inode's attributes. `st_dev` is not here: it is the superblock's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "inode(7) documents each name")]
pub struct Metadata {
    pub ino: u64,
    pub kind: FileKind,
    /// `st_mode` has no type bits: an eventfd and its kin, which are regular files only to the kernel.
    pub is_typeless: bool,
    /// Permission bits, set-id bits and sticky bit; no type bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: Kuid,
    pub gid: Kgid,
    /// In bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of a transfer in bytes.
    pub block_size: u32,
    /// What a device node stands for; zero for anything else.
    pub rdev: DeviceId,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
}

impl Metadata {
    /// A file of `kind` with size 0, one link, owned by root, all times 1970.
    #[must_use]
    pub const fn new(ino: u64, kind: FileKind, mode: u32) -> Self {
        Self {
            ino,
            kind,
            is_typeless: false,
            mode,
            nlink: 1,
            uid: Kuid::ROOT,
            gid: Kgid::ROOT,
            size: 0,
            blocks: 0,
            block_size: 4096,
            rdev: DeviceId::new(0, 0),
            atime: Timestamp(0),
            mtime: Timestamp(0),
            ctime: Timestamp(0),
        }
    }

    /// Takes in all that `change` names but the size, which is the contents'.
    pub(crate) fn apply(&mut self, change: &SetAttr) {
        self.mode = change.mode.unwrap_or(self.mode);
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
        self.atime = change.atime.unwrap_or(self.atime);
        self.mtime = change.mtime.unwrap_or(self.mtime);
        self.ctime = change.ctime.unwrap_or(self.ctime);
    }

    /// `st_mode`: type and permission bits.
    #[must_use]
    pub const fn st_mode(&self) -> u32 {
        if self.is_typeless {
            self.mode
        } else {
            self.kind.mode_bits() | self.mode
        }
    }
}

/// Attributes to change; `None` leaves one as it is. Permission was checked by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits, set-id bits and sticky bit.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<Kuid>,
    /// Group.
    pub gid: Option<Kgid>,
    /// Length in bytes: truncates, or extends with a hole.
    pub size: Option<u64>,
    /// Time of last access.
    pub atime: Option<Timestamp>,
    /// Time of last modification.
    pub mtime: Option<Timestamp>,
    /// Time of the change itself, for an inode's `ctime`.
    pub ctime: Option<Timestamp>,
}

/// What statfs(2) tells about a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "statfs(2) documents each name")]
pub struct StatFs {
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u64,
}

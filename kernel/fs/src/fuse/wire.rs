//! The FUSE protocol as it is on the wire (version 7.31 and later, fuse(4)): operation numbers
//! and structures. All integers are in the byte order of the machine, which both ends share.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Protocol version spoken.
pub(super) const MAJOR: u32 = 7;
/// Minor version spoken; a server answers with its own if that is lower.
pub(super) const MINOR: u32 = 31;
/// The oldest minor version whose structures are those below.
pub(super) const OLDEST_MINOR: u32 = 27;
/// The node id of the root directory.
pub(super) const ROOT_ID: u64 = 1;
/// The node id of no directory: LOOKUP finds there what our file server has attached beside its root.
pub(super) const NOWHERE: u64 = 0;

/// Operation numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Op {
    Lookup = 1,
    Forget = 2,
    GetAttr = 3,
    SetAttr = 4,
    ReadLink = 5,
    Symlink = 6,
    MkNod = 8,
    MkDir = 9,
    Unlink = 10,
    RmDir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    StatFs = 17,
    Release = 18,
    FSync = 20,
    SetXattr = 21,
    GetXattr = 22,
    ListXattr = 23,
    RemoveXattr = 24,
    Flush = 25,
    Init = 26,
    OpenDir = 27,
    ReadDir = 28,
    ReleaseDir = 29,
    FSyncDir = 30,
    GetLk = 31,
    SetLk = 32,
    Create = 35,
    BatchForget = 42,
    FAllocate = 43,
    Rename2 = 45,
    LSeek = 46,
    SyncFs = 50,
    TmpFile = 51,
}

/// `FUSE_INIT` flags that are asked for.
pub(super) mod init {
    pub(in crate::fuse) const ASYNC_READ: u32 = 1 << 0;
    pub(in crate::fuse) const POSIX_LOCKS: u32 = 1 << 1;
    pub(in crate::fuse) const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub(in crate::fuse) const BIG_WRITES: u32 = 1 << 5;
    pub(in crate::fuse) const DONT_MASK: u32 = 1 << 6;
    pub(in crate::fuse) const FLOCK_LOCKS: u32 = 1 << 10;
    pub(in crate::fuse) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(in crate::fuse) const MAX_PAGES: u32 = 1 << 22;
}

/// Which fields of [`SetAttrIn`] count (`FATTR_*`).
pub(super) mod fattr {
    pub(in crate::fuse) const MODE: u32 = 1 << 0;
    pub(in crate::fuse) const UID: u32 = 1 << 1;
    pub(in crate::fuse) const GID: u32 = 1 << 2;
    pub(in crate::fuse) const SIZE: u32 = 1 << 3;
    pub(in crate::fuse) const ATIME: u32 = 1 << 4;
    pub(in crate::fuse) const MTIME: u32 = 1 << 5;
}

/// `FOPEN_*` flags of an open reply.
pub(super) mod fopen {
    pub(in crate::fuse) const DIRECT_IO: u32 = 1 << 0;
    pub(in crate::fuse) const KEEP_CACHE: u32 = 1 << 1;
}

/// Declares structures of the wire with all fields public.
macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
            #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub(super) struct $name { $(pub(super) $field: $type,)* }
        )*
    };
}

wire! {
    /// Before every request.
    InHeader {
        len: u32,
        opcode: u32,
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        padding: u32,
    }
    /// Before every reply.
    OutHeader {
        len: u32,
        error: i32,
        unique: u64,
    }
    Attr {
        ino: u64,
        size: u64,
        blocks: u64,
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
        blksize: u32,
        flags: u32,
    }
    EntryOut {
        nodeid: u64,
        generation: u64,
        entry_valid: u64,
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: Attr,
    }
    AttrOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        padding: u32,
        attr: Attr,
    }
    InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    }
    InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        unused: [u32; 7],
    }
    ForgetIn { nlookup: u64, }
    /// Before [`ForgetOne`]s.
    BatchForgetIn { count: u32, padding: u32, }
    ForgetOne { nodeid: u64, nlookup: u64, }
    GetAttrIn { flags: u32, padding: u32, fh: u64, }
    SetAttrIn {
        valid: u32,
        padding: u32,
        fh: u64,
        size: u64,
        lock_owner: u64,
        atime: u64,
        mtime: u64,
        ctime: u64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }
    MkNodIn { mode: u32, rdev: u32, umask: u32, padding: u32, }
    MkDirIn { mode: u32, umask: u32, }
    RenameIn { newdir: u64, }
    Rename2In { newdir: u64, flags: u32, padding: u32, }
    LinkIn { oldnodeid: u64, }
    OpenIn { flags: u32, open_flags: u32, }
    CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32, }
    OpenOut { fh: u64, open_flags: u32, padding: u32, }
    ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64, }
    FlushIn { fh: u64, unused: u32, padding: u32, lock_owner: u64, }
    FSyncIn { fh: u64, flags: u32, padding: u32, }
    /// Of READ, READDIR and READDIRPLUS.
    ReadIn {
        fh: u64,
        offset: u64,
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    WriteIn {
        fh: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    WriteOut { size: u32, padding: u32, }
    StatFsOut {
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }
    SetXattrIn { size: u32, flags: u32, }
    /// Of GETXATTR and LISTXATTR.
    GetXattrIn { size: u32, padding: u32, }
    GetXattrOut { size: u32, padding: u32, }
    /// A lock on bytes up to and with `end`; `pid` is 0 for an owner that is not here.
    FileLk { start: u64, end: u64, kind: u32, pid: u32, }
    LkIn { fh: u64, owner: u64, lk: FileLk, lk_flags: u32, padding: u32, }
    LkOut { lk: FileLk, }
    FAllocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32, }
    SyncFsIn { padding: u64, }
    LSeekIn { fh: u64, offset: u64, whence: u32, padding: u32, }
    LSeekOut { offset: u64, }
    /// A directory entry; the name follows, padded to 8 bytes.
    DirEnt { ino: u64, off: u64, namelen: u32, kind: u32, }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_protocol() {
        assert_eq!(size_of::<InHeader>(), 40);
        assert_eq!(size_of::<OutHeader>(), 16);
        assert_eq!(size_of::<Attr>(), 88);
        assert_eq!(size_of::<EntryOut>(), 128);
        assert_eq!(size_of::<AttrOut>(), 104);
        assert_eq!(size_of::<InitOut>(), 64);
        assert_eq!(size_of::<SetAttrIn>(), 88);
        assert_eq!(size_of::<ReadIn>(), 40);
        assert_eq!(size_of::<WriteIn>(), 40);
        assert_eq!(size_of::<StatFsOut>(), 80);
        assert_eq!(size_of::<DirEnt>(), 24);
        assert_eq!(size_of::<LkIn>(), 48);
    }
}

//! getdents64, getdents, getcwd, chdir, fchdir, chroot.

use abi::{Errno, Result};
use collections::Vec;
use fs::permission::{self, Access};
use fs::{Capabilities, DirSink, FileKind, LookupFlags, Path};
use machine::UserAddr;
use memory::user;

use super::{AT_FDCWD, Names, file_arg};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(78, "getdents", sys_getdents),
    Entry::new(79, "getcwd", sys_getcwd),
    Entry::new(80, "chdir", sys_chdir),
    Entry::new(81, "fchdir", sys_fchdir),
    Entry::new(161, "chroot", sys_chroot),
    Entry::new(217, "getdents64", sys_getdents64),
];

/// Bytes of entries made before they are copied out.
const BUFFER: usize = 32 * 1024;

/// Where a record's parts go: `struct linux_dirent64`, or the older one with the type at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    New,
    Old,
}

/// Entries as user space reads them.
struct Records {
    bytes: Vec<u8>,
    room: usize,
    layout: Layout,
    refused: bool,
    /// There was no memory.
    failed: bool,
}

impl DirSink for Records {
    fn add(&mut self, name: &[u8], ino: u64, kind: FileKind, next: u64) -> bool {
        // Two words, the length, the type byte, the name and its NUL.
        let len = (8 + 8 + 2 + 1 + name.len() + 1).next_multiple_of(8);
        if self.bytes.len() + len > self.room {
            self.refused = true;
            return false;
        }
        let start = self.bytes.len();
        if self.bytes.try_resize(start + len, 0).is_err() {
            self.failed = true;
            return false;
        }
        let mut at = start;
        let mut put = |field: &[u8]| {
            self.bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&ino.to_ne_bytes());
        put(&next.to_ne_bytes());
        // A name has at most 255 bytes.
        put(&u16::try_from(len).unwrap_or(0).to_ne_bytes());
        if self.layout == Layout::New {
            put(&[kind.dirent_type()]);
        }
        put(name);
        if self.layout == Layout::Old {
            self.bytes[start + len - 1] = kind.dirent_type();
        }
        true
    }
}

fn sys_getdents64(cx: &mut Context<'_>) -> Result<u64> {
    getdents(cx, Layout::New)
}

fn sys_getdents(cx: &mut Context<'_>) -> Result<u64> {
    getdents(cx, Layout::Old)
}

fn getdents(cx: &Context<'_>, layout: Layout) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let room = usize::try_from(cx.int(2)).map_err(|_| Errno::EINVAL)?;
    let mut records = Records {
        bytes: Vec::new(),
        room: room.min(BUFFER),
        layout,
        refused: false,
        failed: false,
    };
    let position = file.position();
    file.read_dir(&mut records)?;
    if records.bytes.is_empty() {
        return match records {
            Records { failed: true, .. } => Err(Errno::ENOMEM),
            Records { refused: true, .. } => Err(Errno::EINVAL),
            _ => Ok(0),
        };
    }
    let Err(errno) = user::write_bytes(cx.addr(1), &records.bytes) else {
        return Ok(records.bytes.len() as u64);
    };
    let (given, next) = give_whole_records(cx.addr(1), &records.bytes);
    // What was not handed over is read again.
    let position = next.unwrap_or(position);
    if let Ok(position) = i64::try_from(position) {
        let _ = file.seek(fs::Seek::Set(position));
    }
    if given > 0 { Ok(given) } else { Err(errno) }
}

/// Copies out records until one does not fit the memory that is there: bytes, and the position behind them.
fn give_whole_records(to: UserAddr, records: &[u8]) -> (u64, Option<u64>) {
    let (mut given, mut next) = (0, None);
    while let Some([_, _, _, _, _, _, _, _, position @ .., low, high]) =
        records.get(given..given + 18)
    {
        let len = usize::from(u16::from_ne_bytes([*low, *high]));
        let Some(record) = records.get(given..given + len) else {
            break;
        };
        if user::write_bytes(UserAddr(to.0 + given as u64), record).is_err() {
            break;
        }
        next = position.try_into().ok().map(u64::from_ne_bytes);
        given += len;
    }
    (given as u64, next)
}

fn sys_getcwd(cx: &mut Context<'_>) -> Result<u64> {
    let fs = cx.fs();
    let cwd = fs.cwd();
    if cwd.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    let (spelt, is_below) = cwd.spell(&fs.root())?;
    let prefix: &[u8] = if is_below { b"" } else { b"(unreachable)" };
    let mut all = Vec::try_with_capacity(prefix.len() + spelt.len() + 1)?;
    for part in [prefix, &spelt, &[0]] {
        all.try_extend_from_slice(part)?;
    }
    let spelt = all;
    if spelt.len() > cx.size(1) {
        return Err(Errno::ERANGE);
    }
    user::write_bytes(cx.addr(0), &spelt)?;
    Ok(spelt.len() as u64)
}

fn sys_chdir(cx: &mut Context<'_>) -> Result<u64> {
    let names = Names::of(cx);
    let path = directory(cx, &names, cx.addr(0))?;
    names.fs().set_cwd(path).map(|()| 0)
}

fn sys_fchdir(cx: &mut Context<'_>) -> Result<u64> {
    let file = file_arg(cx, 0)?;
    let path = file
        .path()
        .filter(|path| path.dentry.is_directory())
        .ok_or(Errno::ENOTDIR)?;
    let names = Names::of(cx);
    permission::check_path(path, names.credentials(), Access::EXEC)?;
    names.fs().set_cwd(path.clone()).map(|()| 0)
}

fn sys_chroot(cx: &mut Context<'_>) -> Result<u64> {
    let names = Names::of(cx);
    let path = directory(cx, &names, cx.addr(0))?;
    if !names.credentials().own_ns_capable(Capabilities::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    names.fs().set_root(path).map(|()| 0)
}

/// A directory that the caller may search.
fn directory(cx: &Context<'_>, names: &Names<'_>, addr: UserAddr) -> Result<Path> {
    let flags = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let path = names.lookup(cx, AT_FDCWD, addr, flags)?;
    permission::check_path(&path, names.credentials(), Access::EXEC)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_aligned_and_stop_when_full() {
        let mut records = Records {
            bytes: Vec::new(),
            room: 56,
            layout: Layout::New,
            refused: false,
            failed: false,
        };
        assert!(records.add(b"a", 7, FileKind::Directory, 1));
        assert_eq!(records.bytes.len(), 24);
        assert_eq!(
            (records.bytes[16], records.bytes[18], records.bytes[19]),
            (24, 4, b'a')
        );
        assert!(records.add(b"longer-name", 8, FileKind::Regular, 2));
        assert_eq!(records.bytes.len(), 56);
        assert!(!records.add(b"b", 9, FileKind::Regular, 3));
        assert!(records.refused);
    }

    #[test]
    fn the_old_layout_has_the_type_at_the_end() {
        let mut records = Records {
            bytes: Vec::new(),
            room: 100,
            layout: Layout::Old,
            refused: false,
            failed: false,
        };
        assert!(records.add(b"ab", 7, FileKind::Symlink, 1));
        assert_eq!(&records.bytes[18..24], b"ab\0\0\0\x0a");
    }
}

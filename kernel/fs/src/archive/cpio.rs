//! Unpacking a cpio archive into the root file system, as Linux does.
//!
//! Contents are copied: in a cpio archive they begin anywhere. What an entry lies in stands before it. An entry that is
//! there already takes the place of the earlier one, but a directory stays the one it was.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Map, Vec};
use initramfs::cpio::{Cpio, CpioEntry, CpioKind, is_compressed};

use crate::inode::{Inode, NewInode, NewKind};
use crate::metadata::{DeviceId, FileKind, SetAttr, Timestamp};
use crate::tmpfs::{TmpFs, TmpInode};
use crate::user_namespace::{Kgid, Kuid, UserNamespace};

/// Files with several names, by what their entries have in common.
type Links = Map<(u32, u32, u32), Arc<TmpInode>>;

/// Why the kernel does not start from memory that begins so.
pub(super) fn why_not(image: &[u8]) -> Option<&'static str> {
    is_compressed(image)
        .then_some("it is compressed, which the kernel does not undo; decompress it")
}

/// Makes everything that is in the archives of `image`.
///
/// # Errors
/// `EINVAL` for an archive that is broken (the log says how), `ENOSPC` and `ENOMEM` when memory is too small for it.
pub(super) fn unpack(image: &[u8], fs: &TmpFs) -> Result<()> {
    let mut links = Links::new();
    let mut directories = Vec::new();
    for entry in Cpio::new(image) {
        let entry = entry.map_err(|error| {
            machine::log!("initramfs: {}", error);
            Errno::EINVAL
        })?;
        let inode = place(&entry, fs, &mut links).inspect_err(|errno| {
            let path = core::str::from_utf8(entry.path()).unwrap_or("(a name that is not UTF-8)");
            machine::log!(
                "initramfs: {} of the cpio archive cannot be made: {}",
                path,
                errno
            );
        })?;
        set_attributes(&entry, &inode)?;
        if entry.kind == CpioKind::Directory {
            // What is made in it changes its times.
            directories.try_push((entry, inode))?;
        }
        sched::cond_resched();
    }
    for (entry, inode) in &directories {
        set_attributes(entry, inode)?;
    }
    Ok(())
}

/// The inode of an entry, in its place.
fn place(entry: &CpioEntry<'_>, fs: &TmpFs, links: &mut Links) -> Result<Arc<TmpInode>> {
    let mut directory = fs.root_inode().clone();
    let mut names = entry.names().peekable();
    let mut last = None;
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            last = Some(name);
            break;
        }
        directory = directory.child(name)?;
    }
    let Some(name) = last else {
        // The root itself.
        return match entry.kind {
            CpioKind::Directory => Ok(directory),
            _ => Err(Errno::EISDIR),
        };
    };
    match directory.child(name) {
        Ok(earlier) if earlier.kind() == FileKind::Directory => {
            return match entry.kind {
                CpioKind::Directory => Ok(earlier),
                _ => Err(Errno::EISDIR),
            };
        }
        Ok(earlier) => {
            let earlier: Arc<dyn Inode> = earlier;
            directory.unlink(name, &earlier)?;
        }
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    make(entry, fs, &directory, name, links)
}

/// Makes an entry, or a further name of one, as `name` in `directory`.
fn make(
    entry: &CpioEntry<'_>,
    fs: &TmpFs,
    directory: &Arc<TmpInode>,
    name: &[u8],
    links: &mut Links,
) -> Result<Arc<TmpInode>> {
    let known = entry.link.and_then(|link| links.get(&link).cloned());
    let inode = match known {
        Some(inode) => {
            let as_inode: Arc<dyn Inode> = inode.clone();
            directory.link(name, &as_inode)?;
            inode
        }
        None => {
            let inode = new_inode(entry, fs)?;
            directory.insert(name, &inode)?;
            if let Some(link) = entry.link {
                links.try_insert(link, inode.clone())?;
            }
            inode
        }
    };
    match entry.kind {
        CpioKind::File(contents) if !contents.is_empty() => inode.fill(contents)?,
        _ => {}
    }
    Ok(inode)
}

fn new_inode(entry: &CpioEntry<'_>, fs: &TmpFs) -> Result<Arc<TmpInode>> {
    let device = |kind, major, minor| NewKind::Device(kind, DeviceId::new(major, minor));
    let kind = match entry.kind {
        CpioKind::Directory => NewKind::Directory,
        CpioKind::File(_) => NewKind::Regular,
        CpioKind::Symlink(target) => NewKind::Symlink(target),
        CpioKind::CharDevice(major, minor) => device(FileKind::CharDevice, major, minor),
        CpioKind::BlockDevice(major, minor) => device(FileKind::BlockDevice, major, minor),
        CpioKind::Fifo => NewKind::Fifo,
        CpioKind::Socket => NewKind::Socket,
    };
    let (uid, gid) = owner_of(entry);
    let new = NewInode {
        kind,
        mode: entry.mode,
        uid,
        gid,
        acls: crate::acl::NewAcls::default(),
    };
    TmpInode::new(fs.usage(), &new)
}

fn owner_of(entry: &CpioEntry<'_>) -> (Kuid, Kgid) {
    let initial = UserNamespace::INITIAL;
    (
        initial.kuid(entry.uid).unwrap_or(Kuid::INVALID),
        initial.kgid(entry.gid).unwrap_or(Kgid::INVALID),
    )
}

fn set_attributes(entry: &CpioEntry<'_>, inode: &Arc<TmpInode>) -> Result<()> {
    let (uid, gid) = owner_of(entry);
    let is_symlink = matches!(entry.kind, CpioKind::Symlink(_));
    inode.set_attr(&SetAttr {
        mode: (!is_symlink).then_some(entry.mode),
        uid: Some(uid),
        gid: Some(gid),
        mtime: Some(Timestamp::new(i64::from(entry.mtime_s), 0)),
        ..SetAttr::default()
    })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec as StdVec;

    use memory::io::IoWriter;

    use super::*;
    use crate::file_ops::Io;
    use crate::flags::OpenFlags;
    use crate::tmpfs::TmpFsOptions;

    fn entry(path: &str, mode: u32, data: &[u8], (links, inode): (u32, u32)) -> StdVec<u8> {
        let (size, name) = (data.len(), path.len() + 1);
        let header = std::format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{1:08x}{size:08x}\
             {0:08x}{0:08x}{0:08x}{0:08x}{name:08x}{0:08x}",
            0,
            77
        );
        let mut bytes = header.into_bytes();
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Path, mode, contents, and the number of names and of the file.
    type Made<'m> = (&'m str, u32, &'m [u8], (u32, u32));

    fn unpacked(entries: &[Made<'_>]) -> Result<Arc<TmpFs>> {
        let mut image = StdVec::new();
        for (path, mode, data, link) in entries {
            image.extend(entry(path, *mode, data, *link));
        }
        image.extend(entry("TRAILER!!!", 0, b"", (1, 0)));
        let fs = TmpFs::new("rootfs", &TmpFsOptions::default())?;
        unpack(&image, &fs).map(|()| fs)
    }

    fn at(fs: &TmpFs, path: &str) -> Result<Arc<TmpInode>> {
        path.split('/')
            .try_fold(fs.root_inode().clone(), |at, name| {
                at.child(name.as_bytes())
            })
    }

    fn contents(fs: &TmpFs, path: &str) -> StdVec<u8> {
        let inode: Arc<dyn Inode> = at(fs, path).unwrap();
        let mut bytes = vec![0; 20_000];
        let file = inode.open(OpenFlags::empty()).unwrap();
        let count = file.read(&mut IoWriter::kernel(&mut bytes), &Io::default());
        bytes.truncate(count.unwrap());
        bytes
    }

    const ALONE: (u32, u32) = (1, 0);

    #[test]
    fn a_tree_is_made_as_it_stands_in_the_archive() {
        let long: StdVec<u8> = (0..10_001u32).map(|at| (at % 251) as u8).collect();
        let fs = unpacked(&[
            (".", 0o040_711, b"", ALONE),
            ("bin", 0o040_750, b"", ALONE),
            ("bin/long", 0o104_755, &long, ALONE),
            ("bin/first", 0o100_644, b"", (2, 9)),
            ("bin/second", 0o100_644, b"both", (2, 9)),
            ("link", 0o120_777, b"bin/long", ALONE),
            ("bin/again", 0o100_644, b"earlier, and longer", ALONE),
            ("bin/again", 0o100_600, b"later", ALONE),
        ])
        .unwrap();
        assert_eq!(contents(&fs, "bin/long"), long);
        assert_eq!(contents(&fs, "bin/first"), b"both");
        assert_eq!(contents(&fs, "bin/again"), b"later");
        let meta = |path| at(&fs, path).unwrap().metadata().unwrap();
        assert_eq!(meta("bin/second").nlink, 2);
        assert_eq!(meta("bin/long").st_mode(), 0o104_755);
        assert_eq!(meta("bin").st_mode(), 0o040_750);
        assert_eq!(meta("bin").mtime, Timestamp::new(77, 0));
        assert_eq!(fs.root_inode().metadata().unwrap().st_mode(), 0o040_711);
        assert_eq!(meta("link").kind, FileKind::Symlink);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |entries: &[Made<'_>]| unpacked(entries).map(drop);
        let file = 0o100_644;
        assert_eq!(refused(&[("bin/sh", file, b"", ALONE)]), Err(Errno::ENOENT));
        let below_file = [("a", file, &b""[..], ALONE), ("a/b", file, b"", ALONE)];
        assert_eq!(refused(&below_file), Err(Errno::ENOTDIR));
        let below_link = [
            ("a", 0o120_777, &b"/"[..], ALONE),
            ("a/b", file, b"", ALONE),
        ];
        assert_eq!(refused(&below_link), Err(Errno::ENOTDIR));
        let over_directory = [("a", 0o040_755, &b""[..], ALONE), ("a", file, b"", ALONE)];
        assert_eq!(refused(&over_directory), Err(Errno::EISDIR));
        assert_eq!(refused(&[(".", file, b"", ALONE)]), Err(Errno::EISDIR));
        assert_eq!(refused(&[("../a", file, b"", ALONE)]), Err(Errno::EINVAL));
    }

    #[test]
    fn an_archive_that_memory_is_too_small_for_is_refused() {
        let options = TmpFsOptions {
            mode: 0o755,
            pages_max: 2,
            ..TmpFsOptions::default()
        };
        let fs = TmpFs::new("rootfs", &options).unwrap();
        let mut image = entry("a", 0o100_644, &[1; 20_000], ALONE);
        image.extend(entry("TRAILER!!!", 0, b"", ALONE));
        assert_eq!(unpack(&image, &fs), Err(Errno::ENOSPC));
        assert_eq!(
            why_not(b"\x1f\x8b\x08"),
            Some("it is compressed, which the kernel does not undo; decompress it")
        );
    }
}

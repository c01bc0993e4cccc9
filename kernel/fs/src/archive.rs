//! The root file system: a tmpfs that starts with the files of the initramfs archive, ours or a [`cpio`] one.
//!
//! Contents stay where the host put them: pages of the archive are read and mapped in place, and a page is
//! copied when it is first written to. So a writable root costs a few inodes, not the files' bytes.

mod cpio;

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use initramfs::{Archive, Entry, Kind};

use crate::device::DevTmpFs;
use crate::file_system::{FileSystemType, MountRequest, SuperBlock, register};
use crate::flags::MountFlags;
use crate::inode::{NewInode, NewKind};
use crate::metadata::{SetAttr, Timestamp};
use crate::mount::MountNamespace;
use crate::path::Path;
use crate::sysfs::SysFsType;
use crate::tmpfs::{TmpFs, TmpFsOptions, TmpFsType, TmpInode};
use crate::user_namespace::{Kgid, Kuid, UserNamespace};

/// Registers the file systems and devices of this layer. Once, at start-up.
///
/// # Errors
/// `ENOMEM`.
pub fn init() -> Result<()> {
    register(try_arc(TmpFsType)?)?;
    register(try_arc(DevTmpFs)?)?;
    register(try_arc(SysFsType)?)?;
    crate::device::register_memory_devices()
}

/// The first mount namespace: the archive's files, and devtmpfs on /dev. An empty archive is an empty root.
///
/// # Errors
/// `EINVAL` for an archive that is broken (the log says how), `ENOSPC` when memory is too small for it.
pub fn root_namespace(image: &'static [u8]) -> Result<Arc<MountNamespace>> {
    let options = TmpFsOptions {
        mode: 0o755,
        ..TmpFsOptions::default()
    };
    let fs = TmpFs::new("rootfs", &options)?;
    if initramfs::cpio::is_cpio(image) {
        cpio::unpack(image, &fs)?;
    } else if !image.is_empty() {
        let archive = Archive::new(image).map_err(|error| {
            match cpio::why_not(image) {
                Some(reason) => machine::log!("initramfs: {}", reason),
                None => machine::log!("initramfs: {}", error),
            }
            Errno::EINVAL
        })?;
        unpack(&archive, &fs)?;
    }
    make_directory(&fs, DEV)?;
    let super_block = SuperBlock::new(fs)?;
    let namespace = MountNamespace::new(&super_block, b"rootfs", MountFlags::empty())?;
    let root = namespace.root()?;
    let dev = crate::walk::find_child(&root.dentry, DEV, false)?;
    let at = Path {
        mount: root.mount.clone(),
        dentry: dev,
    };
    let devices = DevTmpFs.mount(&MountRequest {
        source: b"devtmpfs",
        data: b"",
    })?;
    namespace.mount(&at, &devices, b"devtmpfs", MountFlags::NOSUID)?;
    Ok(namespace)
}

/// Where the devices are.
const DEV: &[u8] = b"dev";

/// Makes a directory in the root unless it is there.
fn make_directory(fs: &TmpFs, name: &[u8]) -> Result<()> {
    let root = fs.root_inode();
    if root.child(name).is_err() {
        let new = NewInode {
            kind: NewKind::Directory,
            mode: 0o755,
            uid: Kuid::ROOT,
            gid: Kgid::ROOT,
            acls: crate::acl::NewAcls::default(),
        };
        root.insert(name, &TmpInode::new(fs.usage(), &new)?)?;
    }
    Ok(())
}

/// Makes an inode for every entry; contents are not copied.
///
/// # Errors
/// `ENOSPC` when the file system is too small.
pub fn unpack(archive: &Archive<'static>, fs: &TmpFs) -> Result<()> {
    let mtime = Timestamp::new(i64::try_from(archive.mtime_s()).unwrap_or(0), 0);
    let mut made: Vec<Arc<TmpInode>> = Vec::new();
    made.try_reserve_exact(archive.len() as usize)?;
    for entry in archive.entries() {
        let inode = if entry.index() == 0 {
            fs.root_inode().clone()
        } else {
            make(&entry, fs)?
        };
        if entry.index() != 0 {
            // A directory stands before what it holds.
            let parent = made
                .get(entry.parent().index() as usize)
                .ok_or(Errno::EINVAL)?;
            parent.insert(entry.name().as_bytes(), &inode)?;
        }
        made.try_push(inode)?;
    }
    for (entry, inode) in archive.entries().zip(&made) {
        set_attributes(&entry, inode, mtime)?;
    }
    Ok(())
}

/// The archive has numbers of the initial user namespace.
fn owner_of(entry: &Entry<'static>) -> (Kuid, Kgid) {
    let initial = UserNamespace::INITIAL;
    (
        initial.kuid(entry.uid()).unwrap_or(Kuid::INVALID),
        initial.kgid(entry.gid()).unwrap_or(Kgid::INVALID),
    )
}

fn make(entry: &Entry<'static>, fs: &TmpFs) -> Result<Arc<TmpInode>> {
    let owner = owner_of(entry);
    let new = |kind| NewInode {
        kind,
        mode: entry.mode(),
        uid: owner.0,
        gid: owner.1,
        acls: crate::acl::NewAcls::default(),
    };
    match entry.kind() {
        Kind::Directory => TmpInode::new(fs.usage(), &new(NewKind::Directory)),
        Kind::Symlink => TmpInode::new(
            fs.usage(),
            &new(NewKind::Symlink(entry.target().as_bytes())),
        ),
        Kind::File => TmpInode::new_boot_file(
            fs.usage(),
            &new(NewKind::Regular),
            entry.pages(),
            entry.len(),
        ),
    }
}

fn set_attributes(entry: &Entry<'static>, inode: &Arc<TmpInode>, mtime: Timestamp) -> Result<()> {
    use crate::inode::Inode;
    let owner = owner_of(entry);
    inode.set_attr(&SetAttr {
        mode: Some(entry.mode()),
        uid: Some(owner.0),
        gid: Some(owner.1),
        mtime: Some(mtime),
        ..SetAttr::default()
    })
}

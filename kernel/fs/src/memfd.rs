//! memfd_create(2): an unnamed tmpfs file with seals.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;
use machine::sync::SpinLock;

use crate::cred::Credentials;
use crate::file::File;
use crate::file_system::SuperBlock;
use crate::flags::OpenFlags;
use crate::inode::{NewInode, NewKind};
use crate::mount::Mount;
use crate::path::Path;
use crate::tmpfs::{Seals, TmpFile, TmpFs, TmpFsOptions};

/// The longest name, without the prefix and the NUL.
pub const NAME_MAX: usize = 249;

/// The kernel's own tmpfs, mounted nowhere.
static MOUNT: SpinLock<Option<Arc<Mount>>> = SpinLock::new(None);

fn mount() -> Result<Arc<Mount>> {
    if let Some(mount) = &*MOUNT.lock() {
        return Ok(mount.clone());
    }
    let unlimited = TmpFsOptions {
        pages_max: u64::MAX,
        inodes_max: u64::MAX,
        ..TmpFsOptions::default()
    };
    let new = Mount::of(&SuperBlock::new(TmpFs::new("tmpfs", &unlimited)?)?)?;
    Ok(MOUNT.lock().get_or_insert(new).clone())
}

/// Makes an empty file, open for reading and writing, shown as `/memfd:name`.
///
/// # Errors
/// `EINVAL` for too long a name.
pub fn create(
    name: &[u8],
    allow_sealing: bool,
    credentials: &Arc<Credentials>,
) -> Result<Arc<File>> {
    if name.len() > NAME_MAX {
        return Err(Errno::EINVAL);
    }
    let mount = mount()?;
    let new = NewInode {
        kind: NewKind::Regular,
        mode: 0o777,
        uid: credentials.fsuid,
        gid: credentials.fsgid,
        acls: crate::acl::NewAcls::default(),
    };
    let inode = mount
        .root()
        .inode()
        .ok_or(Errno::ENOENT)?
        .create_unnamed(&new, false)?;
    let mut shown = Vec::try_from_slice(b"memfd:")?;
    shown.try_extend_from_slice(name)?;
    let dentry = mount.root().new_unlisted(inode.clone(), &shown)?;
    let ops = inode.open(OpenFlags::RDWR)?;
    let file = File::new(
        Path { mount, dentry },
        ops,
        OpenFlags::RDWR | OpenFlags::LARGEFILE,
        credentials,
    )?;
    if allow_sealing {
        tmp_file(&file)?.allow_seals()?;
    }
    Ok(file)
}

fn tmp_file(file: &File) -> Result<&TmpFile> {
    file.downcast().ok_or(Errno::EINVAL)
}

/// `F_GET_SEALS`.
///
/// # Errors
/// `EINVAL` for a file that cannot have seals.
pub fn seals(file: &File) -> Result<Seals> {
    tmp_file(file)?.seals()
}

/// `F_ADD_SEALS`.
///
/// # Errors
/// `EINVAL` for a file that cannot have seals or an unknown seal, `EPERM` when it is not open for writing or is sealed
/// against seals.
pub fn add_seals(file: &File, seals: u32) -> Result<()> {
    let ops = tmp_file(file)?;
    if !file.flags().is_writable() {
        return Err(Errno::EPERM);
    }
    ops.add_seals(Seals::from_bits(seals).ok_or(Errno::EINVAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory::io::{IoReader, IoWriter};

    fn make(allow_sealing: bool) -> Arc<File> {
        create(b"x", allow_sealing, &Arc::new(Credentials::root())).unwrap()
    }

    #[test]
    fn it_is_a_file_without_a_name() {
        let file = make(false);
        assert_eq!(file.write(&mut IoReader::kernel(b"hello")), Ok(5));
        let mut bytes = [0; 5];
        assert_eq!(
            file.read_at(&mut IoWriter::kernel(&mut bytes), &file.io_at(0)),
            Ok(5)
        );
        assert_eq!(&bytes, b"hello");
        let root = file.path().unwrap().mount.root_path();
        assert_eq!(file.display(&root).unwrap(), b"/memfd:x (deleted)");
        assert_eq!(file.metadata().unwrap().nlink, 0);
    }

    #[test]
    fn seals_hold() {
        let sealed = make(false);
        assert_eq!(seals(&sealed), Ok(Seals::SEAL));
        assert_eq!(add_seals(&sealed, Seals::WRITE.bits()), Err(Errno::EPERM));
        let file = make(true);
        assert_eq!(file.write(&mut IoReader::kernel(b"hello")), Ok(5));
        add_seals(&file, (Seals::GROW | Seals::SHRINK).bits()).unwrap();
        assert_eq!(file.write(&mut IoReader::kernel(b"x")), Err(Errno::EPERM));
        assert_eq!(
            file.write_at(&mut IoReader::kernel(b"x"), &mut file.io_at(0)),
            Ok(1)
        );
        add_seals(&file, Seals::WRITE.bits()).unwrap();
        assert_eq!(
            file.write_at(&mut IoReader::kernel(b"x"), &mut file.io_at(0)),
            Err(Errno::EPERM)
        );
    }
}

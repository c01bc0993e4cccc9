//! The path operations on a real tmpfs: walks, creation, removal, rename, attributes, mounts.
//! Expected errors are Linux's, as the man pages give them and as tried on one.

use super::*;
use crate::context::FsContext;
use crate::cred::Credentials;
use crate::file::File;
use crate::file_system::SuperBlock;
use crate::flags::{LookupFlags, MountFlags, OpenFlags};
use crate::metadata::Metadata;
use crate::mount::MountNamespace;
use crate::path::Path;
use crate::tmpfs::{TmpFs, TmpFsOptions};
use crate::walk::Caller;
use abi::{Errno, Result};
use alloc::sync::Arc;
use memory::io::{IoReader, IoWriter};
use std::vec::Vec;

mod fuzz;
mod mounts;
mod names;
mod permissions;
mod races;
mod renames;
mod tmpfs;
mod walks;

/// A user at the root of an empty tmpfs.
struct World {
    fs: Arc<FsContext>,
    credentials: Arc<Credentials>,
}

impl World {
    fn new() -> Self {
        let options = TmpFsOptions {
            mode: 0o755,
            ..TmpFsOptions::default()
        };
        Self::on(&SuperBlock::new(TmpFs::new("tmpfs", &options).unwrap()).unwrap())
    }

    fn on(super_block: &Arc<SuperBlock>) -> Self {
        let namespace = MountNamespace::new(super_block, b"none", MountFlags::empty()).unwrap();
        Self {
            fs: FsContext::new(&namespace).unwrap(),
            credentials: Arc::new(Credentials::root()),
        }
    }

    /// The same place, as another user.
    fn as_user(&self, uid: u32, gid: u32) -> World {
        World {
            fs: self.fs.clone(),
            credentials: Arc::new(Credentials::user(uid, gid)),
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            fs: &self.fs,
            credentials: &self.credentials,
        }
    }

    fn cwd(&self) -> Path {
        self.fs.cwd()
    }

    fn find(&self, path: &str) -> Result<Path> {
        self.caller()
            .lookup(&self.cwd(), path.as_bytes(), LookupFlags::FOLLOW)
    }

    fn find_link(&self, path: &str) -> Result<Path> {
        self.caller()
            .lookup(&self.cwd(), path.as_bytes(), LookupFlags::empty())
    }

    fn stat(&self, path: &str) -> Result<Metadata> {
        self.find_link(path)?.metadata()
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        self.caller().mkdir(&self.cwd(), path.as_bytes(), 0o755)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.caller()
            .symlink(target.as_bytes(), &self.cwd(), path.as_bytes())
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        self.caller()
            .link(&self.find_link(old)?, &self.cwd(), new.as_bytes())
    }

    fn unlink(&self, path: &str) -> Result<()> {
        self.caller().unlink(&self.cwd(), path.as_bytes())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        self.caller().rmdir(&self.cwd(), path.as_bytes())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    fn rename_with(&self, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        let cwd = self.cwd();
        self.caller()
            .rename((&cwd, from.as_bytes()), (&cwd, to.as_bytes()), flags)
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>> {
        self.open_with(path, flags, LookupFlags::empty())
    }

    fn open_with(&self, path: &str, flags: OpenFlags, resolve: LookupFlags) -> Result<Arc<File>> {
        let how = OpenHow {
            flags,
            mode: 0o644,
            resolve,
        };
        self.caller().open(&self.cwd(), path.as_bytes(), &how)
    }

    /// Makes or overwrites a file.
    fn write(&self, path: &str, bytes: &[u8]) {
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::TRUNC;
        let file = self.open(path, flags).unwrap();
        assert_eq!(file.write(&mut IoReader::kernel(bytes)), Ok(bytes.len()));
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.open(path, OpenFlags::empty())?;
        let mut bytes = vec![0; 4096];
        let count = file.read(&mut IoWriter::kernel(&mut bytes))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn names(&self, path: &str) -> Vec<String> {
        let file = self.open(path, OpenFlags::DIRECTORY).unwrap();
        let mut names = Names(Vec::new());
        file.read_dir(&mut names).unwrap();
        names.0.retain(|name| name != "." && name != "..");
        names.0.sort();
        names.0
    }

    /// The absolute path of a place.
    fn spell(&self, path: &Path) -> String {
        let (spelt, _) = path.spell(&self.fs.root()).unwrap();
        String::from_utf8(spelt.into_std()).unwrap()
    }
}

struct Names(Vec<String>);

impl crate::file_ops::DirSink for Names {
    fn add(&mut self, name: &[u8], _: u64, _: crate::metadata::FileKind, _: u64) -> bool {
        self.0.push(String::from_utf8_lossy(name).into_owned());
        true
    }
}

//! devpts: `ptmx`, and a node for each pseudo-terminal whose master is open. Each mount is an instance of its own.
//!
//! A `ptmx` outside devpts (devtmpfs has one) makes terminals in the first instance that was mounted.
//! Locking: `ptys` is a leaf.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt::Write;

use abi::{Errno, Result};
use collections::{Map, String, TryCollect, Vec, try_arc, try_arc_cyclic, try_format};
use machine::sync::SpinLock;
use memory::io::IoWriter;

use super::pty::{Master, Pty, SLAVE_MAJOR};
use crate::cred::Credentials;
use crate::device::{self, CharDriver, Reach};
use crate::file::File;
use crate::file_ops::{DirSink, FileOps, Io, Seek, seek_in};
use crate::file_system::{FileSystem, FileSystemType, FsFlags, MountRequest, SuperBlock};
use crate::flags::OpenFlags;
use crate::inode::{Inode, InodeBody};
use crate::metadata::{DeviceId, FileKind, Metadata, SetAttr, StatFs, Timestamp};
use crate::path::Path;
use crate::user_namespace::{Kgid, Kuid, UserNamespace};
use crate::walk::find_child;
use crate::{AnonymousInode, downcast};

const INITIAL: UserNamespace = UserNamespace::INITIAL;

/// `/dev/ptmx`.
const PTMX: DeviceId = DeviceId::new(5, 2);
/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: u64 = 0x1cd1;
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// The terminal with index 0 has this number.
const FIRST_INO: u64 = 3;
const DEFAULT_MAX: u32 = 4096;

/// Options of a mount.
#[derive(Debug, Clone, Copy)]
struct Options {
    mode: u32,
    uid: Option<Kuid>,
    gid: Option<Kgid>,
    ptmx_mode: u32,
    max: u32,
}

impl Options {
    fn parse(request: &MountRequest<'_>) -> Result<Options> {
        let mut options = Options {
            mode: 0o600,
            uid: None,
            gid: None,
            ptmx_mode: 0,
            max: DEFAULT_MAX,
        };
        for (name, value) in request.options() {
            let number = |radix| {
                let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
                u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
            };
            match name {
                b"mode" => options.mode = number(8)? & 0o777,
                b"ptmxmode" => options.ptmx_mode = number(8)? & 0o777,
                b"uid" => options.uid = Some(INITIAL.kuid(number(10)?).ok_or(Errno::EINVAL)?),
                b"gid" => options.gid = Some(INITIAL.kgid(number(10)?).ok_or(Errno::EINVAL)?),
                b"max" => options.max = number(10)?,
                // Every mount is a new instance.
                b"newinstance" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// One mounted devpts.
pub(super) struct DevPts {
    options: Options,
    ptys: SpinLock<Map<u32, Entry>>,
    ptmx: SpinLock<Metadata>,
    this: Weak<DevPts>,
}

/// A terminal and its node.
#[derive(Clone)]
struct Entry {
    pty: Arc<Pty>,
    node: Arc<Node>,
}

static FIRST: SpinLock<Weak<DevPts>> = SpinLock::new(Weak::new());

/// The file system type `devpts`.
#[derive(Debug, Clone, Copy)]
pub struct DevPtsType;

impl FileSystemType for DevPtsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        let instance = DevPts::new(Options::parse(request)?)?;
        let mut first = FIRST.lock();
        if first.strong_count() == 0 {
            *first = Arc::downgrade(&instance);
        }
        drop(first);
        SuperBlock::new(instance)
    }
}

impl DevPts {
    fn new(options: Options) -> Result<Arc<DevPts>> {
        let ptmx = device_node(PTMX_INO, options.ptmx_mode, PTMX);
        Ok(try_arc_cyclic(|this| DevPts {
            options,
            ptys: SpinLock::new(Map::new()),
            ptmx: SpinLock::new(ptmx),
            this: this.clone(),
        })?)
    }

    /// The instance that `path` is in, or the first one.
    fn at(path: &Path) -> Result<Arc<DevPts>> {
        let fs: Arc<dyn Any + Send + Sync> = path.dentry.super_block().fs().clone();
        match fs.downcast::<DevPts>() {
            Ok(instance) => Ok(instance),
            Err(_) => FIRST.lock().upgrade().ok_or(Errno::ENODEV),
        }
    }

    /// A new terminal for `owner`.
    fn make(&self, owner: &Credentials) -> Result<Arc<Pty>> {
        let mut ptys = self.ptys.lock();
        // What is not at its rank has a gap before it.
        let (mut free, mut end) = (0, ptys.len());
        while free < end {
            let middle = free + (end - free) / 2;
            match ptys.nth(middle) {
                Some((index, _)) if usize::try_from(*index) == Ok(middle) => free = middle + 1,
                _ => end = middle,
            }
        }
        let index = u32::try_from(free).map_err(|_| Errno::ENOSPC)?;
        if index >= self.options.max {
            return Err(Errno::ENOSPC);
        }
        let pty = Pty::new(index)?;
        let id = DeviceId::new(SLAVE_MAJOR, index);
        let mut meta = device_node(FIRST_INO + u64::from(index), self.options.mode, id);
        meta.uid = self.options.uid.unwrap_or(owner.fsuid);
        meta.gid = self.options.gid.unwrap_or(owner.fsgid);
        let node = try_arc(Node {
            meta: SpinLock::new(meta),
            body: InodeBody::new(),
        })?;
        let entry = Entry {
            pty: pty.clone(),
            node,
        };
        ptys.try_insert(index, entry)?;
        Ok(pty)
    }

    /// The terminal's master is closed.
    pub(super) fn remove(&self, index: u32) {
        let gone = self.ptys.lock().remove(&index);
        drop(gone);
    }

    fn pty(&self, index: u32) -> Option<Arc<Pty>> {
        self.ptys.lock().get(&index).map(|entry| entry.pty.clone())
    }
}

fn device_node(ino: u64, mode: u32, rdev: DeviceId) -> Metadata {
    let now = Timestamp::now();
    Metadata {
        rdev,
        atime: now,
        mtime: now,
        ctime: now,
        ..Metadata::new(ino, FileKind::CharDevice, mode)
    }
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(try_arc(Root {
            instance: self.this.clone(),
            body: InodeBody::new(),
        })?)
    }

    fn flags(&self) -> FsFlags {
        FsFlags::REVALIDATE | FsFlags::NO_NEGATIVE | FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: MAGIC,
            block_size: 4096,
            name_max: 255,
            ..StatFs::default()
        })
    }

    fn options(&self) -> Result<String> {
        let Options {
            mode,
            uid,
            gid,
            ptmx_mode,
            ..
        } = self.options;
        let uid = uid.map(|uid| ("uid", INITIAL.shown_uid(uid)));
        let gid = gid.map(|gid| ("gid", INITIAL.shown_gid(gid)));
        let mut text = String::new();
        for (name, id) in uid.into_iter().chain(gid) {
            write!(text, ",{name}={id}").map_err(|_| Errno::ENOMEM)?;
        }
        write!(text, ",mode={mode:03o},ptmxmode={ptmx_mode:03o}").map_err(|_| Errno::ENOMEM)?;
        Ok(text)
    }
}

/// A device node.
#[derive(Debug)]
struct Node {
    meta: SpinLock<Metadata>,
    body: InodeBody,
}

impl Inode for Node {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(*self.meta.lock())
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        apply(&mut self.meta.lock(), change)
    }
}

fn apply(meta: &mut Metadata, change: &SetAttr) -> Result<()> {
    if change.size.is_some() {
        return Err(Errno::EINVAL);
    }
    meta.apply(change);
    Ok(())
}

/// `ptmx` of an instance.
struct Ptmx {
    instance: Weak<DevPts>,
    body: InodeBody,
}

impl Inode for Ptmx {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        self.instance
            .upgrade()
            .map(|instance| *instance.ptmx.lock())
            .ok_or(Errno::ENODEV)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let instance = self.instance.upgrade().ok_or(Errno::ENODEV)?;
        apply(&mut instance.ptmx.lock(), change)
    }
}

/// The directory.
struct Root {
    instance: Weak<DevPts>,
    body: InodeBody,
}

impl Root {
    fn instance(&self) -> Result<Arc<DevPts>> {
        self.instance.upgrade().ok_or(Errno::ENODEV)
    }
}

/// The index that a name is written for, without leading zeroes.
fn index_of(name: &[u8]) -> Option<u32> {
    let is_written = match name {
        [b'0'] => true,
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    };
    let text = core::str::from_utf8(name).ok().filter(|_| is_written)?;
    text.parse().ok()
}

impl Inode for Root {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(Metadata {
            nlink: 2,
            ..Metadata::new(ROOT_INO, FileKind::Directory, 0o755)
        })
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let instance = self.instance()?;
        if name == b"ptmx" {
            return Ok(try_arc(Ptmx {
                instance: self.instance.clone(),
                body: InodeBody::new(),
            })?);
        }
        let index = index_of(name).ok_or(Errno::ENOENT)?;
        let found = instance
            .ptys
            .lock()
            .get(&index)
            .map(|entry| entry.node.clone());
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    fn is_current(&self, name: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        if name == b"ptmx" {
            return true;
        }
        let (Ok(now), Some(child)) = (self.lookup(name), child) else {
            return false;
        };
        core::ptr::addr_eq(Arc::as_ptr(&now), Arc::as_ptr(child))
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(try_arc(OpenRoot {
            instance: self.instance()?,
        })?)
    }
}

struct OpenRoot {
    instance: Arc<DevPts>,
}

impl FileOps for OpenRoot {
    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        seek_in(u64::MAX >> 1, position, to)
    }

    fn read(&self, _: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let fixed: [(&[u8], u64, FileKind); 3] = [
            (b".", ROOT_INO, FileKind::Directory),
            (b"..", ROOT_INO, FileKind::Directory),
            (b"ptmx", PTMX_INO, FileKind::CharDevice),
        ];
        let mut at = from;
        for (name, ino, kind) in fixed.into_iter().skip(usize::try_from(from).unwrap_or(3)) {
            if !sink.add(name, ino, kind, at + 1) {
                return Ok(at);
            }
            at += 1;
        }
        // Position 3 + index is that of a terminal.
        let first = u32::try_from(at - 3).unwrap_or(u32::MAX);
        let indices: Vec<u32> = self
            .instance
            .ptys
            .lock()
            .range(first..)
            .map(|(index, _)| *index)
            .try_collect()?;
        for index in indices {
            let (name, number) = (try_format!("{index}")?, u64::from(index));
            if !sink.add(
                name.as_bytes(),
                FIRST_INO + number,
                FileKind::CharDevice,
                number + 4,
            ) {
                return Ok(at);
            }
            at = number + 4;
        }
        Ok(at)
    }
}

/// Opens masters (`ptmx`) and terminals (major 136).
struct Driver;

impl CharDriver for Driver {
    fn open(
        &self,
        id: DeviceId,
        path: &Path,
        flags: OpenFlags,
        credentials: &Arc<Credentials>,
    ) -> Result<Arc<dyn FileOps>> {
        let instance = DevPts::at(path)?;
        if id == PTMX {
            let pty = instance.make(credentials)?;
            return Ok(try_arc(Master::new(pty, path, &instance))?);
        }
        let pty = instance.pty(id.minor).ok_or(Errno::EIO)?;
        pty.open_slave(flags, credentials)
    }
}

/// Registers the file system and its devices.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn register() -> Result<()> {
    crate::file_system::register(try_arc(DevPtsType)?)?;
    let driver = try_arc(Driver)?;
    device::register_char(PTMX, "ptmx", 0o666, Reach::Any, driver.clone())?;
    device::register_major(SLAVE_MAJOR, driver)
}

/// Opens the terminal of an open master (TIOCGPTPEER), for the syscall layer to give a descriptor.
///
/// # Errors
/// `ENOTTY` for a file that is no master, `EIO` for a locked one.
pub fn open_peer(master: &File, flags: OpenFlags) -> Result<Arc<File>> {
    let end: &Master = downcast(master.ops()).ok_or(Errno::ENOTTY)?;
    let ops = end.pty.open_slave(flags, master.credentials())?;
    // In devpts the node is beside the ptmx; elsewhere its mount is not known.
    let name = try_format!("{}", end.pty.index)?;
    let node = end.path.as_ref().and_then(|ptmx| {
        let dentry = find_child(&ptmx.dentry.parent()?, name.as_bytes(), false).ok()?;
        let is_device = dentry.kind() == Some(FileKind::CharDevice);
        is_device.then(|| Path {
            mount: ptmx.mount.clone(),
            dentry,
        })
    });
    let credentials = master.credentials();
    match node {
        Some(path) => File::new(path, ops, flags, credentials),
        None => File::anonymous(AnonymousInode::file_like("tty")?, ops, flags, credentials),
    }
}

//! devpts: `ptmx`, and a node for each pseudo-terminal whose master is open. Each mount is an instance of its own.
//!
//! A `ptmx` outside devpts (devtmpfs has one) makes terminals in the instance that is mounted at `pts` beside it.
//! [`nodes`] are what one sees of an instance. Locking: `ptys` is a leaf.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt::Write;

use abi::{Errno, Result};
use collections::{Map, String, try_arc, try_arc_cyclic, try_format};
use machine::sync::SpinLock;

use super::pty::{Master, Pty, SLAVE_MAJOR};
use crate::cred::Credentials;
use crate::device::{self, CharDriver, Reach};
use crate::file::File;
use crate::file_ops::FileOps;
use crate::file_system::{FileSystem, FileSystemType, FsFlags, MountRequest, SuperBlock};
use crate::flags::OpenFlags;
use crate::inode::Inode;
use crate::metadata::{DeviceId, FileKind, Metadata, StatFs};
use crate::path::Path;
use crate::user_namespace::{Kgid, Kuid, UserNamespace};
use crate::walk::find_child;
use crate::{AnonymousInode, downcast};

mod nodes;

use nodes::{Node, Root, device_node};

const INITIAL: UserNamespace = UserNamespace::INITIAL;

/// `/dev/ptmx`.
const PTMX: DeviceId = DeviceId::new(5, 2);
/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: u64 = 0x1cd1;
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

/// The file system type `devpts`.
#[derive(Debug, Clone, Copy)]
pub struct DevPtsType;

impl FileSystemType for DevPtsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        SuperBlock::new(DevPts::new(Options::parse(request)?)?)
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
        let node = Node::new(&meta)?;
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

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Root::of(self.this.clone())
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

/// The instance that `path` is in.
fn instance_of(path: &Path) -> Option<Arc<DevPts>> {
    let fs: Arc<dyn Any + Send + Sync> = path.dentry.super_block().fs().clone();
    fs.downcast::<DevPts>().ok()
}

/// The instance that is mounted at `pts` beside `ptmx`, and its root there: the one that a `ptmx` outside devpts means, so
/// that who has a `/dev` of their own has terminals of their own (Linux's `devpts_acquire`).
///
/// # Errors
/// `ENOENT` without such a name, `ENODEV` for anything else there.
fn instance_beside(ptmx: &Path) -> Result<(Arc<DevPts>, Path)> {
    let directory = ptmx.dentry.parent().ok_or(Errno::ENOENT)?;
    // What something is mounted on is known.
    let dentry = directory.cached_child(b"pts").ok_or(Errno::ENOENT)?;
    let mount = ptmx.mount.clone();
    let place = Path { mount, dentry }.top();
    let is_root = place.is_mount_root() && place.dentry.parent().is_none();
    let instance = instance_of(&place).filter(|_| is_root);
    Ok((instance.ok_or(Errno::ENODEV)?, place))
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
        let own = instance_of(path);
        if id == PTMX {
            let instance = match own {
                Some(instance) => instance,
                None => instance_beside(path)?.0,
            };
            let pty = instance.make(credentials)?;
            return Ok(try_arc(Master::new(pty, path, &instance))?);
        }
        // The number alone, of a node made elsewhere, says nothing: each instance has its own.
        let pty = own.and_then(|instance| instance.pty(id.minor));
        pty.ok_or(Errno::EIO)?.open_slave(flags, credentials)
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

/// Where the terminal of an open master is, if its devpts can be found from the ptmx that was opened (Linux's
/// `devpts_mntget`).
fn node_of(master: &Master) -> Option<Path> {
    let mut ptmx = master.path.clone()?;
    // Up from a ptmx that is mounted by itself, to what it was mounted on.
    while ptmx.is_mount_root() {
        let Some(below) = ptmx.mount.mounted_on() else {
            break;
        };
        ptmx = below;
    }
    let own = instance_of(&ptmx).filter(|instance| master.is_of(instance));
    let (mount, directory) = match own {
        Some(_) => (ptmx.mount, ptmx.dentry.parent()?),
        None => {
            let (instance, root) = instance_beside(&ptmx).ok()?;
            master
                .is_of(&instance)
                .then_some((root.mount, root.dentry))?
        }
    };
    let name = try_format!("{}", master.pty.index).ok()?;
    let dentry = find_child(&directory, name.as_bytes(), false).ok()?;
    let is_device = dentry.kind() == Some(FileKind::CharDevice);
    is_device.then_some(Path { mount, dentry })
}

/// Opens the terminal of an open master (TIOCGPTPEER), for the syscall layer to give a descriptor.
///
/// # Errors
/// `ENOTTY` for a file that is no master, `EIO` for a locked one.
pub fn open_peer(master: &File, flags: OpenFlags) -> Result<Arc<File>> {
    let end: &Master = downcast(master.ops()).ok_or(Errno::ENOTTY)?;
    let ops = end.pty.open_slave(flags, master.credentials())?;
    let credentials = master.credentials();
    match node_of(end) {
        Some(path) => File::new(path, ops, flags, credentials),
        None => File::anonymous(AnonymousInode::file_like("tty")?, ops, flags, credentials),
    }
}

//! Groups and their files as inodes. One is made each time somebody goes there: what tells two apart is the number, and
//! who owns it stands with the group.

use alloc::sync::Arc;
use core::any::Any;

use abi::{Errno, Result};
use collections::try_arc;
use fs::{FileKind, FileOps, Inode, InodeBody, Metadata, NewInode, NewKind, OpenFlags, SetAttr};

use super::items::{self, Item};
use super::open::{OpenControl, OpenDirectory};
use crate::task::cgroup::{Cgroup, Owner};

/// The directory of a group.
pub(super) struct Directory {
    pub(super) group: Arc<Cgroup>,
    body: InodeBody,
}

/// A file of a group, by its place in the list of files.
pub(super) struct Control {
    pub(super) group: Arc<Cgroup>,
    place: usize,
    item: &'static Item,
    body: InodeBody,
}

impl Directory {
    pub(super) fn new(group: Arc<Cgroup>) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            group,
            body: InodeBody::new(),
        })?)
    }

    /// The group that an inode is the directory of.
    pub(super) fn group_of(inode: &Arc<dyn Inode>) -> Option<Arc<Cgroup>> {
        let any: &dyn Any = inode.as_ref();
        any.downcast_ref::<Self>().map(|own| own.group.clone())
    }
}

/// Takes in what is changed of an owner. Times and sizes are not kept: a file of a group is truncated by shells that
/// write to it.
fn apply(owner: &mut Owner, change: &SetAttr) {
    owner.mode = change.mode.unwrap_or(owner.mode);
    owner.uid = change.uid.unwrap_or(owner.uid);
    owner.gid = change.gid.unwrap_or(owner.gid);
}

fn metadata(group: &Cgroup, ino: u64, kind: FileKind, owner: Owner) -> Metadata {
    let made = group.made();
    Metadata {
        uid: owner.uid,
        gid: owner.gid,
        atime: made,
        mtime: made,
        ctime: made,
        ..Metadata::new(ino, kind, owner.mode)
    }
}

impl Inode for Directory {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn metadata(&self) -> Result<Metadata> {
        let group = &self.group;
        let owner = group.owners.lock().directory;
        Ok(Metadata {
            nlink: u32::try_from(2 + group.child_count()).unwrap_or(u32::MAX),
            ..metadata(group, group.id(), FileKind::Directory, owner)
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        apply(&mut self.group.owners.lock().directory, change);
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let group = &self.group;
        if group.is_removed() {
            return Err(Errno::ENOENT);
        }
        if let Some(place) = items::find(name) {
            let control = Control::new(group.clone(), place)?;
            if control.is_there() {
                return Ok(control);
            }
        }
        let child = group.child(name).ok_or(Errno::ENOENT)?;
        Ok(Self::new(child)?)
    }

    fn is_current(&self, _: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        let Some(child) = child else {
            return false;
        };
        let any: &dyn Any = child.as_ref();
        match (any.downcast_ref::<Self>(), any.downcast_ref::<Control>()) {
            (Some(directory), _) => !directory.group.is_removed(),
            (_, Some(control)) => control.is_there(),
            _ => false,
        }
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        match new.kind {
            NewKind::Directory => {}
            // Files are the kernel's to make.
            NewKind::Regular => return Err(Errno::EACCES),
            _ => return Err(Errno::EPERM),
        }
        // It would not be told apart in /proc/PID/cgroup.
        if name.contains(&b'\n') {
            return Err(Errno::EINVAL);
        }
        memory::pressure::ensure_headroom()?;
        let owner = Owner {
            uid: new.uid,
            gid: new.gid,
            mode: new.mode,
        };
        Ok(Self::new(self.group.make_child(name, owner)?)?)
    }

    fn rmdir(&self, _: &[u8], child: &Arc<dyn Inode>) -> Result<()> {
        Self::group_of(child).ok_or(Errno::ENOTDIR)?.remove()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Ok(try_arc(OpenDirectory(self.group.clone()))?)
    }
}

impl Control {
    pub(super) fn new(group: Arc<Cgroup>, place: usize) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            group,
            place,
            item: items::at(place).ok_or(Errno::ENOENT)?,
            body: InodeBody::new(),
        })?)
    }

    pub(super) fn item(&self) -> &'static Item {
        self.item
    }

    /// Whether the group is there and has it.
    pub(super) fn is_there(&self) -> bool {
        !self.group.is_removed() && self.item().is_of(&self.group)
    }

    fn owner(&self) -> Owner {
        let owners = self.group.owners.lock();
        let own = owners.files.iter().find(|(place, _)| *place == self.place);
        own.map_or(
            Owner {
                mode: self.item().mode(),
                ..owners.made_for
            },
            |(_, owner)| *owner,
        )
    }
}

impl Inode for Control {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn metadata(&self) -> Result<Metadata> {
        let ino = self.group.id() + 1 + self.place as u64;
        Ok(metadata(&self.group, ino, FileKind::Regular, self.owner()))
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if (change.mode, change.uid, change.gid) == (None, None, None) {
            return Ok(());
        }
        let mut owner = self.owner();
        apply(&mut owner, change);
        let mut owners = self.group.owners.lock();
        owners.files.retain(|(place, _)| *place != self.place);
        Ok(owners.files.try_push((self.place, owner))?)
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if !self.is_there() {
            return Err(Errno::ENODEV);
        }
        OpenControl::open(self)
    }
}

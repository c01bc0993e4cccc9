//! devtmpfs: the one tmpfs that has a node for every registered device. All mounts of it show the same tree.

use alloc::sync::Arc;

use abi::Result;
use collections::{TryCollect, Vec};
use machine::sync::SpinLock;

use crate::block::MODE_OF_DISKS;
use crate::file_system::{FileSystemType, MountRequest, SuperBlock};
use crate::inode::{NewInode, NewKind};
use crate::metadata::{DeviceId, FileKind};
use crate::tmpfs::{TmpFs, TmpFsOptions, TmpInode};
use crate::user_namespace::{Kgid, Kuid};

struct Instance {
    fs: Arc<TmpFs>,
    super_block: Arc<SuperBlock>,
}

static INSTANCE: SpinLock<Option<Instance>> = SpinLock::new(None);

/// The type behind `mount -t devtmpfs`.
#[derive(Debug)]
pub struct DevTmpFs;

impl FileSystemType for DevTmpFs {
    fn name(&self) -> &'static str {
        "devtmpfs"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        TmpFsOptions::default().parse(request)?;
        if let Some(instance) = &*INSTANCE.lock() {
            return Ok(instance.super_block.clone());
        }
        let fs = TmpFs::new(
            "devtmpfs",
            &TmpFsOptions {
                mode: 0o755,
                ..TmpFsOptions::default()
            },
        )?;
        let devices: Vec<_> = super::DEVICES
            .lock()
            .iter()
            .map(|(id, device)| (*id, device.clone()))
            .try_collect()?;
        for (id, device) in devices {
            make_node(&fs, FileKind::CharDevice, id, &device.name, device.mode)?;
        }
        for disk in &crate::block::disks()? {
            make_node(
                &fs,
                FileKind::BlockDevice,
                disk.id(),
                disk.name(),
                MODE_OF_DISKS,
            )?;
        }
        let super_block = SuperBlock::new(fs.clone())?;
        let mut instance = INSTANCE.lock();
        let first = instance.get_or_insert(Instance { fs, super_block });
        Ok(first.super_block.clone())
    }
}

/// A device was registered: shows it, if devtmpfs is in use. A name that is taken keeps its node.
pub(super) fn add_node(kind: FileKind, id: DeviceId, name: &str, mode: u32) {
    let fs = INSTANCE.lock().as_ref().map(|instance| instance.fs.clone());
    if let Some(fs) = fs
        && make_node(&fs, kind, id, name, mode).is_err()
    {
        machine::log!("devtmpfs: no memory for the node of {}", name);
    }
}

/// Makes `name` and the directories above it.
fn make_node(fs: &TmpFs, kind: FileKind, id: DeviceId, name: &str, mode: u32) -> Result<()> {
    let (directories, leaf) = name.rsplit_once('/').unwrap_or(("", name));
    let mut directory = fs.root_inode().clone();
    for part in directories.split('/').filter(|part| !part.is_empty()) {
        directory = child_or_new(fs, &directory, part, NewKind::Directory, 0o755)?;
    }
    child_or_new(fs, &directory, leaf, NewKind::Device(kind, id), mode).map(drop)
}

fn child_or_new(
    fs: &TmpFs,
    directory: &Arc<TmpInode>,
    name: &str,
    kind: NewKind<'_>,
    mode: u32,
) -> Result<Arc<TmpInode>> {
    if let Ok(child) = directory.child(name.as_bytes()) {
        return Ok(child);
    }
    let child = TmpInode::new(
        fs.usage(),
        &NewInode {
            kind,
            mode,
            uid: Kuid::ROOT,
            gid: Kgid::ROOT,
            acls: crate::acl::NewAcls::default(),
        },
    )?;
    directory.insert(name.as_bytes(), &child)?;
    Ok(child)
}

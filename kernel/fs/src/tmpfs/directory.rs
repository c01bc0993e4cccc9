//! Entries of a tmpfs directory, by name and in order of making, so that a readdir goes on where it
//! stopped whatever is made and removed meanwhile.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Map, try_arc_slice};

use super::inode::TmpInode;
use crate::file_ops::{DirSink, FileOps, Seek, seek_in};
use crate::inode::Inode;
use crate::metadata::FileKind;

/// Position of the first entry behind `.` and `..`.
const FIRST: u64 = 2;
/// What one entry adds to a directory's `st_size`.
const ENTRY_SIZE: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct Directory {
    by_name: Map<Arc<[u8]>, (u64, Arc<TmpInode>)>,
    /// The same entries, so that a readdir looks up no names.
    by_position: Map<u64, (Arc<[u8]>, Arc<TmpInode>)>,
    made: u64,
    /// Inode number of the directory it is in; 0 for the root.
    parent: u64,
}

impl Directory {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<TmpInode>> {
        self.by_name.get(name).map(|(_, child)| child)
    }

    /// Enters `child`, a directory of number `own_ino` being its parent from now on; nothing of that name is there.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn insert(&mut self, name: &[u8], child: Arc<TmpInode>, own_ino: u64) -> Result<()> {
        let name = try_arc_slice(name)?;
        let position = FIRST + self.made;
        let adopted = child.clone();
        self.by_position
            .try_insert(position, (name.clone(), child.clone()))?;
        if let Err(error) = self.by_name.try_insert(name, (position, child)) {
            self.by_position.remove(&position);
            return Err(error.into());
        }
        self.made += 1;
        adopted.set_parent(own_ino);
        Ok(())
    }

    /// Puts `child` in the place of what is called `name`, if there is something; takes no memory.
    pub(super) fn replace(
        &mut self,
        name: &[u8],
        child: Arc<TmpInode>,
        own_ino: u64,
    ) -> Option<Arc<TmpInode>> {
        let (position, place) = self.by_name.get_mut(name)?;
        child.set_parent(own_ino);
        if let Some((_, child_at)) = self.by_position.get_mut(position) {
            *child_at = child.clone();
        }
        Some(core::mem::replace(place, child))
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let (position, child) = self.by_name.remove(name)?;
        self.by_position.remove(&position);
        Some(child)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn size(&self) -> u64 {
        (self.by_name.len() as u64 + FIRST) * ENTRY_SIZE
    }

    /// Takes some child out, in no order.
    pub(super) fn pop(&mut self) -> Option<Arc<TmpInode>> {
        let (_, (position, child)) = self.by_name.pop_first()?;
        self.by_position.remove(&position);
        Some(child)
    }

    pub(super) fn set_parent(&mut self, ino: u64) {
        self.parent = ino;
    }

    /// The first entry at or behind `position`.
    fn entry_from(&self, position: u64) -> Option<(u64, Arc<[u8]>, Arc<TmpInode>)> {
        let (position, (name, child)) = self.by_position.first_from(&position)?;
        Some((*position, name.clone(), child.clone()))
    }
}

/// An open tmpfs directory.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    inode: Arc<TmpInode>,
}

impl OpenDirectory {
    pub(super) fn new(inode: Arc<TmpInode>) -> Self {
        Self { inode }
    }
}

impl FileOps for OpenDirectory {
    fn read(&self, _: &mut memory::io::IoWriter<'_>, _: &crate::file_ops::Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        match to {
            Seek::Set(_) | Seek::Current(_) => seek_in(0, position, to),
            Seek::End(_) | Seek::Data(_) | Seek::Hole(_) => Err(Errno::EINVAL),
        }
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let directory = self.inode.directory()?;
        if !self.inode.has_names() {
            return Err(Errno::ENOENT);
        }
        let ino = self.inode.ino();
        let mut position = from;
        if position == 0 {
            if !sink.add(b".", ino, FileKind::Directory, 1) {
                return Ok(position);
            }
            position = 1;
        }
        if position == 1 {
            let parent = directory.lock().parent;
            let parent = if parent == 0 { ino } else { parent };
            if !sink.add(b"..", parent, FileKind::Directory, FIRST) {
                return Ok(position);
            }
            position = FIRST;
        }
        loop {
            // The sink may write to user memory: the lock is not held around it.
            let Some((at, name, child)) = directory.lock().entry_from(position) else {
                return Ok(position);
            };
            if !sink.add(&name, child.ino(), child.kind(), at + 1) {
                return Ok(position);
            }
            position = at + 1;
        }
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }
}

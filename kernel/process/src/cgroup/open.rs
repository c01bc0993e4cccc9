//! Open files and directories of groups.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use fs::{DirSink, Events, FileKind, FileOps, Io, PollTable, Seek};
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};

use super::Opener;
use super::inode::Control;
use super::items;
use crate::procfs::text::Text;
use crate::task::cgroup::Cgroup;

/// An open file. Its text is made when it is read from the beginning and kept for the reads that go on.
pub(super) struct OpenControl {
    control: Arc<Control>,
    opener: Opener,
    text: SpinLock<Option<Arc<Text>>>,
    /// How often it had changed when it was last read.
    seen: AtomicU64,
}

/// The longest that is written at once.
const MOST: usize = 4096;

impl OpenControl {
    pub(super) fn open(control: Arc<Control>) -> Result<Arc<dyn FileOps>> {
        Ok(try_arc(Self {
            control,
            opener: Opener::current()?,
            text: SpinLock::new(None),
            seen: AtomicU64::new(0),
        })?)
    }

    /// How often it has changed, and once that it was made.
    fn version(&self) -> u64 {
        let notifier = self.control.item().notifier;
        notifier.map_or(1, |notifier| notifier(&self.control.group).version())
    }

    fn make(&self) -> Result<Arc<Text>> {
        let show = self.control.item().show.ok_or(Errno::EINVAL)?;
        // First: what changes meanwhile is told.
        let version = self.version();
        memory::pressure::ensure_headroom()?;
        let mut text = Text::new();
        show(&self.control.group, &mut text)?;
        let text = try_arc(text)?;
        self.seen.store(version, Ordering::SeqCst);
        let old = self.text.lock().replace(text.clone());
        drop(old);
        Ok(text)
    }
}

impl FileOps for OpenControl {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if !self.control.is_there() {
            return Err(Errno::ENODEV);
        }
        let kept = self.text.lock().clone().filter(|_| io.offset > 0);
        let text = match kept {
            Some(text) => text,
            None => self.make()?,
        };
        let start = usize::try_from(io.offset).unwrap_or(usize::MAX);
        if start >= text.len() {
            return Ok(0);
        }
        text.read(start, to)
    }

    fn write(&self, from: &mut IoReader<'_>, _: &mut Io) -> Result<usize> {
        let control = &self.control;
        let set = control.item().set.ok_or(Errno::EINVAL)?;
        if from.remaining() == 0 {
            return Ok(0);
        }
        if from.remaining() > MOST {
            return Err(Errno::E2BIG);
        }
        let mut bytes = [0; MOST];
        let len = from.read(&mut bytes)?;
        if !control.is_there() {
            return Err(Errno::ENODEV);
        }
        if !control.item().is_delegatable && self.opener.is_delegated(&control.group) {
            return Err(Errno::EPERM);
        }
        // As from C: what is behind a NUL does not count.
        let text = bytes[..len].split(|byte| *byte == 0).next();
        let text = core::str::from_utf8(text.unwrap_or_default()).map_err(|_| Errno::EINVAL)?;
        set(&control.group, &self.opener, text.trim_ascii())?;
        Ok(len)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        match to {
            Seek::End(_) => Err(Errno::EINVAL),
            to => fs::seek_in(0, position, to),
        }
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        let ready = Events::READABLE | Events::WRITABLE;
        let item = self.control.item();
        if let (Some(table), Some(notifier)) = (table, item.notifier) {
            table.add(&notifier(&self.control.group).changed);
        }
        let told = self.version() == self.seen.load(Ordering::SeqCst);
        if told && !self.control.group.is_removed() {
            ready
        } else {
            ready | Events::PRI | Events::ERR
        }
    }
}

/// An open directory: `.`, `..`, the files by their places, the groups by their numbers.
pub(super) struct OpenDirectory(pub(super) Arc<Cgroup>);

/// Position behind the last file.
const END_OF_FILES: usize = 2 + items::PLACES_OF_ALL;
/// Position of the first group; those of all lie behind those of files, as their numbers do not begin at 0.
const FIRST_GROUP: u64 = 256;

impl FileOps for OpenDirectory {
    fn read(&self, _: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        match to {
            Seek::Set(_) | Seek::Current(_) => fs::seek_in(0, position, to),
            Seek::End(_) | Seek::Data(_) | Seek::Hole(_) => Err(Errno::EINVAL),
        }
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let group = &self.0;
        if group.is_removed() {
            return Err(Errno::ENOENT);
        }
        let parent = group.parent().map_or(group.id(), |parent| parent.id());
        let mut at = from;
        while let Some(index) = usize::try_from(at).ok().filter(|at| *at < END_OF_FILES) {
            let taken = match index {
                0 => sink.add(b".", group.id(), FileKind::Directory, 1),
                1 => sink.add(b"..", parent, FileKind::Directory, 2),
                _ => items::at(index - 2).is_none_or(|item| {
                    let ino = group.id() + at - 1;
                    !item.is_of(group)
                        || sink.add(item.name.as_bytes(), ino, FileKind::Regular, at + 1)
                }),
            };
            if !taken {
                return Ok(at);
            }
            at += 1;
        }
        at = at.max(FIRST_GROUP);
        while let Some(child) = group.child_from(at) {
            let (id, name) = (child.id(), child.name());
            if !sink.add(name, id, FileKind::Directory, id + 1) {
                break;
            }
            at = id + 1;
            sched::cond_resched();
        }
        Ok(at)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }
}

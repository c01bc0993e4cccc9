//! Open files and folders of /proc.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::{try_arc, try_format};
use fs::{DirSink, Events, File, FileKind, FileOps, Io, MountNamespace, PollTable, Seek};
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};

use super::item::Content;
use super::node::{Node, ino_of, make};
use super::text::Text;
use crate::task::process::Process;

/// An open file. Its text is made when it is read from the beginning and kept for the reads that go on, so
/// that one reader sees one state, as with Linux's `seq_file`.
pub(super) struct OpenFile {
    node: Arc<Node>,
    text: SpinLock<Option<Arc<Text>>>,
    /// What it tells changes of, and how many had been when it was last polled.
    mounts: Option<(Arc<MountNamespace>, AtomicU64)>,
}

impl OpenFile {
    /// With `mounts`, poll(2) tells when those change.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(node: Arc<Node>, mounts: Option<Arc<MountNamespace>>) -> Result<Arc<Self>> {
        let file = try_arc(Self {
            node,
            text: SpinLock::new(None),
            mounts: mounts.map(|namespace| {
                let seen = AtomicU64::new(namespace.changes());
                (namespace, seen)
            }),
        })?;
        Ok(file)
    }

    fn text_for(&self, offset: u64) -> Result<Option<Arc<Text>>> {
        // What was written since shows at once.
        let (show, keeps) = match self.node.item.content {
            Content::File(show) | Content::Mounts(show) => (show, true),
            Content::Writable(show, _) => (show, false),
            _ => return Ok(None),
        };
        let kept = self.text.lock().clone().filter(|_| keeps && offset > 0);
        if kept.is_some() {
            return Ok(kept);
        }
        if !self.node.scope.is_alive() {
            return Err(Errno::ESRCH);
        }
        // Every open file keeps its text.
        memory::pressure::ensure_headroom()?;
        let text = try_arc(make(show, &self.node.scope)?)?;
        let old = self.text.lock().replace(text.clone());
        drop(old);
        Ok(Some(text))
    }
}

impl FileOps for OpenFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let start = usize::try_from(io.offset).unwrap_or(usize::MAX);
        let text = self.text_for(io.offset)?.ok_or(Errno::EIO)?;
        if start >= text.len() {
            return Ok(0);
        }
        text.read(start, to)
    }

    fn write(&self, from: &mut IoReader<'_>, _: &mut Io) -> Result<usize> {
        const MOST: usize = 4096;
        let Content::Writable(_, set) = self.node.item.content else {
            return Err(Errno::EIO);
        };
        if !self.node.scope.is_alive() {
            return Err(Errno::ESRCH);
        }
        let mut bytes = [0; MOST];
        let len = from.read(&mut bytes)?;
        set(&self.node.scope, &bytes[..len])?;
        Ok(len)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    /// A text that is made on reading has no end; settings have size 0.
    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        match (to, self.node.item.content) {
            (Seek::End(_), Content::File(_) | Content::Mounts(_)) => Err(Errno::EINVAL),
            (to, _) => fs::seek_in(0, position, to),
        }
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        let Some((namespace, seen)) = &self.mounts else {
            return Events::READABLE | Events::WRITABLE;
        };
        if let Some(table) = table {
            table.add(namespace.changed());
        }
        let changes = namespace.changes();
        if seen.swap(changes, Ordering::SeqCst) == changes {
            Events::READABLE
        } else {
            Events::READABLE | Events::PRI | Events::ERR
        }
    }

    /// Settings and tables of mounts are, other files are always ready and take no part in epoll(7).
    fn is_pollable(&self) -> bool {
        let is_setting = matches!(self.node.item.content, Content::Writable(..));
        self.mounts.is_some() || is_setting && !self.node.scope.is_of_process()
    }
}

/// See [`super::process_of`].
pub(super) fn process_of(file: &File) -> Result<Arc<Process>> {
    let folder = file.downcast::<OpenFolder>().map(|OpenFolder(node)| node);
    let node = folder.filter(|node| node.item.is_process_folder(&node.scope));
    node.ok_or(Errno::EBADF)?.scope.process()
}

/// An open folder. Position 0 and 1 are `.` and `..`, then the fixed entries, then the changing ones at
/// [`FIRST_DYNAMIC`] and their number.
pub(super) struct OpenFolder(pub(super) Arc<Node>);

const FIRST_DYNAMIC: u64 = 0x1_0000;

impl FileOps for OpenFolder {
    fn read(&self, _: &mut IoWriter<'_>, _: &Io) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        match to {
            Seek::End(_) => fs::seek_in(0, position, to),
            to => fs::seek_in(u64::MAX >> 1, position, to),
        }
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let node = &self.0;
        if !node.scope.is_alive() {
            return Err(Errno::ENOENT);
        }
        let mut at = from;
        let fixed = node.fixed();
        while at < 2 + fixed.len() as u64 {
            let index = usize::try_from(at).unwrap_or(usize::MAX);
            let taken = match index {
                0 => sink.add(b".", node.ino(), FileKind::Directory, 1),
                1 => sink.add(b"..", node.ino(), FileKind::Directory, 2),
                _ => {
                    let item = &fixed[index - 2];
                    let ino = ino_of(item, &node.scope);
                    sink.add(item.name.as_bytes(), ino, item.kind(), at + 1)
                }
            };
            if !taken {
                return Ok(at);
            }
            at += 1;
        }
        let Content::Dynamic(_, dynamic) = node.item.content else {
            return Ok(at);
        };
        at = at.max(FIRST_DYNAMIC);
        for number in (dynamic.list)(&node.scope)? {
            let position = FIRST_DYNAMIC + u64::from(number.unsigned_abs());
            if position < at {
                continue;
            }
            let Some((item, scope)) = (dynamic.find)(&node.scope, number) else {
                continue;
            };
            let name = try_format!("{number}")?;
            if !sink.add(
                name.as_bytes(),
                ino_of(item, &scope),
                item.kind(),
                position + 1,
            ) {
                return Ok(position);
            }
            at = position + 1;
        }
        Ok(at)
    }
}

//! Items of the tree as inodes and open files.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use fs::{
    DirSink, Events, File, FileKind, FileOps, Inode, InodeBody, Io, Link, Metadata, MountNamespace,
    OpenFlags, PollTable, Seek, SetAttr, Timestamp,
};
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};

use super::scope::Scope;
use super::text::Text;
use crate::{Pid, Process};

/// Makes the text of a file.
pub(crate) type Show = fn(&Scope, &mut Text) -> Result<()>;
/// Acts on what is written to a file.
pub(crate) type Set = fn(&Scope, &[u8]) -> Result<()>;

/// What an item is.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// A file with this text.
    File(Show),
    /// As `File`; poll(2) tells when mounts of the process's namespace have changed.
    Mounts(Show),
    /// A file that can also be written.
    Writable(Show, Set),
    /// A file with a behaviour of its own.
    Special(fn(&Scope) -> Result<Arc<dyn FileOps>>),
    /// A link that is walked by its text.
    Text(Show),
    /// A link: what it shows, and where it leads.
    Link(Show, fn(&Scope) -> Result<Link>),
    /// A folder of fixed entries.
    Folder(&'static [Item]),
    /// A folder whose entries come and go, besides fixed ones.
    Dynamic(&'static [Item], &'static Dynamic),
}

/// The changing entries of a folder.
pub(crate) struct Dynamic {
    /// How many of them are folders.
    pub(crate) count: fn(&Scope) -> usize,
    /// Their names, as numbers.
    pub(crate) list: fn(&Scope) -> Result<Vec<Pid>>,
    /// What a number leads to.
    pub(crate) find: fn(&Scope, Pid) -> Option<(&'static Item, Scope)>,
}

/// An entry: its name (empty for changing ones), permissions and content.
pub(crate) struct Item {
    pub(crate) name: &'static str,
    pub(crate) mode: u32,
    pub(crate) content: Content,
}

impl Item {
    /// A file that everyone may read.
    pub(super) const fn file(name: &'static str, text: Show) -> Self {
        Self {
            name,
            mode: 0o444,
            content: Content::File(text),
        }
    }

    /// A folder that everyone may read.
    pub(super) const fn folder(name: &'static str, items: &'static [Item]) -> Self {
        Self {
            name,
            mode: 0o555,
            content: Content::Folder(items),
        }
    }

    fn is_root(&self) -> bool {
        core::ptr::eq(self, &raw const super::root::ROOT)
    }

    const fn kind(&self) -> FileKind {
        match self.content {
            Content::File(_) | Content::Mounts(_) | Content::Writable(..) | Content::Special(_) => {
                FileKind::Regular
            }
            Content::Text(_) | Content::Link(..) => FileKind::Symlink,
            Content::Folder(_) | Content::Dynamic(..) => FileKind::Directory,
        }
    }
}

/// An item in its scope.
pub(crate) struct Node {
    item: &'static Item,
    scope: Scope,
    body: InodeBody,
}

impl Node {
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(item: &'static Item, scope: Scope) -> Result<Arc<Self>> {
        let node = try_arc(Self {
            item,
            scope,
            body: InodeBody::new(),
        })?;
        Ok(node)
    }

    fn fixed(&self) -> &'static [Item] {
        match self.item.content {
            Content::Folder(items) | Content::Dynamic(items, _) => items,
            _ => &[],
        }
    }

    fn find(&self, name: &[u8]) -> Option<(&'static Item, Scope)> {
        if let Some(item) = self
            .fixed()
            .iter()
            .find(|item| item.name.as_bytes() == name)
        {
            return Some((item, self.scope.clone()));
        }
        let Content::Dynamic(_, dynamic) = self.item.content else {
            return None;
        };
        (dynamic.find)(&self.scope, parse_number(name)?)
    }

    /// Numbers that stay the same for the same thing, and differ otherwise as well as can be.
    fn ino(&self) -> u64 {
        ino_of(self.item, &self.scope)
    }

    /// As Linux counts: two of its own, and one for each folder or process in it.
    fn link_count(&self) -> u32 {
        match self.item.content {
            Content::Dynamic(items, dynamic) => {
                let folders = items
                    .iter()
                    .filter(|item| item.kind() == FileKind::Directory);
                let listed = (dynamic.count)(&self.scope);
                u32::try_from(2 + folders.count() + listed).unwrap_or(u32::MAX)
            }
            Content::Folder(items) => {
                let folders = items
                    .iter()
                    .filter(|item| item.kind() == FileKind::Directory);
                u32::try_from(2 + folders.count()).unwrap_or(u32::MAX)
            }
            _ => 1,
        }
    }
}

fn ino_of(item: &Item, scope: &Scope) -> u64 {
    if item.is_root() {
        return 1;
    }
    let numbers = scope.numbers();
    let words = numbers.iter().flat_map(|number| number.to_le_bytes());
    let hash = item
        .name
        .bytes()
        .chain(words)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash >> 20) | 2
}

/// A number in its only spelling: no sign, no leading zero.
fn parse_number(name: &[u8]) -> Option<Pid> {
    let text = core::str::from_utf8(name).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = plain && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok())?
}

impl Inode for Node {
    /// Nobody makes files here. As on Linux the failed lookup is the answer.
    fn create(&self, _name: &[u8], _new: &fs::NewInode<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        self.item.kind()
    }

    fn metadata(&self) -> Result<Metadata> {
        let kind = self.item.kind();
        let (uid, gid) = self
            .scope
            .owner(kind == FileKind::Directory && self.item.mode == 0o555);
        let of_descriptor = (kind == FileKind::Symlink)
            .then(|| super::descriptors::link_mode(&self.scope))
            .flatten();
        let mode = of_descriptor.unwrap_or(self.item.mode);
        let now = Timestamp::now();
        Ok(Metadata {
            uid,
            gid,
            nlink: self.link_count(),
            block_size: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::new(self.ino(), kind, mode)
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        // Truncation on opening is how shells write to sysctls.
        let only_size = SetAttr {
            size: change.size,
            mtime: change.mtime,
            ctime: change.ctime,
            ..SetAttr::default()
        };
        if *change == only_size {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !self.scope.is_alive() {
            return Err(Errno::ESRCH);
        }
        let (item, scope) = self.find(name).ok_or(Errno::ENOENT)?;
        Ok(Node::new(item, scope)?)
    }

    fn is_current(&self, _: &[u8], child: Option<&Arc<dyn Inode>>) -> bool {
        let Some(child) = child else {
            return false;
        };
        let any: &dyn core::any::Any = child.as_ref();
        any.downcast_ref::<Node>()
            .is_some_and(|node| node.scope.is_alive())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match self.item.content {
            Content::Text(shown) | Content::Link(shown, _) => {
                make(shown, &self.scope)?.into_bytes()
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self) -> Result<Link> {
        match self.item.content {
            Content::Text(text) => make(text, &self.scope)?.into_bytes().map(Link::Target),
            Content::Link(_, leads) => leads(&self.scope),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.item.content {
            Content::Folder(_) | Content::Dynamic(..) => Ok(try_arc(OpenFolder(self))?),
            Content::File(_) | Content::Writable(..) => Ok(try_arc(OpenFile {
                node: self,
                text: SpinLock::new(None),
                mounts: None,
            })?),
            Content::Mounts(_) => {
                let namespace = super::mounts::namespace(&self.scope)?;
                let seen = AtomicU64::new(namespace.changes());
                Ok(try_arc(OpenFile {
                    node: self,
                    text: SpinLock::new(None),
                    mounts: Some((namespace, seen)),
                })?)
            }
            Content::Special(open) => open(&self.scope),
            Content::Text(_) | Content::Link(..) => Err(Errno::ELOOP),
        }
    }
}

fn make(show: Show, scope: &Scope) -> Result<Text> {
    let mut text = Text::new();
    show(scope, &mut text)?;
    Ok(text)
}

/// An open file. Its text is made when it is read from the beginning and kept for the reads that go on, so
/// that one reader sees one state, as with Linux's `seq_file`.
struct OpenFile {
    node: Arc<Node>,
    text: SpinLock<Option<Arc<Text>>>,
    /// What it tells changes of, and how many had been when it was last polled.
    mounts: Option<(Arc<MountNamespace>, AtomicU64)>,
}

impl OpenFile {
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
        self.mounts.is_some() || is_setting && self.node.scope.process().is_err()
    }
}

/// See [`super::process_of`].
pub(super) fn process_of(file: &File) -> Option<Arc<Process>> {
    let OpenFolder(node) = file.downcast::<OpenFolder>()?;
    node.scope.is_process_folder(node.item).then_some(())?;
    node.scope.process().ok().cloned()
}

/// An open folder. Position 0 and 1 are `.` and `..`, then the fixed entries, then the changing ones at
/// [`FIRST_DYNAMIC`] and their number.
struct OpenFolder(Arc<Node>);

const FIRST_DYNAMIC: u64 = 0x1_0000;

impl FileOps for OpenFolder {
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
            let name = number_name(number);
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

fn number_name(number: Pid) -> String {
    alloc::format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(parse_number(b"10"), Some(10));
        assert_eq!(parse_number(b"0"), Some(0));
        for bad in [&b"010"[..], b"+1", b"-1", b"", b"1x", b"99999999999"] {
            assert_eq!(parse_number(bad), None);
        }
    }
}

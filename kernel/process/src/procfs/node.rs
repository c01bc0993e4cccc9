//! Items of the tree as inodes and open files.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use fs::{
    DirSink, FileKind, FileOps, Inode, InodeBody, Io, Link, Metadata, OpenFlags, Seek, SetAttr,
    Timestamp,
};
use memory::io::{IoReader, IoWriter};

use super::scope::Scope;
use crate::Pid;

/// What an item is.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// A file with this text.
    File(fn(&Scope) -> Result<Vec<u8>>),
    /// A file that can also be written.
    Writable(
        fn(&Scope) -> Result<Vec<u8>>,
        fn(&Scope, &[u8]) -> Result<()>,
    ),
    /// A link that is walked by its text.
    Text(fn(&Scope) -> Result<Vec<u8>>),
    /// A link: what it shows, and where it leads.
    Link(fn(&Scope) -> Result<Vec<u8>>, fn(&Scope) -> Result<Link>),
    /// A folder of fixed entries.
    Folder(&'static [Item]),
    /// A folder whose entries come and go, besides fixed ones.
    Dynamic(&'static [Item], &'static Dynamic),
}

/// The changing entries of a folder.
pub(crate) struct Dynamic {
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
    pub(super) const fn file(name: &'static str, text: fn(&Scope) -> Result<Vec<u8>>) -> Self {
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

    const fn kind(&self) -> FileKind {
        match self.content {
            Content::File(_) | Content::Writable(..) => FileKind::Regular,
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
    pub(crate) fn new(item: &'static Item, scope: Scope) -> Arc<Self> {
        Arc::new(Self {
            item,
            scope,
            body: InodeBody::new(),
        })
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
}

fn ino_of(item: &Item, scope: &Scope) -> u64 {
    let numbers = scope.numbers();
    let words = numbers.iter().flat_map(|number| number.to_le_bytes());
    let hash = item
        .name
        .bytes()
        .chain(words)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    // The root is 1, as everywhere.
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
        let now = Timestamp::now();
        Ok(Metadata {
            uid,
            gid,
            nlink: if kind == FileKind::Directory { 2 } else { 1 },
            block_size: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::new(self.ino(), kind, self.item.mode)
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
        let (item, scope) = self.find(name).ok_or(Errno::ENOENT)?;
        Ok(Node::new(item, scope))
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
            Content::Text(shown) | Content::Link(shown, _) => shown(&self.scope),
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self) -> Result<Link> {
        match self.item.content {
            Content::Text(text) => text(&self.scope).map(Link::Target),
            Content::Link(_, leads) => leads(&self.scope),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        // Every open file keeps its text.
        memory::pressure::ensure_headroom()?;
        match self.item.content {
            Content::Folder(_) | Content::Dynamic(..) => Ok(Arc::new(OpenFolder(self))),
            Content::File(text) => {
                let text = text(&self.scope)?;
                Ok(Arc::new(OpenFile { node: self, text }))
            }
            Content::Writable(text, _) => {
                let text = text(&self.scope)?;
                Ok(Arc::new(OpenFile { node: self, text }))
            }
            Content::Text(_) | Content::Link(..) => Err(Errno::ELOOP),
        }
    }
}

/// An open file: its text as it was when opened.
struct OpenFile {
    node: Arc<Node>,
    text: Vec<u8>,
}

impl FileOps for OpenFile {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        let start = usize::try_from(io.offset).unwrap_or(usize::MAX);
        // What was written since it was opened shows.
        let fresh = match self.node.item.content {
            Content::Writable(text, _) => Some(text(&self.node.scope)?),
            _ => None,
        };
        match fresh.as_ref().unwrap_or(&self.text).get(start..) {
            Some(rest) if !rest.is_empty() => to.write(rest),
            _ => Ok(0),
        }
    }

    fn write(&self, from: &mut IoReader<'_>, _: &mut Io) -> Result<usize> {
        const MOST: usize = 4096;
        let Content::Writable(_, set) = self.node.item.content else {
            return Err(Errno::EIO);
        };
        let mut bytes = [0; MOST];
        let len = from.read(&mut bytes)?;
        set(&self.node.scope, &bytes[..len])?;
        Ok(len)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, to: Seek) -> Result<u64> {
        fs::seek_in(self.text.len() as u64, position, to)
    }

    fn is_pollable(&self) -> bool {
        true
    }
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
            Seek::End(_) => Err(Errno::EINVAL),
            to => fs::seek_in(u64::MAX >> 1, position, to),
        }
    }

    fn read_dir(&self, from: u64, sink: &mut dyn DirSink) -> Result<u64> {
        let node = &self.0;
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

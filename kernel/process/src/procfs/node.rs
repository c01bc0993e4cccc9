//! Items of the tree as inodes; [`super::open`] has their open files.

use abi::{Errno, Result};
use alloc::sync::Arc;
use collections::{Vec, try_arc};
use fs::{FileKind, FileOps, Inode, InodeBody, Link, Metadata, OpenFlags, SetAttr, Timestamp};

use super::open::{OpenFile, OpenFolder};
use super::scope::Scope;
use super::text::Text;
use crate::task::numbers::PidNumber;

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
    pub(crate) list: fn(&Scope) -> Result<Vec<PidNumber>>,
    /// What a number leads to.
    pub(crate) find: fn(&Scope, PidNumber) -> Option<(&'static Item, Scope)>,
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

    pub(super) const fn kind(&self) -> FileKind {
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
    pub(super) item: &'static Item,
    pub(super) scope: Scope,
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

    pub(super) fn fixed(&self) -> &'static [Item] {
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
    pub(super) fn ino(&self) -> u64 {
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

pub(super) fn ino_of(item: &Item, scope: &Scope) -> u64 {
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
fn parse_number(name: &[u8]) -> Option<PidNumber> {
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
        if scope.is_process_folder(item)
            && let Some(number) = parse_number(name)
        {
            scope.note_name(number)?;
        }
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
            Content::File(_) | Content::Writable(..) => Ok(OpenFile::new(self, None)?),
            Content::Mounts(_) => {
                let namespace = super::mounts::namespace(&self.scope)?;
                Ok(OpenFile::new(self, Some(namespace))?)
            }
            Content::Special(open) => open(&self.scope),
            Content::Text(_) | Content::Link(..) => Err(Errno::ELOOP),
        }
    }
}

pub(super) fn make(show: Show, scope: &Scope) -> Result<Text> {
    let mut text = Text::new();
    show(scope, &mut text)?;
    Ok(text)
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

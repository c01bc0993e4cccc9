//! What /proc is made of: tables of [`Item`]s, which say what there is and which functions make it.

use alloc::sync::Arc;

use abi::Result;
use collections::Vec;
use fs::{FileKind, FileOps, Link};

use super::scope::Scope;
use super::text::Text;
use crate::task::numbers::PidNumber;

/// Makes the text of a file.
pub(crate) type Show = fn(&Scope, &mut Text) -> Result<()>;
/// Acts on what is written to a file.
pub(crate) type Set = fn(&Scope, &[u8]) -> Result<()>;

/// Where a link leads.
pub(crate) type Leads = fn(&Scope) -> Result<Link>;

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
    Link(Show, Leads),
    /// As `Link`, for a descriptor: its permissions say how that was opened.
    Descriptor(Show, Leads, fn(&Scope) -> Option<u32>),
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

    /// Whether it is the root folder. What is found by number has no name of its own: `scope` tells which it is.
    pub(super) fn is_root(&self, scope: &Scope) -> bool {
        self.name.is_empty() && !scope.is_of_process()
    }

    /// Whether it is the folder of a process.
    pub(super) fn is_process_folder(&self, scope: &Scope) -> bool {
        self.name.is_empty() && scope.is_process()
    }

    pub(super) const fn kind(&self) -> FileKind {
        match self.content {
            Content::File(_) | Content::Mounts(_) | Content::Writable(..) | Content::Special(_) => {
                FileKind::Regular
            }
            Content::Text(_) | Content::Link(..) | Content::Descriptor(..) => FileKind::Symlink,
            Content::Folder(_) | Content::Dynamic(..) => FileKind::Directory,
        }
    }
}

//! Writing archives, on the host.
//!
//! The same calls give the same bytes, in whatever order they come: entries are sorted, times
//! fixed, owners 0 unless set, and nothing of the machine or folder goes in.

use std::collections::BTreeMap;

use rkyv::util::AlignedVec;

use crate::format::{Index, IndexEntry, Kind};
use crate::header::{HEADER_LEN, Header};
use crate::{NAME_MAX, PAGE_SIZE, TARGET_MAX};

/// A finished image: bytes on a page boundary, so that [`crate::Archive::new`] takes them.
pub type Image = AlignedVec<PAGE_SIZE>;

/// Why an archive cannot be built from what was added.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A component of the path is empty, `.`, `..`, has a NUL, or is longer than 255 bytes.
    BadPath(String),
    /// The target of a symbolic link is empty, has a NUL, or is longer than 4,095 bytes.
    BadTarget(String),
    /// Something is there already.
    Exists(String),
    /// A parent of the path is not a directory.
    NotADirectory(String),
    /// The mode has bits beyond 07777.
    BadMode(String),
    /// There are more entries than 32 bits can count, or rkyv could not write the index.
    TooLarge,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadPath(path) => write!(f, "{path:?} cannot be a path in an archive"),
            Self::BadTarget(path) => write!(f, "the target of the link {path:?} is not a path"),
            Self::Exists(path) => write!(f, "{path:?} was added twice"),
            Self::NotADirectory(path) => write!(f, "a parent of {path:?} is not a directory"),
            Self::BadMode(path) => write!(f, "the mode of {path:?} has bits beyond 07777"),
            Self::TooLarge => f.write_str("the archive is too large"),
        }
    }
}

impl std::error::Error for BuildError {}

/// One entry on its way into an archive.
#[derive(Debug)]
struct Node {
    mode: u32,
    uid: u32,
    gid: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Directory(BTreeMap<String, Node>),
    File(Vec<u8>),
    Symlink(String),
}

/// Collects entries and writes the image. Missing parents are made, owned by 0:0, mode 0755.
#[derive(Debug)]
pub struct Builder {
    root: Node,
    mtime_s: u64,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An archive with an empty root directory, all times 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            root: directory_node(0o755),
            mtime_s: 0,
        }
    }

    /// Sets the modification time of every entry, in seconds since 1970.
    #[must_use]
    pub fn mtime_s(mut self, mtime_s: u64) -> Self {
        self.mtime_s = mtime_s;
        self
    }

    /// Adds a directory, or sets the mode of one that is there.
    ///
    /// # Errors
    /// [`BuildError`] for a bad path or mode, or when a parent or the path is no directory.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Self, BuildError> {
        check_mode(path, mode)?;
        let node = components(path)?
            .into_iter()
            .try_fold(&mut self.root, |node, name| descend(node, name))
            .ok_or_else(|| BuildError::NotADirectory(path.into()))?;
        if !matches!(node.content, Content::Directory(_)) {
            return Err(BuildError::Exists(path.into()));
        }
        node.mode = mode;
        Ok(self)
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// [`BuildError`] for a bad path or mode, or when something is there already.
    pub fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) -> Result<&mut Self, BuildError> {
        check_mode(path, mode)?;
        self.insert(
            path,
            Node {
                mode,
                uid: 0,
                gid: 0,
                content: Content::File(data),
            },
        )
    }

    /// Adds a symbolic link to `target`.
    ///
    /// # Errors
    /// [`BuildError`] for a bad path or target, or when something is there already.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self, BuildError> {
        if target.is_empty() || target.len() > TARGET_MAX || target.contains('\0') {
            return Err(BuildError::BadTarget(path.into()));
        }
        let content = Content::Symlink(target.into());
        self.insert(
            path,
            Node {
                mode: 0o777,
                uid: 0,
                gid: 0,
                content,
            },
        )
    }

    /// Sets the owner of an entry that was added before.
    ///
    /// # Errors
    /// [`BuildError::BadPath`] when there is no such entry.
    pub fn owner(&mut self, path: &str, uid: u32, gid: u32) -> Result<&mut Self, BuildError> {
        let node = components(path)?
            .into_iter()
            .try_fold(&mut self.root, |node, name| match &mut node.content {
                Content::Directory(children) => children.get_mut(name),
                Content::File(_) | Content::Symlink(_) => None,
            })
            .ok_or_else(|| BuildError::BadPath(path.into()))?;
        (node.uid, node.gid) = (uid, gid);
        Ok(self)
    }

    /// Writes the image.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] when the index cannot be written.
    pub fn build(&self) -> Result<Image, BuildError> {
        // The index's length does not depend on the offsets in it, so it is written twice:
        // first to learn where the contents start.
        let draft = self.serialize_index(0)?;
        let data_offset = (HEADER_LEN + draft.len()).next_multiple_of(PAGE_SIZE);
        let index = self.serialize_index(data_offset)?;
        let mut image = Image::new();
        image.resize(data_offset, 0);
        image[HEADER_LEN..HEADER_LEN + index.len()].copy_from_slice(&index);
        for (_, node) in self.breadth_first() {
            if let Content::File(data) = &node.content {
                image.extend_from_slice(data);
                image.resize(image.len().next_multiple_of(PAGE_SIZE), 0);
            }
        }
        let header = Header {
            index_len: index.len(),
            data_offset,
            image_len: image.len(),
        };
        image[..HEADER_LEN].copy_from_slice(&header.to_bytes(&index));
        Ok(image)
    }

    fn insert(&mut self, path: &str, new: Node) -> Result<&mut Self, BuildError> {
        let names = components(path)?;
        let (name, parents) = names
            .split_last()
            .ok_or_else(|| BuildError::BadPath(path.into()))?;
        let dir = parents
            .iter()
            .try_fold(&mut self.root, |node, name| descend(node, name))
            .ok_or_else(|| BuildError::NotADirectory(path.into()))?;
        let Content::Directory(children) = &mut dir.content else {
            return Err(BuildError::NotADirectory(path.into()));
        };
        if children.contains_key(*name) {
            return Err(BuildError::Exists(path.into()));
        }
        children.insert((*name).into(), new);
        Ok(self)
    }

    /// All nodes in the order of the index, with their names.
    fn breadth_first(&self) -> Vec<(&str, &Node)> {
        let mut order = vec![("", &self.root)];
        let mut at = 0;
        while at < order.len() {
            if let Content::Directory(children) = &order[at].1.content {
                order.extend(children.iter().map(|(name, node)| (name.as_str(), node)));
            }
            at += 1;
        }
        order
    }

    fn serialize_index(&self, data_offset: usize) -> Result<AlignedVec, BuildError> {
        let order = self.breadth_first();
        let mut parents = vec![0u32];
        let mut data_at = data_offset as u64;
        let mut entries = Vec::with_capacity(order.len());
        for (at, (name, node)) in order.iter().enumerate() {
            let (kind, start, len, target) = match &node.content {
                Content::Directory(children) => {
                    let first = parents.len() as u64;
                    let at = u32::try_from(at).map_err(|_| BuildError::TooLarge)?;
                    parents.resize(parents.len() + children.len(), at);
                    (Kind::Directory, first, children.len() as u64, String::new())
                }
                Content::File(data) => {
                    let start = data_at;
                    data_at += data.len().next_multiple_of(PAGE_SIZE) as u64;
                    (Kind::File, start, data.len() as u64, String::new())
                }
                Content::Symlink(target) => (Kind::Symlink, 0, 0, target.clone()),
            };
            let (mode, uid, gid) = (node.mode, node.uid, node.gid);
            let (name, parent) = ((*name).to_owned(), parents[at]);
            entries.push(IndexEntry {
                name,
                parent,
                kind,
                mode,
                uid,
                gid,
                start,
                len,
                target,
            });
        }
        let index = Index {
            mtime_s: self.mtime_s,
            entries,
        };
        rkyv::to_bytes::<rkyv::rancor::Failure>(&index).map_err(|_| BuildError::TooLarge)
    }
}

fn directory_node(mode: u32) -> Node {
    Node {
        mode,
        uid: 0,
        gid: 0,
        content: Content::Directory(BTreeMap::new()),
    }
}

/// The child called `name`, made as a directory if missing; nothing when `node` is no directory.
fn descend<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    match &mut node.content {
        Content::Directory(children) => Some(
            children
                .entry(name.into())
                .or_insert_with(|| directory_node(0o755)),
        ),
        Content::File(_) | Content::Symlink(_) => None,
    }
}

fn check_mode(path: &str, mode: u32) -> Result<(), BuildError> {
    if mode > 0o7777 {
        return Err(BuildError::BadMode(path.into()));
    }
    Ok(())
}

/// The names in `path`, which may start with `/`.
fn components(path: &str) -> Result<Vec<&str>, BuildError> {
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    if trimmed.is_empty() {
        return Ok(Vec::new());
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name != "."
            && name != ".."
            && name.len() <= NAME_MAX
            && !name.contains('\0')
    };
    let names: Vec<&str> = trimmed.split('/').collect();
    if !names.iter().all(|name| is_name(name)) {
        return Err(BuildError::BadPath(path.into()));
    }
    Ok(names)
}

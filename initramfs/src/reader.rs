//! Reading an archive in place: [`Archive`] and [`Entry`] are references into the image and
//! cost nothing to copy.

use core::cmp::Ordering;
use core::fmt;

use crate::format::{ArchivedIndex, ArchivedIndexEntry, ArchivedKind};
use crate::header::Header;

use crate::{ArchiveError, Kind, PAGE_SIZE, validate};

/// A validated archive. Holding one proves that every offset, length and index in it is good.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    image: &'a [u8],
    index: &'a ArchivedIndex,
}

/// Checks what an archive of `len` bytes begins with, of which `start` is the first 64, or all of it: that it is one, of a
/// form that is known, and not cut off. What is in it is checked by who reads it. Archives for other kernels (cpio) pass.
///
/// # Errors
/// An [`ArchiveError`] that says what is wrong.
pub fn check_start(start: &[u8], len: usize) -> Result<(), ArchiveError> {
    match crate::cpio::is_cpio(start) {
        true => Ok(()),
        false => Header::read_start(start, len).map(drop),
    }
}

impl<'a> Archive<'a> {
    /// Validates `image` once, header, index and every entry, and wraps it. `image` may be
    /// longer than the archive (memory slots are rounded up) and must be page-aligned.
    ///
    /// # Errors
    /// An [`ArchiveError`] that says what is wrong with the image.
    pub fn new(image: &'a [u8]) -> Result<Self, ArchiveError> {
        if !image.as_ptr().addr().is_multiple_of(PAGE_SIZE) {
            return Err(ArchiveError::Misaligned);
        }
        let header = Header::read(image)?;
        let index = rkyv::access::<ArchivedIndex, rkyv::rancor::Failure>(header.index(image))
            .map_err(|_| ArchiveError::BadIndex)?;
        validate::check(index, &header)?;
        Ok(Self {
            image: &image[..header.image_len],
            index,
        })
    }

    /// The root directory, entry 0.
    #[must_use]
    pub fn root(&self) -> Entry<'a> {
        Entry {
            archive: *self,
            index: 0,
            raw: &self.index.entries[0],
        }
    }

    /// Number of entries, the root included.
    #[must_use]
    pub fn len(&self) -> u32 {
        // `validate` refuses more than u32::MAX entries, so the fallback is never taken.
        u32::try_from(self.index.entries.len()).unwrap_or(u32::MAX)
    }

    /// Always false: an archive has at least its root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The entry at `index`, which is stable for an image and so does for an inode number.
    #[must_use]
    pub fn entry(&self, index: u32) -> Option<Entry<'a>> {
        let raw = self.index.entries.get(index as usize)?;
        Some(Entry {
            archive: *self,
            index,
            raw,
        })
    }

    /// All entries, directories before what they hold.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.run(0, self.len())
    }

    /// The entry at `path`, read from the root whether or not it starts with `/`. Symbolic
    /// links are not followed and `.` and `..` are not special: that is the VFS's work.
    #[must_use]
    pub fn lookup(&self, path: &str) -> Option<Entry<'a>> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self.root(), |entry, name| entry.child(name))
    }

    /// The entries of directory `dir` in the order of their names; nothing for a non-directory.
    pub fn children(&self, dir: Entry<'a>) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (first, count) = dir.child_run();
        self.run(first, count)
    }

    /// `count` entries from `first` on.
    fn run(&self, first: u32, count: u32) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let archive = *self;
        (first..first + count).filter_map(move |index| archive.entry(index))
    }

    /// Modification time of every entry, in seconds since 1970.
    #[must_use]
    pub fn mtime_s(&self) -> u64 {
        self.index.mtime_s.to_native()
    }

    /// Length of the image in bytes, a multiple of the page size.
    #[must_use]
    pub fn image_len(&self) -> usize {
        self.image.len()
    }
}

impl fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("entries", &self.len())
            .field("image_len", &self.image_len())
            .finish()
    }
}

/// One entry of an archive.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    archive: Archive<'a>,
    index: u32,
    raw: &'a ArchivedIndexEntry,
}

impl<'a> Entry<'a> {
    /// Position in the archive; the root's is 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Last component of the path; empty for the root.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.raw.name.as_str()
    }

    /// The directory that holds this entry; the root holds itself.
    #[must_use]
    pub fn parent(&self) -> Entry<'a> {
        let parent = self.raw.parent.to_native();
        self.archive.entry(parent).unwrap_or(self.archive.root())
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.raw.kind {
            ArchivedKind::Directory => Kind::Directory,
            ArchivedKind::File => Kind::File,
            ArchivedKind::Symlink => Kind::Symlink,
        }
    }

    /// Permission bits, at most 0o7777, without the file type.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.raw.mode.to_native()
    }

    /// Owner's user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.raw.uid.to_native()
    }

    /// Owner's group id.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.raw.gid.to_native()
    }

    /// A file's length or a link's target's length in bytes; 0 for a directory.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.kind() {
            Kind::Directory => 0,
            Kind::File => self.data().len(),
            Kind::Symlink => self.target().len(),
        }
    }

    /// Whether [`Entry::len`] is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A file's contents, starting on a page boundary; empty for anything else.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        let (start, len) = self.contents();
        &self.archive.image[start..start + len]
    }

    /// A file's contents as whole pages, the last one padded with zeros: what a mapping of the
    /// file shows. Empty for anything else.
    #[must_use]
    pub fn pages(&self) -> &'a [u8] {
        let (start, len) = self.contents();
        &self.archive.image[start..start + len.next_multiple_of(PAGE_SIZE)]
    }

    /// Where a symbolic link points; empty for anything else.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.raw.target.as_str()
    }

    /// The entry called `name` in this directory.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<Entry<'a>> {
        let (first, count) = self.child_run();
        let run = &self.archive.index.entries[first as usize..(first + count) as usize];
        let at = run
            .binary_search_by(|entry| compare_names(entry.name.as_str(), name))
            .ok()?;
        self.archive.entry(first + u32::try_from(at).ok()?)
    }

    /// First child's index and the number of children; `(0, 0)` for a non-directory.
    fn child_run(&self) -> (u32, u32) {
        match self.raw.kind {
            // `validate` has checked that both fit.
            ArchivedKind::Directory => (
                u32::try_from(self.raw.start.to_native()).unwrap_or(0),
                u32::try_from(self.raw.len.to_native()).unwrap_or(0),
            ),
            ArchivedKind::File | ArchivedKind::Symlink => (0, 0),
        }
    }

    /// Offset and length of a file's contents in the image; `(0, 0)` for anything else.
    fn contents(&self) -> (usize, usize) {
        match self.raw.kind {
            // `validate` has checked that both fit.
            ArchivedKind::File => (
                usize::try_from(self.raw.start.to_native()).unwrap_or(0),
                usize::try_from(self.raw.len.to_native()).unwrap_or(0),
            ),
            ArchivedKind::Directory | ArchivedKind::Symlink => (0, 0),
        }
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("index", &self.index)
            .field("name", &self.name())
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

/// The order of names in a directory: by bytes.
pub(crate) fn compare_names(a: &str, b: &str) -> Ordering {
    a.as_bytes().cmp(b.as_bytes())
}

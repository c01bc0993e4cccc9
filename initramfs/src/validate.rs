//! The rules of the format beyond what rkyv's own validation knows, checked once per image.
//!
//! One pass shows that the entries are a tree: walking them in order, each directory's children
//! must start exactly where the last directory's ended, after the directory itself. So every
//! entry but the root is the child of exactly one earlier directory.

use crate::format::{ArchivedIndex, ArchivedIndexEntry, ArchivedKind};
use crate::header::Header;
use crate::reader::compare_names;
use crate::{ArchiveError, NAME_MAX, PAGE_SIZE, TARGET_MAX};

/// Checks all of `index` against the image that `header` describes.
pub(crate) fn check(index: &ArchivedIndex, header: &Header) -> Result<(), ArchiveError> {
    let entries = index.entries.as_slice();
    if u32::try_from(entries.len()).is_err() {
        return Err(bad(0, "there are too many entries"));
    }
    check_root(entries)?;
    // The entry at which the next directory's children must start.
    let mut next_child = 1;
    for (at, entry) in entries.iter().enumerate() {
        check_attributes(at, entry)?;
        match entry.kind {
            ArchivedKind::Directory => next_child = check_directory(entries, at, next_child)?,
            ArchivedKind::File => check_file(at, entry, header)?,
            ArchivedKind::Symlink => check_symlink(at, entry)?,
        }
    }
    if next_child != entries.len() {
        return Err(bad(next_child, "no directory holds it"));
    }
    Ok(())
}

fn check_root(entries: &[ArchivedIndexEntry]) -> Result<(), ArchiveError> {
    match entries.first() {
        None => Err(bad(0, "there is no root")),
        Some(root) if !matches!(root.kind, ArchivedKind::Directory) => {
            Err(bad(0, "the root is not a directory"))
        }
        Some(root) if !root.name.is_empty() => Err(bad(0, "the root has a name")),
        Some(root) if root.parent.to_native() != 0 => Err(bad(0, "the root has a parent")),
        Some(_) => Ok(()),
    }
}

fn check_attributes(at: usize, entry: &ArchivedIndexEntry) -> Result<(), ArchiveError> {
    if entry.mode.to_native() > 0o7777 {
        return Err(bad(at, "its mode has bits beyond 07777"));
    }
    if !matches!(entry.kind, ArchivedKind::Symlink) && !entry.target.is_empty() {
        return Err(bad(at, "it has a target but is no symbolic link"));
    }
    Ok(())
}

/// Checks the run of children of the directory at `at`; returns where the next run must start.
fn check_directory(
    entries: &[ArchivedIndexEntry],
    at: usize,
    next_child: usize,
) -> Result<usize, ArchiveError> {
    let dir = &entries[at];
    let end = usize::try_from(dir.len.to_native())
        .ok()
        .and_then(|count| next_child.checked_add(count))
        .filter(|end| *end <= entries.len())
        .ok_or(bad(at, "its children lie beyond the index"))?;
    if dir.start.to_native() != next_child as u64 || next_child <= at {
        return Err(bad(at, "its children are out of order"));
    }
    let children = &entries[next_child..end];
    for (child, entry) in (next_child..).zip(children) {
        if entry.parent.to_native() as usize != at {
            return Err(bad(child, "its parent is another directory"));
        }
        check_name(child, entry.name.as_str())?;
    }
    let unsorted = children
        .windows(2)
        .position(|pair| compare_names(pair[0].name.as_str(), pair[1].name.as_str()).is_ge());
    match unsorted {
        Some(offset) => Err(bad(next_child + offset + 1, "its name is out of order")),
        None => Ok(end),
    }
}

fn check_name(at: usize, name: &str) -> Result<(), ArchiveError> {
    let is_plain = !name.is_empty() && name.len() <= NAME_MAX && name != "." && name != "..";
    if !is_plain || name.bytes().any(|byte| byte == b'/' || byte == 0) {
        return Err(bad(at, "its name is not a file name"));
    }
    Ok(())
}

/// The contents lie on whole pages in the part of the image meant for contents.
fn check_file(at: usize, entry: &ArchivedIndexEntry, header: &Header) -> Result<(), ArchiveError> {
    let start = usize::try_from(entry.start.to_native()).ok();
    let end = usize::try_from(entry.len.to_native())
        .ok()
        .and_then(|len| len.checked_next_multiple_of(PAGE_SIZE))
        .zip(start)
        .and_then(|(len, start)| start.checked_add(len));
    let (Some(start), Some(end)) = (start, end) else {
        return Err(bad(at, "its contents lie beyond the image"));
    };
    if !start.is_multiple_of(PAGE_SIZE) {
        return Err(bad(at, "its contents are not page-aligned"));
    }
    if start < header.data_offset || end > header.image_len {
        return Err(bad(at, "its contents lie beyond the image"));
    }
    Ok(())
}

fn check_symlink(at: usize, entry: &ArchivedIndexEntry) -> Result<(), ArchiveError> {
    let target = entry.target.as_str();
    if target.is_empty() || target.len() > TARGET_MAX || target.bytes().any(|byte| byte == 0) {
        return Err(bad(at, "its target is not a path"));
    }
    if entry.start.to_native() != 0 || entry.len.to_native() != 0 {
        return Err(bad(at, "it is a symbolic link with contents"));
    }
    Ok(())
}

fn bad(index: usize, reason: &'static str) -> ArchiveError {
    ArchiveError::BadEntry { index, reason }
}

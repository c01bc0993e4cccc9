//! The other archive that a kernel can start from: cpio in its `newc` form, as Linux takes it (its
//! Documentation/driver-api/early-userspace/buffer-format.rst), and as many one after the other as there are.
//!
//! [`Cpio`] reads one header after the other from memory that may hold anything, and gives [`CpioEntry`]s, whose paths
//! are plain. What they are used for, and whether they fit each other, is for who unpacks them.

use core::fmt;

use crate::{NAME_MAX, TARGET_MAX};

/// What a header begins with; the second form has a sum of the contents, which is not read, as on Linux.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// Bytes of a header: the magic and 13 numbers of eight hexadecimal digits.
const HEADER_LEN: usize = 110;
const DIGITS: usize = 8;
/// The path of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// What compressed files begin with.
const COMPRESSED: [&[u8]; 6] = [
    b"\x1f\x8b",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"BZh",
    b"\x5d\x00\x00",
];
/// The kind of file in a mode, and its values.
const KIND: u32 = 0o170_000;

/// Whether memory begins with a cpio archive of this form.
#[must_use]
pub fn is_cpio(image: &[u8]) -> bool {
    MAGICS.iter().any(|magic| image.starts_with(magic))
}

/// Whether memory begins with what some program has compressed, which this does not undo.
#[must_use]
pub fn is_compressed(image: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| image.starts_with(magic))
}

/// What is wrong with an archive, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpioError {
    /// The offset of the entry, in bytes.
    pub at: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for CpioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, reason } = self;
        write!(
            f,
            "the entry at byte {at} of the cpio archive is damaged: {reason}"
        )
    }
}

impl core::error::Error for CpioError {}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpioKind<'a> {
    /// A directory.
    Directory,
    /// A regular file. Of one that has several names only one entry need have the contents.
    File(&'a [u8]),
    /// A symbolic link and where it points.
    Symlink(&'a [u8]),
    /// A character device's node, by major and minor number.
    CharDevice(u32, u32),
    /// A block device's.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// The name of a socket.
    Socket,
}

/// One entry of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpioEntry<'a> {
    path: &'a [u8],
    /// What it is.
    pub kind: CpioKind<'a>,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Modification time, in seconds since 1970.
    pub mtime_s: u32,
    /// What the entries of one file with several names have in common; `None` for one with one name.
    pub link: Option<(u32, u32, u32)>,
}

impl<'a> CpioEntry<'a> {
    /// The names on the way from the root to it; none for the root itself. None is `.` or `..`.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        names(self.path)
    }

    /// The path as it stands in the archive, for messages.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.path
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let all = path.split(|byte| *byte == b'/');
    all.filter(|name| !name.is_empty() && *name != b".")
}

/// The entries of archives in memory, one after the other; after an error there are no more.
#[derive(Debug, Clone)]
pub struct Cpio<'a> {
    image: &'a [u8],
    at: usize,
    /// Whether an archive has begun whose trailer has not come.
    is_inside: bool,
}

impl<'a> Cpio<'a> {
    /// What `image` holds; behind the last archive there may be zeroes.
    #[must_use]
    pub fn new(image: &'a [u8]) -> Self {
        let is_inside = true;
        Self {
            image,
            at: 0,
            is_inside,
        }
    }

    /// The next entry; `None` at the end.
    fn read(&mut self) -> Result<Option<CpioEntry<'a>>, &'static str> {
        loop {
            if !self.is_inside && !self.find_archive()? {
                return Ok(None);
            }
            let header = Header::read(self.image.get(self.at..).unwrap_or_default())?;
            let start = self.at + HEADER_LEN;
            let (path, data_at) = self.part(start, header.name_size, "its name is cut off")?;
            let (data, next) = self.part(data_at, header.file_size, "its contents are cut off")?;
            let [path @ .., 0] = path else {
                return Err("its name does not end with a zero byte");
            };
            if path == TRAILER {
                self.is_inside = false;
                self.at = next;
                continue;
            }
            let entry = header.entry(path, data)?;
            self.at = next;
            return Ok(Some(entry));
        }
    }

    /// Goes on to the next archive; whether there is one.
    fn find_archive(&mut self) -> Result<bool, &'static str> {
        let rest = self.image.get(self.at..).unwrap_or_default();
        let Some(zeroes) = rest.iter().position(|byte| *byte != 0) else {
            return Ok(false);
        };
        self.at += zeroes;
        self.is_inside = true;
        match is_compressed(&rest[zeroes..]) {
            true => Err("a compressed archive follows, which is not unpacked; add it as it was"),
            false => Ok(true),
        }
    }

    /// `len` bytes at `start`, and where what follows begins, which is at a multiple of four.
    fn part(
        &self,
        start: usize,
        len: usize,
        cut_off: &'static str,
    ) -> Result<(&'a [u8], usize), &'static str> {
        let end = start.checked_add(len).ok_or(cut_off)?;
        let bytes = self.image.get(start..end).ok_or(cut_off)?;
        Ok((bytes, end.checked_next_multiple_of(4).ok_or(cut_off)?))
    }
}

impl<'a> Iterator for Cpio<'a> {
    type Item = Result<CpioEntry<'a>, CpioError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.read();
        let at = self.at;
        if entry.is_err() {
            self.image = &[];
            (self.at, self.is_inside) = (0, false);
        }
        entry.map_err(|reason| CpioError { at, reason }).transpose()
    }
}

/// A header's numbers.
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime_s: u32,
    file_size: usize,
    device: (u32, u32),
    node: (u32, u32),
    name_size: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or("the archive is cut off")?;
        if !is_cpio(bytes) {
            return Err("it has no header of a cpio archive (newc)");
        }
        let mut numbers = [0; 13];
        let digits = bytes[MAGICS[0].len()..].chunks_exact(DIGITS);
        for (number, digits) in numbers.iter_mut().zip(digits) {
            *number = hexadecimal(digits).ok_or("its header has no number where one belongs")?;
        }
        let [inode, mode, uid, gid, links, mtime_s, file_size, rest @ ..] = numbers;
        let [major, minor, node_major, node_minor, name_size, _] = rest;
        let too_long = |_| "it is too long";
        Ok(Self {
            inode,
            mode,
            uid,
            gid,
            links,
            mtime_s,
            file_size: usize::try_from(file_size).map_err(too_long)?,
            device: (major, minor),
            node: (node_major, node_minor),
            name_size: usize::try_from(name_size).map_err(too_long)?,
        })
    }

    fn entry<'a>(&self, path: &'a [u8], data: &'a [u8]) -> Result<CpioEntry<'a>, &'static str> {
        check_path(path)?;
        let (major, minor) = self.node;
        let kind = match self.mode & KIND {
            0o040_000 => CpioKind::Directory,
            0o100_000 => CpioKind::File(data),
            0o120_000 => CpioKind::Symlink(check_target(data)?),
            0o020_000 => CpioKind::CharDevice(major, minor),
            0o060_000 => CpioKind::BlockDevice(major, minor),
            0o010_000 => CpioKind::Fifo,
            0o140_000 => CpioKind::Socket,
            _ => return Err("it is no kind of file"),
        };
        let is_file = matches!(kind, CpioKind::File(_));
        let (major, minor) = self.device;
        Ok(CpioEntry {
            path,
            kind,
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            mtime_s: self.mtime_s,
            link: (is_file && self.links > 1).then_some((major, minor, self.inode)),
        })
    }
}

/// A path is plain: it leads nowhere but down, by names that files may have.
fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > TARGET_MAX || path.contains(&0) {
        return Err("its name is not a path");
    }
    let is_odd = |name: &[u8]| name == b".." || name.len() > NAME_MAX;
    match names(path).any(is_odd) {
        true => Err("its path has `..` in it, or a name that is too long"),
        false => Ok(()),
    }
}

fn check_target(target: &[u8]) -> Result<&[u8], &'static str> {
    match target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
        true => Err("its target is not a path"),
        false => Ok(target),
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let mut number = 0;
    for digit in digits {
        number = number << 4 | char::from(*digit).to_digit(16)?;
    }
    Some(number)
}

#[cfg(test)]
mod tests;

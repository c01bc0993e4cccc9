//! Reading ELF headers: from untrusted bytes to a checked plan of what to map where.
//!
//! Nothing here trusts a field: every sum is checked, every range lies in user space, sizes are bounded.
//! What a plan promises stands at [`Image`].

use machine::{PAGE_SIZE, UserAddr};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use abi::{Errno, Result};
use collections::Vec;

const PAGE: u64 = PAGE_SIZE as u64;

/// The most bytes of program headers: a page, as on Linux.
const MAX_PROGRAM_HEADERS: u64 = PAGE;
/// The longest interpreter path, NUL included (`PATH_MAX`).
const MAX_INTERPRETER: u64 = 4096;

/// Something that ELF headers are read from.
pub trait Source {
    /// Fills `to` from `offset` on.
    ///
    /// # Errors
    /// `EIO` when the file ends before; what reading gives otherwise.
    fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> Result<()>;
}

impl Source for &[u8] {
    fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Errno::EIO)?;
        let end = start.checked_add(to.len()).ok_or(Errno::EIO)?;
        to.copy_from_slice(self.get(start..end).ok_or(Errno::EIO)?);
        Ok(())
    }
}

/// `Elf64_Ehdr`.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    header_size: u16,
    program_header_size: u16,
    program_header_count: u16,
    section_header_size: u16,
    section_header_count: u16,
    section_names: u16,
}

/// `Elf64_Phdr`.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

/// Bytes of the header of a file.
pub(super) const FILE_HEADER_SIZE: usize = size_of::<FileHeader>();

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;

/// Permissions of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prot {
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
}

/// One PT_LOAD segment. Nothing overflows; `vaddr` and `offset` agree modulo the page size unless it has no
/// bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First byte in memory, before the load bias.
    pub vaddr: u64,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes from the file; at most `memory_size`.
    pub file_size: u64,
    /// Bytes in memory, not 0; what the file does not give is zero.
    pub memory_size: u64,
    /// Permissions.
    pub prot: Prot,
}

impl Segment {
    /// First page.
    #[must_use]
    pub fn page_start(&self) -> u64 {
        self.vaddr & !(PAGE - 1)
    }

    /// Behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.vaddr + self.memory_size
    }

    /// Behind the last page.
    #[must_use]
    pub fn page_end(&self) -> u64 {
        self.end().next_multiple_of(PAGE)
    }
}

/// A checked plan. Promises: at least one segment, all within user space for every bias that keeps `span`
/// there. As on Linux they may be in any order and overlap: later ones lie over earlier ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// Whether it can be loaded at any bias (ET_DYN); otherwise the bias is 0.
    pub relocatable: bool,
    /// The entry point, before the bias.
    pub entry: u64,
    /// Where the program headers are in memory, before the bias; `None` when no segment holds them.
    pub headers_vaddr: Option<u64>,
    /// How many program headers there are.
    pub header_count: u16,
    /// What to map.
    pub segments: Vec<Segment>,
    /// The interpreter's path, without its NUL.
    pub interpreter: Option<Vec<u8>>,
    /// Whether PT_GNU_STACK asks for an executable stack.
    pub executable_stack: bool,
    /// The largest alignment of a segment: a power of two, at least a page.
    pub align: u64,
}

impl Image {
    /// Reads and checks the headers of `file`.
    ///
    /// # Errors
    /// `ENOEXEC` when it is not an x86-64 program or is malformed; `ENOMEM`; what reading gives.
    pub fn parse(file: &impl Source) -> Result<Image> {
        let header = read_file_header(file)?;
        let headers = read_program_headers(file, &header)?;
        let segments = collect_segments(&headers)?;
        let align = segments_align(&headers);
        Ok(Image {
            relocatable: header.kind == ET_DYN,
            entry: header.entry,
            headers_vaddr: locate_headers(&header, &headers, &segments),
            header_count: header.program_header_count,
            interpreter: read_interpreter(file, &headers)?,
            executable_stack: headers
                .iter()
                .any(|h| h.kind == PT_GNU_STACK && h.flags & 1 != 0),
            align,
            segments,
        })
    }

    /// The first page and the end of the last one, before the bias.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        let starts = self.segments.iter().map(Segment::page_start);
        let ends = self.segments.iter().map(Segment::page_end);
        (starts.min().unwrap_or(0), ends.max().unwrap_or(0))
    }
}

fn read_file_header(file: &impl Source) -> Result<FileHeader> {
    let mut bytes = [0; size_of::<FileHeader>()];
    file.read_exact_at(0, &mut bytes)
        .map_err(short_is_no_program)?;
    let header = FileHeader::read_from_bytes(&bytes).map_err(|_| Errno::ENOEXEC)?;
    // Like Linux, class and byte order are taken from the machine.
    let ident_ok = header.ident[..4] == *b"\x7fELF";
    let kind_ok = header.kind == ET_EXEC || header.kind == ET_DYN;
    let entry_size_ok = usize::from(header.program_header_size) == size_of::<ProgramHeader>();
    if ident_ok && kind_ok && header.machine == EM_X86_64 && entry_size_ok {
        Ok(header)
    } else {
        Err(Errno::ENOEXEC)
    }
}

/// A file that ends before its headers do.
fn short_is_no_program(errno: Errno) -> Errno {
    match errno {
        Errno::EIO => Errno::ENOEXEC,
        other => other,
    }
}

fn read_program_headers(file: &impl Source, header: &FileHeader) -> Result<Vec<ProgramHeader>> {
    let count = usize::from(header.program_header_count);
    let size = count * size_of::<ProgramHeader>();
    if count == 0 || size as u64 > MAX_PROGRAM_HEADERS {
        return Err(Errno::ENOEXEC);
    }
    let mut bytes = zeroed(size)?;
    file.read_exact_at(header.program_headers, &mut bytes)
        .map_err(short_is_no_program)?;
    let mut headers = Vec::try_with_capacity(count)?;
    for entry in bytes.chunks_exact(size_of::<ProgramHeader>()) {
        headers.try_push(ProgramHeader::read_from_bytes(entry).map_err(|_| Errno::ENOEXEC)?)?;
    }
    Ok(headers)
}

fn collect_segments(headers: &[ProgramHeader]) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    for header in headers
        .iter()
        .filter(|h| h.kind == PT_LOAD && h.memory_size > 0)
    {
        let segment = check_segment(header)?;
        segments.try_push(segment)?;
    }
    if segments.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    Ok(segments)
}

fn check_segment(header: &ProgramHeader) -> Result<Segment> {
    let end = header
        .vaddr
        .checked_add(header.memory_size)
        .ok_or(Errno::ENOEXEC)?;
    let file_end = header
        .offset
        .checked_add(header.file_size)
        .ok_or(Errno::ENOEXEC)?;
    let sound = end <= UserAddr::LIMIT.0
        && header.file_size <= header.memory_size
        && file_end <= i64::MAX as u64
        && (header.file_size == 0 || header.vaddr % PAGE == header.offset % PAGE);
    if !sound {
        return Err(Errno::ENOEXEC);
    }
    Ok(Segment {
        vaddr: header.vaddr,
        offset: header.offset,
        file_size: header.file_size,
        memory_size: header.memory_size,
        prot: Prot {
            read: header.flags & 4 != 0,
            write: header.flags & 2 != 0,
            exec: header.flags & 1 != 0,
        },
    })
}

/// Alignments that are not powers of two, or absurd, do not count.
fn segments_align(headers: &[ProgramHeader]) -> u64 {
    const MOST: u64 = 1 << 30;
    headers
        .iter()
        .filter(|h| h.kind == PT_LOAD && h.align.is_power_of_two() && h.align <= MOST)
        .map(|h| h.align)
        .fold(PAGE, u64::max)
}

/// PT_PHDR when it lies in a segment, else the segment that has the headers' part of the file.
fn locate_headers(
    header: &FileHeader,
    headers: &[ProgramHeader],
    segments: &[Segment],
) -> Option<u64> {
    let size = headers.len() as u64 * size_of::<ProgramHeader>() as u64;
    let named = headers.iter().find(|h| h.kind == PT_PHDR).map(|h| h.vaddr);
    let by_offset = segments.iter().find_map(|segment| {
        let into = header.program_headers.checked_sub(segment.offset)?;
        (into.checked_add(size)? <= segment.file_size).then(|| segment.vaddr + into)
    });
    named
        .filter(|vaddr| {
            segments.iter().any(|s| {
                *vaddr >= s.vaddr && vaddr.checked_add(size).is_some_and(|end| end <= s.end())
            })
        })
        .or(by_offset)
}

fn read_interpreter(file: &impl Source, headers: &[ProgramHeader]) -> Result<Option<Vec<u8>>> {
    let Some(header) = headers.iter().find(|h| h.kind == PT_INTERP) else {
        return Ok(None);
    };
    if header.file_size < 2 || header.file_size > MAX_INTERPRETER {
        return Err(Errno::ENOEXEC);
    }
    let size = usize::try_from(header.file_size).map_err(|_| Errno::ENOEXEC)?;
    let mut path = zeroed(size)?;
    file.read_exact_at(header.offset, &mut path)?;
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    if let Some(nul) = path.iter().position(|byte| *byte == 0) {
        path.truncate(nul);
    }
    Ok(Some(path))
}

fn zeroed(size: usize) -> Result<Vec<u8>> {
    Ok(Vec::try_from_elem(0, size)?)
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;

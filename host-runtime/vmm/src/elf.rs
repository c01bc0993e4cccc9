//! The kernel image: a static-PIE ELF file, parsed once and checked, then laid out as it runs.
//!
//! Only what the boot contract names is accepted: `ET_DYN`, `PT_LOAD` segments from virtual address 0,
//! and relocations of type `R_X86_64_RELATIVE`. The result is one flat buffer to copy into guest memory.

use std::collections::BTreeSet;

use super::error::KernelFault;
use super::layout::{IMAGE_MAX, PAGE, align_up};

const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_RELAENT: u64 = 9;
const R_X86_64_RELATIVE: u32 = 8;
const PROGRAM_HEADER: u64 = 56;
const RELA: u64 = 24;

/// A kernel as it lies in memory, not yet relocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelImage {
    /// The loaded bytes up to the end of the last file-backed byte; the rest is zero.
    pub bytes: Vec<u8>,
    /// How much memory the image takes, in whole pages.
    pub memory_size: u64,
    /// The entry point, relative to the image's base.
    pub entry: u64,
    /// The parts that the file holds as they lie in memory, in order.
    pub unchanged: Vec<Piece>,
    /// What is to be relocated: offset and addend.
    relocations: Vec<(u64, u64)>,
}

/// Whole pages without a relocation, for who maps them instead of copying them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where they lie in the image.
    pub at: u64,
    /// Where they lie in the file.
    pub offset: u64,
    /// Their length in bytes.
    pub length: u64,
}

/// Shorter pieces are not worth a mapping.
const PIECE_LEAST: u64 = 16 * PAGE;

/// One program header.
#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    vaddr: u64,
    file_size: u64,
    memory_size: u64,
}

impl KernelImage {
    /// Parses and lays out an ELF file.
    ///
    /// # Errors
    /// A [`KernelFault`] for anything the boot contract does not allow.
    pub fn parse(file: &[u8]) -> Result<Self, KernelFault> {
        let entry = check_header(file)?;
        let segments = segments(file)?;
        let loads = || segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let memory_size = loads().map(|s| s.vaddr.saturating_add(s.memory_size)).max();
        let memory_size = memory_size.ok_or(KernelFault::Malformed("it has nothing to load"))?;
        if memory_size > IMAGE_MAX {
            return Err(KernelFault::TooBig(memory_size));
        }
        if entry >= memory_size {
            return Err(KernelFault::Malformed(
                "its entry point is outside of its segments",
            ));
        }
        check_order(loads())?;
        let file_end = loads().map(|s| s.vaddr + s.file_size).max().unwrap_or(0);
        let mut bytes = vec![0; index(file_end)?];
        for segment in loads() {
            let source = slice(file, segment.offset, segment.file_size, "a segment")?;
            let start = index(segment.vaddr)?;
            bytes[start..start + source.len()].copy_from_slice(source);
        }
        let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
        let relocations = match dynamic {
            Some(dynamic) => relocations(&bytes, dynamic)?,
            None => Vec::new(),
        };
        let memory_size = align_up(memory_size, PAGE).ok_or(KernelFault::TooBig(memory_size))?;
        Ok(Self {
            bytes,
            memory_size,
            entry,
            unchanged: unchanged(loads(), &relocations),
            relocations,
        })
    }

    /// Adjusts every recorded pointer for a virtual base.
    pub fn relocate(&mut self, base: u64) {
        for (offset, addend) in &self.relocations {
            let at = usize::try_from(*offset).unwrap_or(usize::MAX);
            // `relocations` checked that all eight bytes are there.
            if let Some(word) = at
                .checked_add(8)
                .and_then(|end| self.bytes.get_mut(at..end))
            {
                word.copy_from_slice(&base.wrapping_add(*addend).to_le_bytes());
            }
        }
    }
}

/// The pieces of the segments that no relocation changes.
fn unchanged<'a>(
    loads: impl Iterator<Item = &'a Segment>,
    relocations: &[(u64, u64)],
) -> Vec<Piece> {
    let words = relocations.iter().map(|(offset, _)| *offset);
    let relocated: BTreeSet<u64> = words
        .flat_map(|word| [word / PAGE, (word + 7) / PAGE])
        .collect();
    let mut pieces = Vec::new();
    for segment in loads.filter(|segment| segment.vaddr % PAGE == segment.offset % PAGE) {
        let first = segment.vaddr.div_ceil(PAGE);
        let end = (segment.vaddr + segment.file_size) / PAGE;
        let mut begin = first;
        let breaks = relocated.range(first..end.max(first)).copied().chain([end]);
        for page in breaks {
            let (at, length) = (begin * PAGE, page.saturating_sub(begin) * PAGE);
            if length >= PIECE_LEAST {
                // Both begin at the same place of a page, so this is not before the segment's start in the file.
                let offset = segment.offset + (at - segment.vaddr);
                pieces.push(Piece { at, offset, length });
            }
            begin = page + 1;
        }
    }
    pieces
}

/// Checks the identification and gives the entry point.
fn check_header(file: &[u8]) -> Result<u64, KernelFault> {
    if file.get(..4) != Some(b"\x7fELF") {
        return Err(KernelFault::NotElf);
    }
    let header = slice(file, 0, 64, "the ELF header")?;
    if header[4..6] != [2, 1] || u16_at(header, 18)? != EM_X86_64 {
        return Err(KernelFault::WrongMachine);
    }
    match u16_at(header, 16)? {
        ET_DYN => u64_at(header, 24),
        other => Err(KernelFault::NotPie(other)),
    }
}

fn segments(file: &[u8]) -> Result<Vec<Segment>, KernelFault> {
    let table = u64_at(file, 32)?;
    let (size, count) = (u16_at(file, 54)?, u16_at(file, 56)?);
    if u64::from(size) != PROGRAM_HEADER {
        return Err(KernelFault::Malformed(
            "its program headers have an unknown size",
        ));
    }
    let length = u64::from(size) * u64::from(count);
    let table = slice(file, table, length, "the program header table")?;
    table.chunks_exact(usize::from(size)).map(segment).collect()
}

/// Segments ascend and do not overlap, as ELF has it: a file of thousands of large segments, all at one
/// place, would take hours to lay out.
fn check_order<'a>(loads: impl Iterator<Item = &'a Segment>) -> Result<(), KernelFault> {
    let mut end = 0;
    for segment in loads {
        if segment.vaddr < end {
            let what = "its segments overlap or are not in order";
            return Err(KernelFault::Malformed(what));
        }
        end = segment.vaddr + segment.memory_size;
    }
    Ok(())
}

fn segment(header: &[u8]) -> Result<Segment, KernelFault> {
    let segment = Segment {
        kind: u32_at(header, 0)?,
        offset: u64_at(header, 8)?,
        vaddr: u64_at(header, 16)?,
        file_size: u64_at(header, 32)?,
        memory_size: u64_at(header, 40)?,
    };
    let end = segment
        .vaddr
        .checked_add(segment.memory_size.max(segment.file_size));
    match end {
        _ if segment.kind != PT_LOAD => Ok(segment),
        Some(_) if segment.file_size > segment.memory_size => Err(KernelFault::Malformed(
            "a segment is larger in the file than in memory",
        )),
        Some(end) if end <= IMAGE_MAX => Ok(segment),
        end => Err(KernelFault::TooBig(end.unwrap_or(u64::MAX))),
    }
}

/// Reads the relocations that the dynamic section names, checking each.
fn relocations(image: &[u8], dynamic: &Segment) -> Result<Vec<(u64, u64)>, KernelFault> {
    let table = slice(
        image,
        dynamic.vaddr,
        dynamic.file_size,
        "the dynamic section",
    )?;
    let (mut at, mut length) = (0, 0);
    for entry in table.chunks_exact(16) {
        let value = u64_at(entry, 8)?;
        match u64_at(entry, 0)? {
            0 => break,
            DT_RELA => at = value,
            DT_RELASZ => length = value,
            DT_RELAENT if value != RELA => {
                return Err(KernelFault::Malformed(
                    "its relocations have an unknown size",
                ));
            }
            _ => {}
        }
    }
    let table = slice(image, at, length, "the relocation table")?;
    table
        .chunks_exact(index(RELA)?)
        .map(|rela| relocation(image, rela))
        .collect()
}

fn relocation(image: &[u8], rela: &[u8]) -> Result<(u64, u64), KernelFault> {
    let (offset, kind, addend) = (u64_at(rela, 0)?, u32_at(rela, 8)?, u64_at(rela, 16)?);
    if kind != R_X86_64_RELATIVE {
        return Err(KernelFault::Relocation(kind));
    }
    slice(image, offset, 8, "a relocated word")?;
    Ok((offset, addend))
}

fn slice<'a>(
    bytes: &'a [u8],
    offset: u64,
    length: u64,
    what: &'static str,
) -> Result<&'a [u8], KernelFault> {
    let end = offset
        .checked_add(length)
        .ok_or(KernelFault::Truncated(what))?;
    let range = index(offset)?..index(end)?;
    bytes.get(range).ok_or(KernelFault::Truncated(what))
}

fn index(value: u64) -> Result<usize, KernelFault> {
    usize::try_from(value).map_err(|_| KernelFault::TooBig(value))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], KernelFault> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    field
        .copied()
        .ok_or(KernelFault::Truncated("the ELF header"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, KernelFault> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, KernelFault> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, KernelFault> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests;

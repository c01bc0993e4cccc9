//! Host double: copies through the page table that the calling thread activated, honouring its
//! permissions as the CPU would.

use super::Fault;
use crate::addr::{PAGE_SIZE, UserAddr};
use crate::frame::Frame;
use crate::page_table::PageTable;

/// Calls `act(page address, offset in the page, range of the buffer)` a page at a time until it
/// answers `None`, which ends the copy with a fault.
fn by_pages(
    at: UserAddr,
    len: usize,
    mut act: impl FnMut(&PageTable, UserAddr, core::ops::Range<usize>) -> Option<()>,
) -> Result<(), Fault> {
    let table = PageTable::active();
    let mut copied = 0;
    while copied < len {
        let here = at
            .checked_add(copied as u64)
            .filter(|here| *here < UserAddr::LIMIT);
        let (Some(here), Some(table)) = (here, table.as_ref()) else {
            return Err(Fault { copied });
        };
        let part = (PAGE_SIZE - here.page_offset()).min(len - copied);
        act(table, here, copied..copied + part).ok_or(Fault { copied })?;
        copied += part;
    }
    Ok(())
}

/// Copies user memory into `to`.
///
/// # Errors
/// [`Fault`] when a page is not mapped.
pub fn read(from: UserAddr, to: &mut [u8]) -> Result<(), Fault> {
    by_pages(from, to.len(), |table, here, part| {
        table
            .readable(here)?
            .read(here.page_offset(), &mut to[part]);
        Some(())
    })
}

/// Copies `from` into user memory.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn write(to: UserAddr, from: &[u8]) -> Result<(), Fault> {
    by_pages(to, from.len(), |table, here, part| {
        table.with_writable(here, |frame| frame.write(here.page_offset(), &from[part]))
    })
}

/// Copies `len` bytes of a frame from `offset` on into user memory.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn write_frame(to: UserAddr, from: &Frame, offset: usize, len: usize) -> Result<(), Fault> {
    by_pages(to, len, |table, here, part| {
        let mut bytes = alloc::vec![0; part.len()];
        from.read(offset + part.start, &mut bytes);
        table.with_writable(here, |frame| frame.write(here.page_offset(), &bytes))
    })
}

/// Copies `len` bytes of user memory into a frame at `offset`.
///
/// # Errors
/// [`Fault`] when a page is not mapped.
pub fn read_frame(from: UserAddr, to: &Frame, offset: usize, len: usize) -> Result<(), Fault> {
    by_pages(from, len, |table, here, part| {
        let mut bytes = alloc::vec![0; part.len()];
        table.readable(here)?.read(here.page_offset(), &mut bytes);
        to.write(offset + part.start, &bytes);
        Some(())
    })
}

/// Fills user memory with zeroes.
///
/// # Errors
/// [`Fault`] when a page is not mapped or not writable.
pub fn zero(to: UserAddr, len: usize) -> Result<(), Fault> {
    by_pages(to, len, |table, here, part| {
        table.with_writable(here, |frame| frame.fill(here.page_offset(), part.len(), 0))
    })
}

/// Atomically reads a 4-aligned word (a misaligned address faults).
///
/// # Errors
/// [`Fault`] when the page is not mapped.
pub fn load_u32(from: UserAddr) -> Result<u32, Fault> {
    let mut word = [0; 4];
    aligned(from)?;
    read(from, &mut word)?;
    Ok(u32::from_ne_bytes(word))
}

/// Atomically replaces a 4-aligned word if it is `current`.
///
/// # Errors
/// [`Fault`] when the page is not mapped or not writable.
pub fn compare_exchange_u32(
    at: UserAddr,
    current: u32,
    new: u32,
) -> Result<Result<u32, u32>, Fault> {
    aligned(at)?;
    let mut answer = Ok(current);
    by_pages(at, 4, |table, here, _| {
        table.with_writable(here, |frame| {
            let actual = frame.load_u32(here.page_offset());
            if actual == current {
                frame.write(here.page_offset(), &new.to_ne_bytes());
            } else {
                answer = Err(actual);
            }
        })
    })?;
    Ok(answer)
}

fn aligned(at: UserAddr) -> Result<(), Fault> {
    if at.0.is_multiple_of(4) {
        Ok(())
    } else {
        Err(Fault { copied: 0 })
    }
}

//! Mapping a checked [`Image`] into a new address space.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::File;
use machine::{PAGE_SIZE, UserAddr};
use memory::io::IoWriter;
use memory::{AddressSpace, AreaFlags, MapRequest, PageSource, Prot};

use super::elf::{self, Image, Segment, Source};

const PAGE: u64 = PAGE_SIZE as u64;

/// A file as a source of ELF headers.
pub(super) struct FileSource<'a>(pub(super) &'a File);

impl Source for FileSource<'_> {
    fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < to.len() {
            match read_at(self.0, offset + done as u64, &mut to[done..])? {
                0 => return Err(Errno::EIO),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// Reads from a file that was opened for exec, which needs no permission to read.
pub(super) fn read_at(file: &File, offset: u64, to: &mut [u8]) -> Result<usize> {
    let io = file.io_at(offset);
    file.ops().read(&mut IoWriter::kernel(to), &io)
}

/// An image in memory: what was added to its addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) bias: u64,
}

/// Maps the main program.
pub(super) fn program(
    memory: &Arc<AddressSpace>,
    file: &Arc<File>,
    image: &Image,
) -> Result<Loaded> {
    let (start, end) = image.span();
    let bias = if image.relocatable {
        let base = memory.pie_base().0 & !(image.align - 1);
        base.checked_sub(start & !(image.align - 1))
            .ok_or(Errno::ENOEXEC)?
    } else {
        0
    };
    let end = bias
        .checked_add(end)
        .filter(|end| *end <= UserAddr::LIMIT.0)
        .ok_or(Errno::ENOMEM)?;
    map_segments(memory, file, image, bias)?;
    memory.set_brk_start(UserAddr(end));
    Ok(Loaded { bias })
}

/// Maps the interpreter wherever there is room.
pub(super) fn interpreter(
    memory: &Arc<AddressSpace>,
    file: &Arc<File>,
    image: &Image,
) -> Result<Loaded> {
    let bias = if image.relocatable {
        reserve(memory, image)?
    } else {
        0
    };
    map_segments(memory, file, image, bias)?;
    Ok(Loaded { bias })
}

/// Finds room for an image and keeps it by an inaccessible mapping, which the segments replace.
fn reserve(memory: &Arc<AddressSpace>, image: &Image) -> Result<u64> {
    let (start, end) = image.span();
    let (len, slack) = (end - start, image.align - PAGE);
    let room = len.checked_add(slack).ok_or(Errno::ENOMEM)?;
    let at = memory.map(MapRequest::anonymous(room, Prot::empty()))?.0;
    let wanted = start & (image.align - 1);
    let base = (at - wanted).next_multiple_of(image.align) + wanted;
    if base > at {
        memory.unmap(UserAddr(at), base - at)?;
    }
    let left = at + room - (base + len);
    if left > 0 {
        memory.unmap(UserAddr(base + len), left)?;
    }
    // Wrapping: a start above the base is taken back by each segment's address.
    Ok(base.wrapping_sub(start))
}

fn map_segments(
    memory: &Arc<AddressSpace>,
    file: &Arc<File>,
    image: &Image,
    bias: u64,
) -> Result<()> {
    let source = file.ops().page_source().map_err(|errno| match errno {
        Errno::ENODEV => Errno::ENOEXEC,
        other => other,
    })?;
    for segment in &image.segments {
        map_segment(memory, file, &source, segment, bias)?;
    }
    Ok(())
}

fn map_segment(
    memory: &Arc<AddressSpace>,
    file: &Arc<File>,
    source: &Arc<dyn PageSource>,
    segment: &Segment,
    bias: u64,
) -> Result<()> {
    let prot = prot_of(segment.prot);
    let start = bias.wrapping_add(segment.page_start());
    let data_end = bias
        .wrapping_add(segment.vaddr)
        .wrapping_add(segment.file_size);
    let end = bias.wrapping_add(segment.page_end());
    let data_page_end = if segment.file_size == 0 {
        start
    } else {
        data_end.next_multiple_of(PAGE)
    };
    if data_page_end > start {
        let offset = segment.offset & !(PAGE - 1);
        let mut request = MapRequest::file(source.clone(), offset, data_page_end - start, prot);
        request.origin = super::origin::of(file);
        memory.map(request.at(UserAddr(start)))?;
    }
    if segment.memory_size > segment.file_size && data_end < data_page_end {
        zero(memory, data_end, data_page_end.min(end) - data_end)?;
    }
    if end > data_page_end {
        let request = MapRequest::anonymous(end - data_page_end, prot);
        memory.map(request.at(UserAddr(data_page_end)))?;
    }
    Ok(())
}

fn prot_of(prot: elf::Prot) -> Prot {
    let mut bits = Prot::empty();
    bits.set(Prot::READ, prot.read);
    bits.set(Prot::WRITE, prot.write);
    bits.set(Prot::EXEC, prot.exec);
    bits
}

/// What lies behind the file's part on its last page is not the file's: it is zero.
fn zero(memory: &AddressSpace, from: u64, len: u64) -> Result<()> {
    const ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
    let len = usize::try_from(len).map_err(|_| Errno::ENOEXEC)?;
    let bytes = ZEROES.get(..len).ok_or(Errno::ENOEXEC)?;
    if memory.write_at(UserAddr(from), bytes, true) == len {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Maps the stack with `bytes` at its top.
pub(super) fn stack(
    memory: &Arc<AddressSpace>,
    top: UserAddr,
    bytes: &[u8],
    executable: bool,
) -> Result<()> {
    /// What is there at once, beside the contents; the rest comes by growing.
    const ROOM: u64 = 128 << 10;
    let len = (bytes.len() as u64).next_multiple_of(PAGE) + ROOM;
    let start = top.0.checked_sub(len).ok_or(Errno::ENOMEM)?;
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    let mut request = MapRequest::anonymous(len, prot);
    request.flags = AreaFlags::GROWS_DOWN | AreaFlags::STACK;
    memory.map(request.at(UserAddr(start)))?;
    let at = UserAddr(top.0 - bytes.len() as u64);
    if memory.write_at(at, bytes, false) == bytes.len() {
        Ok(())
    } else {
        Err(Errno::ENOMEM)
    }
}

//! Programs in an address space of the double: bytes, zeroes, stack.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::Result;
use fs::{AnonymousInode, Credentials, File, FileOps, Io, OpenFlags};
use machine::UserAddr;
use memory::io::{IoReader, IoWriter};
use memory::{AddressSpace, Mapping, PageSource, Readahead};

use super::elf::{self, Image, Segment};
use super::load;

/// A file in memory.
struct InMemory(Arc<Mapping>);

impl FileOps for InMemory {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        self.0.read(io.offset, to, &Readahead::new())
    }

    fn page_source(&self) -> Result<Arc<dyn PageSource>> {
        Ok(self.0.clone())
    }
}

fn file(bytes: &[u8]) -> Arc<File> {
    let pages = Mapping::in_memory(None, bytes.len() as u64).unwrap();
    pages.write(0, &mut IoReader::kernel(bytes)).unwrap();
    let inode = AnonymousInode::file_like("[program]").unwrap();
    let credentials = Arc::new(Credentials::root());
    File::anonymous(
        inode,
        Arc::new(InMemory(pages)),
        OpenFlags::empty(),
        &credentials,
    )
    .unwrap()
}

fn image(relocatable: bool, base: u64) -> Image {
    let segment = |vaddr, offset, file_size, memory_size, write| Segment {
        vaddr: base + vaddr,
        offset,
        file_size,
        memory_size,
        prot: elf::Prot {
            read: true,
            write,
            exec: !write,
        },
    };
    Image {
        relocatable,
        entry: base + 0x10,
        headers_vaddr: None,
        header_count: 0,
        segments: collections::Vec::from_std(vec![
            segment(0, 0, 0x1800, 0x1800, false),
            segment(0x2800, 0x1800, 0x100, 0x3000, true),
        ]),
        interpreter: None,
        executable_stack: false,
        align: 0x1000,
    }
}

fn bytes_at(memory: &AddressSpace, addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let read = memory.read_at(UserAddr(addr), &mut bytes, true);
    bytes.truncate(read);
    bytes
}

#[test]
fn segments_hold_the_files_bytes_and_zeroes_behind_them() {
    let program = vec![0xab; 0x3000];
    for (relocatable, base) in [(false, 0x40_0000), (true, 0)] {
        let memory = AddressSpace::new(true).unwrap();
        let image = image(relocatable, base);
        let loaded = load::program(&memory, &file(&program), &image).unwrap();
        assert_eq!(loaded.bias == 0, !relocatable);
        let data = loaded.bias + base + 0x2800;
        assert_eq!(
            bytes_at(&memory, loaded.bias + base, 0x1800),
            program[..0x1800]
        );
        assert_eq!(bytes_at(&memory, data, 0x100), program[..0x100]);
        // The rest of the file's last page, and whole pages behind it.
        assert_eq!(bytes_at(&memory, data + 0x100, 0x2f00), vec![0; 0x2f00]);
        assert!(bytes_at(&memory, loaded.bias + base + 0x6000, 1).is_empty());
    }
}

#[test]
fn an_interpreter_goes_where_there_is_room() {
    let memory = AddressSpace::new(true).unwrap();
    let mut image = image(true, 0);
    image.align = 0x20_0000;
    let file = file(&vec![7; 0x3000]);
    let first = load::interpreter(&memory, &file, &image).unwrap();
    let second = load::interpreter(&memory, &file, &image).unwrap();
    assert_ne!(first.bias, second.bias);
    for bias in [first.bias, second.bias] {
        assert_eq!(bias % image.align, 0);
        assert_eq!(bytes_at(&memory, bias, 4), [7; 4]);
    }
}

#[test]
fn the_stack_ends_at_its_top() {
    let memory = AddressSpace::new(true).unwrap();
    let top = memory.stack_top();
    let contents: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    load::stack(&memory, top, &contents, false).unwrap();
    let at = top.0 - contents.len() as u64;
    assert_eq!(bytes_at(&memory, at, contents.len()), contents);
    assert_eq!(bytes_at(&memory, at - 4096, 16), vec![0; 16]);
}

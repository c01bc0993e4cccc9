//! ELF headers, well-formed and not.

use super::*;
use std::vec::Vec;

/// A little program: headers, one code and one data segment, room for more.
fn program() -> Vec<u8> {
    let mut file = vec![0; 0x3000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &ET_DYN.to_le_bytes());
    put(18, &EM_X86_64.to_le_bytes());
    put(24, &0x1010u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &4u16.to_le_bytes());
    let mut header = |index: usize, kind: u32, flags: u32, fields: [u64; 6]| {
        let at = 64 + index * 56;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (i, field) in fields.iter().enumerate() {
            put(at + 8 + i * 8, &field.to_le_bytes());
        }
    };
    header(0, PT_LOAD, 5, [0, 0, 0, 0x1800, 0x1800, 0x1000]);
    header(
        1,
        PT_LOAD,
        6,
        [0x1800, 0x2800, 0x2800, 0x100, 0x2000, 0x1000],
    );
    header(2, PT_GNU_STACK, 6, [0, 0, 0, 0, 0, 16]);
    header(3, PT_INTERP, 4, [0x400, 0x400, 0x400, 11, 11, 1]);
    put(0x400, b"/lib/ld.so\0");
    file
}

fn parse(file: &[u8]) -> Result<Image> {
    Image::parse(&file)
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = program();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn a_program_is_planned() {
    let image = parse(&program()).unwrap();
    assert!(image.relocatable && !image.executable_stack);
    assert_eq!(image.entry, 0x1010);
    assert_eq!(image.headers_vaddr, Some(64));
    assert_eq!(image.interpreter.as_deref(), Some(&b"/lib/ld.so"[..]));
    assert_eq!(image.span(), (0, 0x5000));
    let data = image.segments[1];
    assert_eq!(
        (data.vaddr, data.file_size, data.memory_size),
        (0x2800, 0x100, 0x2000)
    );
    assert!(data.prot.write && !data.prot.exec);
}

#[test]
fn what_is_not_for_this_machine_is_refused() {
    for (at, bytes) in [
        (0, &b"\x7fELE"[..]),
        (16, &[1, 0]),
        (18, &[3, 0]),
        (54, &[32, 0]),
        (56, &[0, 0]),
    ] {
        assert_eq!(parse(&with(at, bytes)), Err(Errno::ENOEXEC), "at {at}");
    }
    assert_eq!(parse(b""), Err(Errno::ENOEXEC));
    assert_eq!(parse(&program()[..100]), Err(Errno::ENOEXEC));
}

#[test]
fn segments_that_make_no_sense_are_refused() {
    let first = 64 + 8;
    let bad: [(usize, u64); 6] = [
        (first + 8, u64::MAX - 10),     // vaddr overflows
        (first + 8, UserAddr::LIMIT.0), // beyond user space
        (first + 8, 0x10),              // not congruent
        (first + 24, 0x1801),           // file size beyond memory size
        (first, u64::MAX - 0xfff),      // file range overflows
        (32, u64::MAX - 8),             // headers beyond the file
    ];
    for (at, value) in bad {
        assert_eq!(
            parse(&with(at, &value.to_le_bytes())),
            Err(Errno::ENOEXEC),
            "at {at}"
        );
    }
}

#[test]
fn segments_may_overlap_and_come_in_any_order() {
    let first = 64 + 8;
    let overlapping = parse(&with(first + 32, &0x2801u64.to_le_bytes())).unwrap();
    assert_eq!(overlapping.span(), (0, 0x5000));
    let behind = parse(&with(first + 8, &0x8000u64.to_le_bytes())).unwrap();
    assert_eq!(behind.span(), (0x2000, 0xa000));
    // Without bytes of the file its offset means nothing.
    let mut file = with(first, &0x7u64.to_le_bytes());
    file[first + 24..first + 32].fill(0);
    assert_eq!(parse(&file).unwrap().segments[0].file_size, 0);
}

#[test]
fn the_interpreter_must_be_a_string() {
    assert_eq!(parse(&with(0x40a, b"x")), Err(Errno::ENOEXEC));
    let size = 64 + 3 * 56 + 32;
    assert_eq!(
        parse(&with(size, &5000u64.to_le_bytes())),
        Err(Errno::ENOEXEC)
    );
    assert_eq!(parse(&with(size, &1u64.to_le_bytes())), Err(Errno::ENOEXEC));
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Whatever the bytes, parsing ends, and a plan keeps what it promises.
#[test]
fn damaged_programs_never_give_an_unsound_plan() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let interesting = [
        0,
        1,
        0xfff,
        0x1000,
        0x7fff_ffff_f000,
        u64::MAX,
        1 << 63,
        0x8000_0000,
    ];
    let mut planned = 0;
    for _ in 0..200_000 {
        let mut file = program()[..0x500].to_vec();
        for _ in 0..=random.next() % 3 {
            let at = usize::try_from(random.next() % 0x140).unwrap();
            if random.next().is_multiple_of(2) {
                file[at] = random.next().to_le_bytes()[0];
            } else {
                let pick = usize::try_from(random.next() % 8).unwrap();
                file[at..at + 8].copy_from_slice(&interesting[pick].to_le_bytes());
            }
        }
        let Ok(image) = parse(&file) else { continue };
        planned += 1;
        let (start, end) = image.span();
        for segment in &image.segments {
            assert!(segment.page_start() >= start && segment.page_end() <= end);
            assert!(segment.memory_size > 0);
            assert!(segment.file_size <= segment.memory_size);
            assert!(segment.end() <= UserAddr::LIMIT.0);
            assert!(segment.file_size == 0 || segment.vaddr % PAGE == segment.offset % PAGE);
        }
        assert!(image.align.is_power_of_two());
    }
    assert!(
        planned > 1000,
        "the damage is too heavy to test anything: {planned}"
    );
}

//! Shared memory as a file: holes, growth, truncation.

use alloc::vec::Vec;

use super::*;

fn read(shm: &Shm, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = alloc::vec![0xee; len];
    let read = shm.read(offset, &mut IoWriter::kernel(&mut bytes)).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn holes_read_as_zeroes_and_writes_grow() {
    let shm = Shm::new(0);
    assert_eq!(
        shm.write(PAGE * 2 - 1, &mut IoReader::kernel(b"abc")),
        Ok(3)
    );
    assert_eq!(shm.size_bytes(), PAGE * 2 + 2);
    assert_eq!(shm.pages(), 2);
    assert_eq!(read(&shm, PAGE * 2 - 3, 10), b"\0\0abc");
    assert_eq!(read(&shm, 5, 3), [0; 3]);
    assert_eq!(read(&shm, PAGE * 3, 3), b"");
}

#[test]
fn what_was_cut_off_is_zero_when_it_comes_back() {
    let shm = Shm::new(0);
    shm.write(0, &mut IoReader::kernel(&[7; 3 * PAGE_SIZE]))
        .unwrap();
    shm.set_size(PAGE + 10);
    assert_eq!(shm.pages(), 2);
    shm.set_size(3 * PAGE);
    let bytes = read(&shm, 0, 3 * PAGE_SIZE);
    let kept = PAGE_SIZE + 10;
    assert!(bytes[..kept].iter().all(|&byte| byte == 7));
    assert!(bytes[kept..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_hole_reaches_into_partial_pages() {
    let shm = Shm::new(0);
    shm.write(0, &mut IoReader::kernel(&[7; 4 * PAGE_SIZE]))
        .unwrap();
    let hole = 100..3 * PAGE + 50;
    shm.punch_hole(hole.clone());
    assert_eq!(shm.pages(), 2);
    for (at, byte) in read(&shm, 0, 4 * PAGE_SIZE).into_iter().enumerate() {
        let expected = if hole.contains(&(at as u64)) { 0 } else { 7 };
        assert_eq!(byte, expected, "at {at}");
    }
    shm.punch_hole(10..20);
    assert_eq!(
        read(&shm, 8, 14),
        [7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7]
    );
}

//! What pipe(7) and fifo(7) promise, with host threads at both ends.

use std::thread;
use std::time::Duration;

use abi::Errno;
use memory::io::{IoReader, IoWriter};

use super::ring::Ring;
use super::*;
use crate::path::InodeKey;
use crate::poll::Events;

fn ends(flags: OpenFlags) -> (Arc<File>, Arc<File>) {
    pipe(flags, &Arc::new(Credentials::root())).unwrap()
}

fn write(file: &File, bytes: &[u8]) -> Result<usize> {
    file.write(&mut IoReader::kernel(bytes))
}

fn read(file: &File, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let count = file.read(&mut IoWriter::kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn bytes_come_out_in_order_and_end_when_the_writer_closes() {
    let (reader, writer) = ends(OpenFlags::empty());
    assert_eq!(write(&writer, b"hello "), Ok(6));
    assert_eq!(write(&writer, b"world"), Ok(5));
    assert_eq!(read(&reader, 8), Ok(b"hello wo".to_vec()));
    drop(writer);
    assert_eq!(read(&reader, 8), Ok(b"rld".to_vec()));
    assert_eq!(read(&reader, 8), Ok(vec![]));
}

#[test]
fn the_wrong_end_is_refused() {
    let (reader, writer) = ends(OpenFlags::empty());
    assert_eq!(write(&reader, b"x"), Err(Errno::EBADF));
    assert_eq!(read(&writer, 1), Err(Errno::EBADF));
    assert_eq!(reader.seek(crate::Seek::Set(0)), Err(Errno::ESPIPE));
}

#[test]
fn nonblocking_ends_say_eagain_and_small_writes_are_all_or_nothing() {
    let (reader, writer) = ends(OpenFlags::NONBLOCK);
    assert_eq!(read(&reader, 1), Err(Errno::EAGAIN));
    assert_eq!(write(&writer, &vec![7; 70_000]), Ok(65536));
    assert_eq!(write(&writer, b"x"), Err(Errno::EAGAIN));
    assert!(!writer.poll(None).contains(Events::OUT));
    assert_eq!(read(&reader, 100).map(|bytes| bytes.len()), Ok(100));
    assert_eq!(
        write(&writer, &[1; 101]),
        Err(Errno::EAGAIN),
        "must not be split"
    );
    assert_eq!(write(&writer, &[1; 100]), Ok(100));
    assert_eq!(read(&reader, 4096).map(|bytes| bytes.len()), Ok(4096));
    assert!(writer.poll(None).contains(Events::OUT));
}

#[test]
fn without_a_reader_writing_is_epipe_and_poll_says_so() {
    let (reader, writer) = ends(OpenFlags::empty());
    assert!(reader.poll(None).is_empty());
    drop(reader);
    assert_eq!(write(&writer, b"x"), Err(Errno::EPIPE));
    assert!(writer.poll(None).contains(Events::ERR));
}

#[test]
fn without_a_writer_poll_says_hang_up() {
    let (reader, writer) = ends(OpenFlags::empty());
    assert_eq!(write(&writer, b"x"), Ok(1));
    drop(writer);
    assert_eq!(reader.poll(None), Events::READABLE | Events::HUP);
}

#[test]
fn a_blocked_reader_gets_what_another_thread_writes() {
    let (reader, writer) = ends(OpenFlags::empty());
    let waiting = thread::spawn(move || read(&reader, 10));
    thread::sleep(Duration::from_millis(20));
    assert_eq!(write(&writer, b"late"), Ok(4));
    assert_eq!(waiting.join().unwrap(), Ok(b"late".to_vec()));
}

#[test]
fn a_large_write_goes_through_a_small_pipe_in_order() {
    let (reader, writer) = ends(OpenFlags::empty());
    let data: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let expected = data.clone();
    let writing = thread::spawn(move || write(&writer, &data));
    let mut got = Vec::new();
    loop {
        let part = read(&reader, 7919).unwrap();
        if part.is_empty() {
            break;
        }
        got.extend(part);
    }
    assert_eq!(writing.join().unwrap(), Ok(300_000));
    assert!(got == expected);
}

#[test]
fn capacity_is_rounded_bounded_and_never_below_the_content() {
    let (reader, writer) = ends(OpenFlags::empty());
    let end: &PipeEnd = writer.downcast().unwrap();
    let root = Credentials::root();
    assert_eq!(end.capacity(), 65536);
    assert_eq!(end.set_capacity(5000, &root), Ok(8192));
    assert_eq!(write(&writer, &[1; 8192]), Ok(8192));
    assert_eq!(end.set_capacity(4096, &root), Err(Errno::EBUSY));
    let user = Credentials::user(1000, 1000);
    assert_eq!(end.set_capacity((1 << 20) + 1, &user), Err(Errno::EPERM));
    assert_eq!(end.set_capacity(1 << 21, &root), Ok(1 << 21));
    assert_eq!(read(&reader, 9000).map(|bytes| bytes.len()), Ok(8192));
}

#[test]
fn peeking_leaves_the_bytes() {
    let (reader, writer) = ends(OpenFlags::empty());
    assert_eq!(write(&writer, b"abc"), Ok(3));
    let end: &PipeEnd = reader.downcast().unwrap();
    let mut seen = [0; 2];
    assert_eq!(end.peek(&mut seen, false), Ok(2));
    assert_eq!((&seen, read(&reader, 9)), (b"ab", Ok(b"abc".to_vec())));
}

#[test]
fn a_pipe_can_be_opened_again_at_its_place() {
    let (reader, writer) = ends(OpenFlags::empty());
    let options = crate::tmpfs::TmpFsOptions::default();
    let root = crate::tmpfs::TmpFs::new("tmpfs", &options).unwrap();
    let root = crate::SuperBlock::new(root).unwrap();
    let namespace = crate::MountNamespace::new(&root, b"", crate::MountFlags::empty()).unwrap();
    let fs = crate::FsContext::new(&namespace).unwrap();
    let credentials = Arc::new(Credentials::root());
    let caller = crate::Caller {
        fs: &fs,
        credentials: &credentials,
    };
    let again = caller
        .open_path(writer.place().unwrap(), OpenFlags::WRONLY)
        .unwrap();
    assert_eq!(write(&again, b"through proc"), Ok(12));
    assert_eq!(again.key(), reader.key());
    assert_eq!(
        again.display(&fs.root()).unwrap(),
        writer.display(&fs.root()).unwrap()
    );
    drop(writer);
    assert!(!reader.poll(None).contains(Events::HUP));
    drop(again);
    assert_eq!(read(&reader, 20), Ok(b"through proc".to_vec()));
    assert!(reader.poll(None).contains(Events::HUP));
}

#[test]
fn fifo_opens_wait_for_each_other_unless_nonblocking() {
    let key = InodeKey {
        device: 1,
        ino: 77_001,
    };
    assert_eq!(
        open_fifo(key, OpenFlags::WRONLY | OpenFlags::NONBLOCK).err(),
        Some(Errno::ENXIO)
    );
    let early = open_fifo(key, OpenFlags::NONBLOCK).unwrap();
    assert!(
        early.poll(None).is_empty(),
        "no hang-up before the first writer"
    );
    drop(early);
    let opening = thread::spawn(move || open_fifo(key, OpenFlags::empty()).map(drop));
    thread::sleep(Duration::from_millis(20));
    let writer = open_fifo(key, OpenFlags::WRONLY).unwrap();
    assert_eq!(opening.join().unwrap(), Ok(()));
    drop(writer);
    assert!(open_fifo(key, OpenFlags::RDWR).is_ok());
}

#[test]
fn what_is_put_back_comes_first_again() {
    let mut ring = Ring::new();
    for round in 0..200 {
        assert_eq!(ring.take(&mut IoReader::kernel(b"abcdefgh"), 1000), Ok(8));
        let mut bytes = [0; 6];
        assert_eq!(ring.give(&mut IoWriter::kernel(&mut bytes)), Ok(6));
        ring.put_back(&bytes[2..]).unwrap();
        let mut rest = [0; 6];
        assert_eq!(ring.give(&mut IoWriter::kernel(&mut rest)), Ok(6));
        assert_eq!(&rest, b"cdefgh", "round {round}");
        ring.put_back(b"").unwrap();
        // So that the start is everywhere in turn.
        assert_eq!(ring.take(&mut IoReader::kernel(b"x"), 1000), Ok(1));
        ring.put_back(b"w").unwrap();
        let mut both = [0; 2];
        assert_eq!(ring.give(&mut IoWriter::kernel(&mut both)), Ok(2));
        assert_eq!(&both, b"wx");
    }
}

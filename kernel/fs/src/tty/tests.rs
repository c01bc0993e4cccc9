//! Pseudo-terminals from both ends, without a session.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Errno;
use abi::raw::general as raw;
use memory::io::{IoReader, IoWriter};

use super::pty::{Master, Pty};
use super::termios::Cc;
use crate::cred::Credentials;
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::poll::Events;

const NOW: Io = Io {
    offset: 0,
    nonblocking: true,
    append: false,
    direct: false,
};

struct Ends {
    pty: Arc<Pty>,
    master: Master,
    slave: Arc<dyn FileOps>,
}

fn ends() -> Ends {
    let pty = Pty::new(0).unwrap();
    pty.unlock();
    let slave = pty
        .open_slave(OpenFlags::NOCTTY, &Credentials::root())
        .unwrap();
    Ends {
        master: Master::detached(pty.clone()),
        pty,
        slave,
    }
}

fn read(file: &dyn FileOps, max: usize) -> abi::Result<Vec<u8>> {
    let mut bytes = vec![0; max];
    let count = file.read(&mut IoWriter::kernel(&mut bytes), &NOW)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn write(file: &dyn FileOps, bytes: &[u8]) -> abi::Result<usize> {
    file.write(&mut IoReader::kernel(bytes), &mut NOW.clone())
}

#[test]
fn what_is_typed_is_echoed_and_read_by_line() {
    let ends = ends();
    assert_eq!(read(ends.slave.as_ref(), 9), Err(Errno::EAGAIN));
    assert_eq!(write(&ends.master, b"hi\r"), Ok(3));
    assert_eq!(read(&ends.master, 9), Ok(b"hi\r\n".to_vec()));
    assert!(ends.slave.poll(None).contains(Events::READABLE));
    assert_eq!(read(ends.slave.as_ref(), 9), Ok(b"hi\n".to_vec()));
}

#[test]
fn output_is_processed_on_its_way() {
    let ends = ends();
    assert_eq!(write(ends.slave.as_ref(), b"a\nb"), Ok(3));
    assert_eq!(read(&ends.master, 9), Ok(b"a\r\nb".to_vec()));
    assert_eq!(read(&ends.master, 9), Err(Errno::EAGAIN));
}

#[test]
fn a_master_that_does_not_read_stops_the_writer() {
    let ends = ends();
    let mut written = 0;
    while let Ok(count) = write(ends.slave.as_ref(), &[b'x'; 1000]) {
        written += count;
    }
    assert!(written >= 16 * 1024 && !ends.slave.poll(None).contains(Events::WRITABLE));
    let mut seen = 0;
    while let Ok(bytes) = read(&ends.master, 4096) {
        seen += bytes.len();
    }
    assert_eq!(seen, written);
    assert!(ends.slave.poll(None).contains(Events::WRITABLE));
}

#[test]
fn the_last_close_of_the_terminal_ends_the_masters_reads() {
    let ends = ends();
    write(ends.slave.as_ref(), b"bye").unwrap();
    drop(ends.slave);
    assert!(ends.master.poll(None).contains(Events::HUP));
    assert_eq!(read(&ends.master, 9), Ok(b"bye".to_vec()));
    assert_eq!(read(&ends.master, 9), Err(Errno::EIO));
    let _again = ends
        .pty
        .open_slave(OpenFlags::NOCTTY, &Credentials::root())
        .unwrap();
    assert_eq!(read(&ends.master, 9), Err(Errno::EAGAIN));
}

#[test]
fn a_closed_master_hangs_the_terminal_up() {
    let ends = ends();
    drop(ends.master);
    assert_eq!(read(ends.slave.as_ref(), 9), Ok(Vec::new()));
    assert_eq!(write(ends.slave.as_ref(), b"x"), Err(Errno::EIO));
    assert!(ends.slave.poll(None).contains(Events::HUP));
    assert_eq!(
        ends.slave.ioctl(abi::raw::ioctl::TCGETS, 0),
        Err(Errno::EIO)
    );
    assert_eq!(
        ends.pty
            .open_slave(OpenFlags::NOCTTY, &Credentials::root())
            .err(),
        Some(Errno::EIO)
    );
}

#[test]
fn a_locked_terminal_cannot_be_opened() {
    assert_eq!(
        Pty::new(0)
            .unwrap()
            .open_slave(OpenFlags::NOCTTY, &Credentials::root())
            .err(),
        Some(Errno::EIO)
    );
}

#[test]
fn raw_reads_wait_for_the_minimum_or_the_time() {
    let ends = ends();
    let mut termios = ends.pty.terminal.termios();
    termios.lflag &= !(raw::ICANON | raw::ECHO);
    termios.cc[Cc::Min as usize] = 0;
    termios.cc[Cc::Time as usize] = 0;
    ends.pty.terminal.set_termios(&termios, false);
    assert_eq!(
        ends.pty.terminal.read(9, false),
        Ok(collections::Vec::new())
    );
    termios.cc[Cc::Time as usize] = 1;
    ends.pty.terminal.set_termios(&termios, false);
    let start = sched::clock::monotonic_ns();
    assert_eq!(
        ends.pty.terminal.read(9, false),
        Ok(collections::Vec::new())
    );
    assert!(sched::clock::monotonic_ns() - start >= 100_000_000);
    termios.cc[Cc::Min as usize] = 3;
    termios.cc[Cc::Time as usize] = 0;
    ends.pty.terminal.set_termios(&termios, false);
    write(&ends.master, b"ab").unwrap();
    write(&ends.master, b"cd").unwrap();
    assert_eq!(
        ends.pty.terminal.read(9, false),
        Ok(collections::Vec::from_std(b"abcd".to_vec()))
    );
}

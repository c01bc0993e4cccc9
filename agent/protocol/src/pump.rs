//! Moving bytes between two descriptors, with plain reads and writes: the one loop for the stdio streams
//! of host and guest.
//!
//! It is not `std::io::copy`, because that uses splice(2)
//! on Linux, which keeps a pipe locked while it waits for the other side: whoever then closes the
//! pipe, `ctr` for one, hangs in the kernel where not even SIGKILL reaches it.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// Bytes moved at once.
const CHUNK: usize = 32 * 1024;

/// Copies until the input ends, and calls `moved` with each piece; an input that fails has ended, too.
///
/// # Errors
/// The error of an output that takes no more; what was read for it is lost.
pub fn copy(from: impl AsFd, to: impl AsFd, mut moved: impl FnMut(&[u8])) -> Result<(), Errno> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match rustix::io::read(&from, &mut buffer[..]) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                write_all(&to, &buffer[..length])?;
                moved(&buffer[..length]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&from, PollFlags::IN),
            Err(_) => return Ok(()),
        }
    }
}

/// As [`copy`], and ends as soon as nobody reads `to` any more, whether there is something to write or not.
///
/// # Errors
/// As [`copy`]; EPIPE when `to` has been hung up or its reader has ended.
pub fn copy_while_read(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut both = [
            PollFd::new(&from, PollFlags::IN),
            PollFd::new(&to, PollFlags::RDHUP),
        ];
        match rustix::event::poll(&mut both, None) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        let (input, output) = (both[0].revents(), both[1].revents());
        if !input.is_empty() {
            match rustix::io::read(&from, &mut buffer[..]) {
                Ok(0) => return Ok(()),
                Ok(length) => write_all(&to, &buffer[..length])?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return Ok(()),
            }
        } else if output.intersects(over) {
            return Err(Errno::PIPE);
        }
    }
}

/// Writes all of it, however often that takes.
///
/// # Errors
/// As write(2), but for EINTR and EAGAIN.
fn write_all(to: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&to, PollFlags::OUT),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait(fd: impl AsFd, what: PollFlags) {
    // Whatever it says, the next read or write knows.
    let _ = rustix::event::poll(&mut [PollFd::new(&fd, what)], None);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{copy, copy_while_read};

    #[test]
    fn copies_to_the_end_and_tells_a_broken_output() {
        let (mut far, near) = UnixStream::pair().expect("a socket pair");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        far.write_all(b"bytes").expect("a write");
        drop(far);
        assert_eq!(copy(&near, &writer, |_| {}), Ok(()));
        drop(writer);
        let mut seen = String::new();
        reader.read_to_string(&mut seen).expect("a read");
        assert_eq!(seen, "bytes");

        let (mut far, near) = UnixStream::pair().expect("a socket pair");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        far.write_all(b"bytes").expect("a write");
        assert_eq!(copy(&near, &writer, |_| {}), Err(rustix::io::Errno::PIPE));
    }

    #[test]
    fn a_silent_input_does_not_hide_that_nobody_reads() {
        let (mut far, near) = UnixStream::pair().expect("a socket pair");
        let (mut host, stream) = UnixStream::pair().expect("a socket pair");
        far.write_all(b"words").expect("a write");
        let (ended, waiting) = mpsc::channel();
        std::thread::spawn(move || ended.send(copy_while_read(&near, &stream)));
        let mut words = [0; 5];
        host.read_exact(&mut words).expect("words");
        let still_copies = waiting.try_recv();
        drop(host);
        let end = waiting.recv_timeout(Duration::from_secs(20));
        assert!(still_copies.is_err());
        assert_eq!(end, Ok(Err(rustix::io::Errno::PIPE)));
    }

    /// `ctr run --detach` did not end: closing its end of the FIFO waited for the next output.
    #[test]
    fn a_silent_input_does_not_keep_the_output_from_being_closed() {
        let (far, near) = UnixStream::pair().expect("a socket pair");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        std::thread::spawn(move || copy(&near, &writer, |_| {}));
        // Long enough for the copy to wait for input.
        std::thread::sleep(Duration::from_millis(100));
        let (closed, waiting) = mpsc::channel();
        std::thread::spawn(move || {
            drop(reader);
            closed.send(())
        });
        let in_time = waiting.recv_timeout(Duration::from_secs(5));
        drop(far);
        assert!(in_time.is_ok(), "closing the pipe hung");
    }
}

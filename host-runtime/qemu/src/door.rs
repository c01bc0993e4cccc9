//! A way for QEMU to connect to this process by a path that nobody else has.
//!
//! QEMU's vhost-user network takes no connection that it inherits: it wants a socket's path, by which it knows that
//! descriptors can be passed. So it gets `/proc/self/fd/N`, of a descriptor that it inherits, for a socket that has no
//! name any more when QEMU is started.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

/// Where its name is for a moment.
const FOLDER: &str = "/tmp";

/// A listening socket, and its place.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    place: OwnedFd,
}

impl Door {
    /// One that only who has its [place](Self::place) can come in by.
    ///
    /// # Errors
    /// When the host has no room for its name.
    pub fn new() -> io::Result<Self> {
        let folder = private_folder()?;
        let made = Self::within(&folder);
        // Nobody needs the name any more.
        let _ = fs::remove_dir_all(&folder);
        made
    }

    fn within(folder: &Path) -> io::Result<Self> {
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path)?;
        // QEMU is another user.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        let place = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { listener, place })
    }

    /// What is to be inherited.
    #[must_use]
    pub fn place(&self) -> BorrowedFd<'_> {
        self.place.as_fd()
    }

    /// Waits until somebody has come in; `None` when `ended` becomes readable before.
    ///
    /// # Errors
    /// What the system said.
    pub fn accept(&self, ended: BorrowedFd<'_>) -> io::Result<Option<UnixStream>> {
        let mut polled = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(ended, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        match polled[0].revents().is_empty() {
            true => Ok(None),
            false => Ok(Some(self.listener.accept()?.0)),
        }
    }
}

/// A folder that only this user can look into.
fn private_folder() -> io::Result<PathBuf> {
    loop {
        let mut number = [0; 8];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())?;
        let number = u64::from_ne_bytes(number);
        let path = Path::new(FOLDER).join(format!("nacre-{number:016x}"));
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) => return Ok(path),
            Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn who_has_the_place_comes_in_and_nothing_has_a_name() {
        let door = Door::new().expect("room");
        let path = format!("/proc/self/fd/{}", door.place().as_raw_fd());
        let names = fs::read_link(&path).expect("a link");
        assert!(!names.exists(), "{}", names.display());
        let mut theirs = UnixStream::connect(&path).expect("it is open");
        let (never, _keeps_open) = io::pipe().expect("a pipe");
        let accepted = door.accept(never.as_fd()).expect("it works");
        theirs.write_all(b"hello").expect("room");
        let mut said = [0; 5];
        let mut ours = accepted.expect("somebody came");
        ours.read_exact(&mut said).expect("all of it");
        assert_eq!(&said, b"hello");
        // Who waits for one that has ended waits no longer.
        let (ended, _) = io::pipe().expect("a pipe");
        assert!(door.accept(ended.as_fd()).is_ok_and(|came| came.is_none()));
    }
}

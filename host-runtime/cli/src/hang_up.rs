//! Noticing that the local terminal has gone: its window was closed, its connection broke.
//!
//! A thread waits for it and wakes for nothing else. The kernel also sends SIGHUP, but only to the session's leader and
//! the terminal's foreground, and anybody may send that; so a SIGHUP is a reason to look ([`Bell`]), no more.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::RunError;

const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// A watched terminal; dropping it ends the watch, and bells that were made of it ring for nobody.
#[derive(Debug)]
pub(super) struct Watch {
    bell: PipeWriter,
}

/// Has the watch look again.
#[derive(Debug)]
pub(super) struct Bell(PipeWriter);

impl Watch {
    /// Calls `gone` on a thread of its own once the terminal has hung up.
    pub(super) fn start(
        terminal: Arc<OwnedFd>,
        gone: impl FnOnce() + Send + 'static,
    ) -> Result<Self, RunError> {
        let host = |source| RunError::Host {
            what: "watch the terminal",
            source,
        };
        let (bell, ringer) = std::io::pipe().map_err(host)?;
        let thread = std::thread::Builder::new().name("terminal".to_owned());
        let watch = move || {
            if waits_until_gone(&terminal, bell) {
                gone();
            }
        };
        thread.spawn(watch).map_err(host)?;
        Ok(Self { bell: ringer })
    }

    /// A bell for whoever hears of a reason to look.
    pub(super) fn bell(&self) -> Result<Bell, RunError> {
        let bell = self.bell.try_clone().map_err(|source| RunError::Host {
            what: "watch the terminal",
            source,
        })?;
        Ok(Bell(bell))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A bell may still be there, so that closing is not enough.
        let _ = rustix::io::write(&self.bell, b"e");
    }
}

impl Bell {
    /// Rings; the watch looks at the terminal at once.
    pub(super) fn ring(&self) {
        // A watch that is over needs no bell.
        let _ = rustix::io::write(&self.0, b"l");
    }
}

/// Whether a terminal has hung up.
pub(super) fn has_hung_up(terminal: impl AsFd) -> bool {
    let mut one = [PollFd::new(&terminal, PollFlags::empty())];
    let at_once = Timespec::default();
    rustix::event::poll(&mut one, Some(&at_once)).is_ok() && one[0].revents().intersects(GONE)
}

/// Waits until the terminal has gone; false when the watch ends first.
fn waits_until_gone(terminal: &OwnedFd, mut bell: PipeReader) -> bool {
    loop {
        let mut both = [
            PollFd::new(terminal, PollFlags::empty()),
            PollFd::new(&bell, PollFlags::IN),
        ];
        match rustix::event::poll(&mut both, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return false,
            Ok(_) => {}
        }
        let (hung_up, rung) = (both[0].revents(), both[1].revents());
        if hung_up.intersects(GONE) {
            return true;
        }
        if !rung.is_empty() {
            let mut word = [0];
            let read = std::io::Read::read(&mut bell, &mut word);
            if !matches!(read, Ok(1)) || word == *b"e" {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use rustix::pty::OpenptFlags;

    use super::{Watch, has_hung_up};

    #[test]
    fn a_terminal_that_goes_is_noticed_and_one_that_stays_is_not() {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let open = || {
            let master = rustix::pty::openpt(flags).expect("a terminal");
            rustix::pty::unlockpt(&master).expect("unlocked");
            let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its other end");
            (master, Arc::new(slave))
        };
        let (master, slave) = open();
        let (sender, gone) = channel();
        let watch = Watch::start(Arc::clone(&slave), move || {
            sender.send(()).expect("a receiver");
        });
        let watch = watch.expect("a watch");
        watch.bell().expect("a bell").ring();
        assert!(!has_hung_up(&slave));
        drop(master);
        gone.recv_timeout(Duration::from_secs(20)).expect("noticed");
        assert!(has_hung_up(&slave));

        let (_master, slave) = open();
        let (sender, gone) = channel::<()>();
        let watch = Watch::start(slave, move || {
            sender.send(()).expect("a receiver");
        });
        drop(watch.expect("a watch"));
        let end = gone.recv_timeout(Duration::from_secs(20));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    }
}

//! Pseudo-terminals: one of the container's own where it has them, of the agent's otherwise.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use agent_protocol::WindowSize;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::refusal::{Answer, Refusal};

/// Both ends of a new pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
    /// Where the container sees the slave; `None` when it is not one of its terminals.
    pub(crate) path: Option<CString>,
}

/// Opens a pseudo-terminal for a process of the container at `root`.
pub(crate) fn open(root: &CStr, size: Option<&WindowSize>) -> Answer<Terminal> {
    let (master, ours) = match open_beneath(root) {
        Ok(master) => (master, false),
        Err(_) => (
            open_agents().map_err(|errno| Refusal::system("open /dev/ptmx", errno))?,
            true,
        ),
    };
    let failed = |errno| Refusal::system("set up a pseudo-terminal", errno);
    rustix::pty::unlockpt(&master).map_err(failed)?;
    let name = rustix::pty::ptsname(&master, Vec::new()).map_err(failed)?;
    let slave = open_slave(root, &master, &name, ours).map_err(failed)?;
    if let Some(size) = size {
        resize(&master, size)?;
    }
    Ok(Terminal {
        master,
        slave,
        path: (!ours).then_some(name),
    })
}

/// Tells a terminal its new size, which signals `SIGWINCH` to its foreground processes.
pub(crate) fn resize(master: &OwnedFd, size: &WindowSize) -> Answer<()> {
    let side = |name, value: u32| {
        u16::try_from(value)
            .map_err(|_| Refusal::invalid(format!("a terminal of {value} {name} is too large")))
    };
    let size = Winsize {
        ws_row: side("rows", size.rows)?,
        ws_col: side("columns", size.columns)?,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(master, size)
        .map_err(|errno| Refusal::system("set the terminal's size", errno))
}

/// The container's own `/dev/pts/ptmx`, following no link out of its root.
fn open_beneath(root: &CStr) -> Result<OwnedFd, Errno> {
    let pts = open_pts(root)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(pts, c"ptmx", flags, Mode::empty())
}

fn open_pts(root: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let dev = rustix::fs::openat(root, c"dev", flags, Mode::empty())?;
    rustix::fs::openat(dev, c"pts", flags, Mode::empty())
}

fn open_agents() -> Result<OwnedFd, Errno> {
    rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
}

fn open_slave(root: &CStr, master: &OwnedFd, name: &CStr, ours: bool) -> Result<OwnedFd, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    if let Ok(slave) = rustix::pty::ioctl_tiocgptpeer(master, flags) {
        return Ok(slave);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    if ours {
        return rustix::fs::open(name, flags, Mode::empty());
    }
    let number = name
        .to_bytes()
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    rustix::fs::openat(open_pts(root)?, number, flags, Mode::empty())
}

//! What makes PID 1 PID 1: the first mounts, the last words, and switching the machine off.

use std::ffi::CStr;
use std::io::Write;
use std::time::Duration;

use agent_protocol::SHARED_TAG;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;

use crate::refusal::{Answer, Refusal, text_of};

/// Where the directory that the host shares is mounted.
pub(crate) const SHARED: &str = "/run/nacre/shared";

/// A file system that PID 1 mounts for itself.
struct Own {
    kind: &'static CStr,
    at: &'static CStr,
    data: Option<&'static CStr>,
    needed: bool,
}

const OWN: [Own; 5] = [
    Own {
        kind: c"proc",
        at: c"/proc",
        data: None,
        needed: true,
    },
    Own {
        kind: c"devtmpfs",
        at: c"/dev",
        data: Some(c"mode=0755"),
        needed: true,
    },
    Own {
        kind: c"devpts",
        at: c"/dev/pts",
        data: Some(c"mode=0620,ptmxmode=0666"),
        needed: false,
    },
    Own {
        kind: c"sysfs",
        at: c"/sys",
        data: None,
        needed: false,
    },
    Own {
        kind: c"tmpfs",
        at: c"/run",
        data: Some(c"mode=0755"),
        needed: true,
    },
];

/// Mounts what PID 1 itself needs.
pub(crate) fn mount_own() -> Answer<()> {
    for own in &OWN {
        // The archive may have the directory already, and may be read-only.
        let _ = rustix::fs::mkdir(own.at, Mode::from_raw_mode(0o755));
        match rustix::mount::mount(own.kind, own.at, own.kind, MountFlags::NOSUID, own.data) {
            // The kernel may have mounted it for us.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(errno) if own.needed => {
                let what = format!("mount {} at {}", text(own.kind), text(own.at));
                return Err(Refusal::system(what, errno));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Mounts the directory that the host shares. A host may share none, so the reason why it is not
/// there is for the one who asks for it.
pub(crate) fn mount_shared() -> Result<(), Errno> {
    for directory in [c"/run/nacre", c"/run/nacre/shared"] {
        match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::mount::mount(SHARED_TAG, SHARED, c"virtiofs", MountFlags::empty(), None)
}

/// Writes back, unmounts and switches the machine off.
pub(crate) fn power_off() -> ! {
    rustix::fs::sync();
    // Power-off does not wait for a busy file system, and the host's files are written through.
    let _ = rustix::mount::unmount(SHARED, UnmountFlags::DETACH);
    let refused = rustix::system::reboot(RebootCommand::PowerOff);
    say(&format!(
        "cannot power off: {}",
        refused.map_or_else(text_of, |()| "the call returned".to_owned())
    ));
    // The end of PID 1 is a kernel panic, which the host would report as the cause.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Writes one sentence to the console.
pub(crate) fn say(sentence: &str) {
    let line = format!("nacre-agent: {sentence}\n");
    let console = std::fs::OpenOptions::new().write(true).open("/dev/console");
    // There is nobody to tell when even the console fails.
    let _ = match console {
        Ok(mut console) => console.write_all(line.as_bytes()),
        Err(_) => std::io::stderr().write_all(line.as_bytes()),
    };
}

fn text(string: &CStr) -> std::borrow::Cow<'_, str> {
    string.to_string_lossy()
}

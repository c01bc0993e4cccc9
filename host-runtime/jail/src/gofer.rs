//! The process that opens files for a VMM: how the VMM starts it, and what it does.
//!
//! It is the VMM's own program, started with one word, with the link's socket as standard input and the link's buffer
//! as standard output; [`devices::fs::gofer`] is what they say over it. It ends with the VMM, at the latest because
//! the VMM is the first of its namespace of processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use devices::fs::gofer::{Gofer as End, Link, shared_buffer};
use devices::fs::server::FileServer;
use host_machine::{DeviceStats, ExitReason};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::confine::{self, Namespaces};
use crate::error::JailError;
use crate::seccomp::{self, Role};

/// What says on the command line that this is to be a gofer.
pub const WORD: &str = "gofer";
/// For how long, and how often, a gofer that hung up is looked at for how it ended.
const REAP_TRIES: u32 = 200;
const REAP_PAUSE: Duration = Duration::from_millis(1);

/// A gofer as its VMM sees it.
#[derive(Debug)]
pub struct Gofer {
    child: Child,
    socket: OwnedFd,
    /// How often it was asked.
    asked: Arc<AtomicU64>,
}

impl Gofer {
    /// Starts one for this directory, and gives the link to it, which is [ready](Link::wait_ready) some time later.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn start(directory: &OwnedFd) -> io::Result<(Self, Link)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let buffer = shared_buffer()?;
        // The new process is the program's file, whatever has its name by now, and begins in the directory.
        let child = Command::new("/proc/self/exe")
            .arg(WORD)
            .env_clear()
            .current_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(buffer.try_clone()?))
            .spawn()?;
        let link = Link::new(ours, buffer)?;
        let gofer = Self {
            child,
            socket: link.socket()?,
            asked: link.asked(),
        };
        Ok((gofer, link))
    }

    /// What hangs up when it ends.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// How often it was asked: requests that the file system device passed on.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        DeviceStats {
            name: WORD.to_owned(),
            requests: self.asked.load(Ordering::Relaxed),
        }
    }

    /// Its id, as this process knows it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has hung up.
    #[must_use]
    pub fn end(&self) -> ExitReason {
        for _ in 0..REAP_TRIES {
            match rustix::process::waitpid(Pid::from_child(&self.child).into(), WaitOptions::NOHANG)
            {
                Ok(Some((_, status))) => return reason(status),
                Ok(None) => std::thread::sleep(REAP_PAUSE),
                Err(_) => break,
            }
        }
        let message = "the process that serves its files hung up".to_owned();
        ExitReason::VmmFailed { message }
    }
}

fn reason(status: WaitStatus) -> ExitReason {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => ExitReason::GoferKilled { signal },
        (None, code) => ExitReason::VmmFailed {
            message: format!(
                "the process that serves its files ended with code {}",
                code.unwrap_or(-1)
            ),
        },
    }
}

/// Serves the current directory over the link on standard input and output.
#[must_use]
pub fn run() -> ExitCode {
    let begun = confine::begin();
    let (Ok(socket), Ok(buffer)) = (
        io::stdin().as_fd().try_clone_to_owned(),
        io::stdout().as_fd().try_clone_to_owned(),
    ) else {
        return ExitCode::FAILURE;
    };
    let Ok(end) = End::new(socket, buffer) else {
        return ExitCode::FAILURE;
    };
    match begun.and_then(|()| confined_server()) {
        Ok(server) => {
            end.serve(&server);
            ExitCode::SUCCESS
        }
        Err(error) => {
            end.refuse(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn confined_server() -> Result<FileServer, JailError> {
    devices::fs::prepare_process();
    let failed = |what| move |source| JailError { what, source };
    let namespaces = Namespaces::enter()?;
    let open = || FileServer::new(".").map_err(failed("open its descriptors"));
    let server = namespaces.with_descriptors(open)?;
    namespaces.make_root()?;
    server.open().map_err(failed("open the directory"))?;
    confine::keep_capabilities(true)?;
    seccomp::confine(Role::Gofer)?;
    Ok(server)
}

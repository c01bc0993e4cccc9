//! `start`: makes the socket, leaves the daemon behind, prints where it listens.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use super::args::Args;
use super::error::ShimError;

/// Where containerd's shims keep their sockets: short, because a socket's path is at most 107 bytes.
const SOCKET_DIR: &str = "/run/containerd/s";

/// Starts the daemon for the container whose bundle is the working directory.
pub(super) fn start(args: &Args) -> Result<(), ShimError> {
    let socket = socket_path(args);
    let listener = listen(&socket)?;
    let address = format!("unix://{}", socket.display());
    spawn_daemon(args, listener)
        .and_then(|()| fs::write("address", &address).map_err(ShimError::file("write", "address")))
        .inspect_err(|_| {
            // Nobody listens there; the error says why.
            let _ = fs::remove_file(&socket);
        })?;
    let mut stdout = std::io::stdout();
    let told = write!(stdout, "{address}").and_then(|()| stdout.flush());
    told.map_err(|source| ShimError::System {
        what: "tell containerd the shim's address",
        source,
    })
}

/// The socket of a container's daemon: the same for whoever knows its namespace and name.
pub(super) fn socket_path(args: &Args) -> PathBuf {
    let name = format!("nacre\0{}\0{}\0{}", args.address, args.namespace, args.id);
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SOCKET_DIR).join(hex)
}

fn listen(socket: &Path) -> Result<UnixListener, ShimError> {
    fs::create_dir_all(SOCKET_DIR).map_err(ShimError::file("make", SOCKET_DIR))?;
    let bound = UnixListener::bind(socket).or_else(|error| match error.kind() {
        // Left over from a daemon that was killed, unless somebody answers.
        ErrorKind::AddrInUse if UnixStream::connect(socket).is_err() => {
            fs::remove_file(socket)?;
            UnixListener::bind(socket)
        }
        _ => Err(error),
    });
    let listener = bound.map_err(ShimError::file("listen on", socket))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
        .map_err(ShimError::file("restrict", socket))?;
    Ok(listener)
}

/// The daemon's standard input is its listening socket, its standard error containerd's log pipe.
fn spawn_daemon(args: &Args, listener: UnixListener) -> Result<(), ShimError> {
    let program = std::env::current_exe().map_err(|source| ShimError::System {
        what: "find the shim's own binary",
        source,
    })?;
    let mut command = Command::new(&program);
    command
        .args(["-namespace", &args.namespace, "-id", &args.id])
        .args(["-address", &args.address])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(log_pipe());
    if args.debug {
        command.arg("-debug");
    }
    command
        .spawn()
        .map(drop)
        .map_err(ShimError::file("run", program))
}

/// containerd reads the pipe `log` of the bundle; without one the daemon's log goes nowhere.
fn log_pipe() -> Stdio {
    fs::OpenOptions::new()
        // Both directions: opening does not wait, and a containerd that restarts breaks no pipe.
        .read(true)
        .write(true)
        .open("log")
        .map_or_else(|_| Stdio::null(), Stdio::from)
}

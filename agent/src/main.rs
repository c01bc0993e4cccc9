//! PID 1 of a Nacre guest: runs the containers of one pod for the host runtime.
//!
//! It mounts what it needs, listens on two vsock ports and then only reacts: `service` answers
//! the protocol's calls, `start` and `child` start processes, `stdio` moves their bytes, `pod` is
//! the table of it all, and the main thread reaps. All `unsafe` is in `sys`. Because its kernel is
//! small, the agent keeps to old and plain system calls and does without what a kernel lacks.
//!
//! `nacre-agent --listen DIR --shared DIR` runs the same agent on a Linux host for tests: it
//! listens on `DIR/1024.sock` and `DIR/1025.sock`, in a mount namespace of its own.

mod boot;
mod capabilities;
mod cgroups;
mod child;
mod enter;
mod events;
mod guest;
mod mounting;
mod mounts;
mod network;
mod pod;
mod processes;
mod refusal;
mod report;
mod service;
mod start;
mod stats;
mod stdio;
mod sys;
mod terminal;
mod users;

use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{RPC_PORT, STDIO_PORT};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use pod::Pod;
use refusal::{Answer, Refusal};
use service::{PowerOff, Service};

/// Connections that may wait for being accepted.
const BACKLOG: i32 = 64;

/// How long a thread stays that has done what blocks.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_millis(100);

/// Where the agent listens, and what it serves.
struct Setup {
    rpc: OwnedFd,
    stdio: OwnedFd,
    shared: Result<PathBuf, String>,
    power_off: PowerOff,
}

fn main() -> ExitCode {
    sys::share_one_heap();
    let is_init = rustix::process::getpid().is_init();
    let setup = if is_init {
        set_up_guest()
    } else {
        set_up_host()
    };
    let served = setup.and_then(serve);
    // Only failures come here: what succeeds runs until the machine is switched off.
    let sentence = served.map_or_else(|refusal| refusal.to_string(), |()| String::new());
    if is_init {
        boot::say(&sentence);
        boot::power_off();
    }
    // Nobody can be told if stderr is gone.
    let _ = writeln!(std::io::stderr(), "nacre-agent: {sentence}");
    ExitCode::FAILURE
}

/// Serves for ever.
fn serve(setup: Setup) -> Answer<()> {
    let pod = Arc::new(Pod::new(setup.shared));
    let for_streams = Arc::clone(&pod);
    let acceptor = std::thread::Builder::new()
        .name("streams".to_owned())
        .spawn(move || {
            let errno = for_streams.streams.accept_all(&setup.stdio);
            boot::say(&format!(
                "no more stdio streams: {}",
                refusal::text_of(errno)
            ));
        });
    acceptor.map_err(|error| Refusal::io("start a thread", &error))?;
    let service = Service {
        pod: Arc::clone(&pod),
        power_off: setup.power_off,
    };
    let methods = agent_protocol::create_agent(Arc::new(service));
    let requests = std::thread::Builder::new().name("requests".to_owned());
    let spawned = requests.spawn(move || {
        let refusal = answer_requests(setup.rpc, methods);
        boot::say(&format!("no more requests: {refusal}"));
    });
    spawned.map_err(|error| Refusal::io("start a thread", &error))?;
    pod.reap_forever()
}

/// A server on a vsock port, or on a socket file of a host.
fn server_on(listener: OwnedFd) -> ttrpc::Result<ttrpc::r#async::Server> {
    rustix::io::ioctl_fionbio(&listener, true).map_err(|errno| socket_error(&errno))?;
    let is_file = rustix::net::getsockname(&listener)
        .map(|address| address.address_family() == rustix::net::AddressFamily::UNIX);
    if is_file != Ok(true) {
        return sys::ttrpc_server(listener);
    }
    let listener = tokio::net::UnixListener::from_std(UnixListener::from(listener));
    let listener = listener.map_err(|error| socket_error(&error))?;
    Ok(ttrpc::r#async::Server::new().add_listener(listener.into()))
}

fn socket_error(error: &dyn std::fmt::Display) -> ttrpc::Error {
    ttrpc::Error::Socket(error.to_string())
}

/// Answers for ever, on this thread, which sleeps without a timeout while nobody asks.
fn answer_requests(
    listener: OwnedFd,
    methods: HashMap<String, ttrpc::r#async::Service>,
) -> Refusal {
    let cannot =
        |error: &dyn std::fmt::Display| Refusal::state(format!("cannot serve requests: {error}"));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().enable_time();
    builder.thread_keep_alive(BLOCKING_KEEP_ALIVE);
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => return cannot(&error),
    };
    runtime.block_on(async {
        let mut server = match server_on(listener) {
            Ok(server) => server.register_service(methods),
            Err(error) => return cannot(&error),
        };
        match server.start().await {
            Ok(()) => std::future::pending().await,
            Err(error) => cannot(&error),
        }
    })
}

fn set_up_guest() -> Answer<Setup> {
    boot::mount_own()?;
    let shared = boot::mount_shared()
        .map(|()| PathBuf::from(boot::SHARED))
        .map_err(refusal::text_of);
    sys::bring_loopback_up()
        .map_err(|error| Refusal::io("bring the loopback interface up", &error))?;
    let listen = |port| {
        sys::listen_vsock(port, BACKLOG)
            .map_err(|error| Refusal::io(&format!("listen on vsock port {port}"), &error))
    };
    Ok(Setup {
        stdio: listen(STDIO_PORT)?,
        rpc: listen(RPC_PORT)?,
        shared,
        power_off: boot::power_off,
    })
}

fn set_up_host() -> Answer<Setup> {
    let mut arguments = std::env::args().skip(1);
    let (mut directory, mut shared) = (None, None);
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--listen" => directory = arguments.next().map(PathBuf::from),
            "--shared" => shared = arguments.next().map(PathBuf::from),
            other => return Err(Refusal::invalid(format!("unknown option {other}"))),
        }
    }
    let usage = "it runs as PID 1 of a guest; on a host, for tests, --listen DIR --shared DIR";
    let (Some(directory), Some(shared)) = (directory, shared) else {
        return Err(Refusal::invalid(usage));
    };
    sys::heed_signals();
    own_mounts().map_err(|errno| Refusal::system("have mounts of its own", errno))?;
    // Orphans then come to this process as they come to PID 1.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Refusal::system("adopt orphans", errno))?;
    Ok(Setup {
        stdio: listen_unix(&directory, STDIO_PORT)?,
        rpc: listen_unix(&directory, RPC_PORT)?,
        shared: Ok(shared),
        power_off: || std::process::exit(0),
    })
}

fn own_mounts() -> Result<(), Errno> {
    sys::unshare_mounts()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", private)
}

fn listen_unix(directory: &Path, port: u32) -> Answer<OwnedFd> {
    let path = directory.join(format!("{port}.sock"));
    let what = format!("listen on {}", path.display());
    UnixListener::bind(path)
        .map(OwnedFd::from)
        .map_err(|error| Refusal::io(&what, &error))
}

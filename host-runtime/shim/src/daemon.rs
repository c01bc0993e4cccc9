//! The daemon: serves the Task API on the socket it was given until containerd says Shutdown.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, mpsc};

use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::r#async::Server;
use host_machine::logging;
use rustix::mount::{MountPropagationFlags, mount_change};

use super::args::Args;
use super::error::ShimError;
use super::events::Publisher;
use super::launch;
use super::service::{Calls, Service};

/// The Task API under its name before containerd 2.0, which renamed it and changed nothing else.
const TASK_V2: &str = "containerd.task.v2.Task";
const TASK_V3: &str = "containerd.task.v3.Task";

/// Serves until shut down, then removes the socket.
pub(super) fn serve(args: &Args) -> Result<(), ShimError> {
    let system = |what| {
        move |source: rustix::io::Errno| ShimError::System {
            what,
            source: source.into(),
        }
    };
    let listener =
        rustix::io::dup(std::io::stdin()).map_err(system("keep the listening socket"))?;
    let listener = UnixListener::from(listener);
    rustix::process::setsid().map_err(system("leave containerd's session"))?;
    logging::set_pod(&format!("{}/{}", args.namespace, args.id));
    own_mount_namespace()?;
    let bundle = std::env::current_dir().map_err(|source| ShimError::System {
        what: "find the container's bundle",
        source,
    })?;

    let (stop, stopped) = mpsc::channel();
    let publisher = Publisher::connect(&args.namespace)?;
    let service = Arc::new(Service::new(args, bundle, publisher, stop));
    let failed = |what| move |source| ShimError::System { what, source };
    let runtime = pod::runtime::handle().map_err(failed("start the thread for requests"))?;
    let entered = runtime.enter();
    let mut server = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixListener::from_std(listener))
        .map(|listener| Server::new().add_listener(listener.into()))
        .map(|server| server.register_service(methods(&service)))
        .map_err(failed(
            "use the listening socket; start this program through containerd",
        ))?;
    drop(entered);
    let ttrpc = |what| move |source| ShimError::Ttrpc { what, source };
    let started = runtime.block_on(server.start());
    started.map_err(ttrpc("cannot serve the Task API"))?;

    // Ends when Shutdown is called; a dropped sender cannot happen while the server runs.
    let _ = stopped.recv();
    service.drain();
    // The socket first: whoever comes now finds nothing rather than silence.
    let _ = fs::remove_file(launch::socket_path(args));
    // What has been answered reaches containerd; it waits for nothing else.
    let _ = runtime.block_on(server.shutdown());
    Ok(())
}

/// Mounts made from here on are seen by this process and its VMM alone, and end with them.
fn own_mount_namespace() -> Result<(), ShimError> {
    let system = |what| move |source: std::io::Error| ShimError::System { what, source };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|errno| system("make a mount namespace of the shim's own")(errno.into()))?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave)
        .map_err(|errno| system("keep the shim's mounts to itself")(errno.into()))
}

/// The handlers under both names of the service.
fn methods(service: &Arc<Service>) -> HashMap<String, ttrpc::r#async::Service> {
    let task = || create_task(Arc::new(Calls(Arc::clone(service))));
    let renamed = task()
        .into_iter()
        .map(|(name, methods)| (name.replace(TASK_V3, TASK_V2), methods));
    task().into_iter().chain(renamed).collect()
}

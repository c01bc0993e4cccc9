//! `delete`: tidies up after a daemon that is gone, and says how its container ended.
//!
//! The daemon's mounts went with its mount namespace and its VMM with its parent, so what is left
//! is a socket and the pod's state directory.

use std::fs;
use std::io::{self, Write};
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;

use pod::state::StateRoot;

use super::args::Args;
use super::error::ShimError;
use super::{events, launch};

/// What a container killed by SIGKILL exits with; its daemon went the same way.
const KILLED: u32 = 128 + 9;

/// Removes what is left and prints a `DeleteResponse`.
pub(super) fn delete(args: &Args) -> Result<(), ShimError> {
    let socket = launch::socket_path(args);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ShimError::file("remove", socket)(error));
        }
        _ => {}
    }
    if let Err(error) = StateRoot::locate(None).clean(&args.namespace, &args.id) {
        // What is left there is not in the way of anything else.
        tracing::warn!("{error}");
    }
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: Some(events::timestamp(SystemTime::now())).into(),
        ..Default::default()
    };
    let system = |source| ShimError::System {
        what: "tell containerd how the container ended",
        source,
    };
    let bytes = response
        .write_to_bytes()
        .map_err(|error| system(io::Error::other(error)))?;
    io::stdout().write_all(&bytes).map_err(system)
}

//! `-info`: what containerd 2 asks of a runtime before it starts a container with it.

use std::io::{self, Write as _};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use super::error::ShimError;

/// The name by which containerd's clients ask for this runtime.
const NAME: &str = "io.containerd.nacre.v2";
/// containerd's name for the specification's structure of features, which travels as JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints a `RuntimeInfo`. Options may come on stdin; this runtime has none, so nothing is read.
pub(super) fn print() -> Result<(), ShimError> {
    let failed = |source| ShimError::System {
        what: "tell containerd what this runtime can do",
        source,
    };
    let bytes = info().write_to_bytes();
    let bytes = bytes.map_err(|error| failed(io::Error::other(error)))?;
    io::stdout().write_all(&bytes).map_err(failed)
}

fn info() -> RuntimeInfo {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    let features = Any {
        type_url: FEATURES.to_owned(),
        value: oci::features().to_string().into_bytes(),
        ..Default::default()
    };
    RuntimeInfo {
        name: NAME.to_owned(),
        version: Some(version).into(),
        features: Some(features).into(),
        ..Default::default()
    }
}

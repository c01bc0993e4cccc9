//! `mounts`: what the guest mounts, and which of it are binds of host paths.

use std::path::PathBuf;

use agent_protocol::Mount;
use oci_spec::runtime::{Mount as OciMount, Spec};

/// A host path that the guest is to see.
#[derive(Debug, PartialEq, Eq)]
pub struct Bind {
    /// The index of its mount in the request.
    pub mount: usize,
    /// On the host.
    pub source: PathBuf,
    /// Whether the guest is only to read it.
    pub read_only: bool,
}

/// The mounts for the guest, and which of them are binds of host paths.
pub(super) fn mounts(spec: &Spec) -> (Vec<Mount>, Vec<Bind>) {
    let mut mounts = Vec::new();
    let mut binds = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        if let Some(source) = bind_source(mount) {
            let words = mount.options().iter().flatten();
            // The last word counts.
            let read_only = words.rev().find(|word| *word == "ro" || *word == "rw");
            binds.push(Bind {
                mount: mounts.len(),
                source,
                read_only: read_only.is_some_and(|word| word == "ro"),
            });
        }
        mounts.push(guest_mount(mount));
    }
    (mounts, binds)
}

/// The host path of a bind mount.
fn bind_source(mount: &OciMount) -> Option<PathBuf> {
    let bind = mount.typ().as_deref() == Some("bind")
        || mount
            .options()
            .iter()
            .flatten()
            .any(|word| word == "bind" || word == "rbind");
    bind.then(|| mount.source().clone().unwrap_or_default())
}

fn guest_mount(mount: &OciMount) -> Mount {
    let fstype = match bind_source(mount) {
        Some(_) => "bind".to_owned(),
        None => mount.typ().clone().unwrap_or_default(),
    };
    Mount {
        destination: mount.destination().display().to_string(),
        // What the guest's kernel does not have it says by its absence.
        optional: matches!(fstype.as_str(), "mqueue" | "cgroup" | "cgroup2" | "sysfs"),
        type_: fstype,
        options: mount.options().clone().unwrap_or_default(),
        ..Default::default()
    }
}

//! From the OCI specification to what the agent is asked; what Nacre does not do is refused by name.
//!
//! A microVM of its own gives a container everything that fresh namespaces would; joining somebody
//! else's namespace is refused. Sizes come from the memory limit and the CPU quota.

use std::fs;
use std::ops::BitOr as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxResources, Mount as OciMount, Process as OciProcess, Spec,
};

use rustix::thread::CapabilitySet;

use super::error::ShimError;
use crate::agent::protocol::{
    Capabilities, CreateContainerRequest, Mount, Rlimit, StartProcessRequest, User, WindowSize,
};
use crate::sandbox::MIN_MEMORY;

/// What a microVM gets when the container sets no limit.
const DEFAULT_MEMORY: u64 = 256 << 20;
/// The weight that containerd gives every container: no wish at all.
const DEFAULT_SHARES: u64 = 1024;

/// A container's configuration, checked.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) create: CreateContainerRequest,
    pub(super) init: StartProcessRequest,
    /// The root directory on the host, for a container without snapshot mounts.
    pub(super) root: PathBuf,
    /// Host paths to bind, each with the index of its mount in `create`.
    pub(super) binds: Vec<(usize, PathBuf)>,
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
}

/// Reads and checks `config.json`.
pub(super) fn read(id: &str, bundle: &Path) -> Result<Container, ShimError> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(ShimError::file("read", &path))?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|source| ShimError::Json {
        what: path.display().to_string(),
        source,
    })?;
    container(id, bundle, &spec)
}

fn container(id: &str, bundle: &Path, spec: &Spec) -> Result<Container, ShimError> {
    refuse_unsupported(spec)?;
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| invalid("config.json names no root"))?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| invalid("config.json names no process"))?;
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let mut mounts = Vec::new();
    let mut binds = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        if let Some(source) = bind_source(mount) {
            binds.push((mounts.len(), source));
        }
        mounts.push(guest_mount(mount));
    }
    Ok(Container {
        create: CreateContainerRequest {
            id: id.to_owned(),
            rootfs: "rootfs".to_owned(),
            readonly_rootfs: root.readonly().unwrap_or(false),
            mounts,
            hostname: spec.hostname().clone().unwrap_or_default(),
            ..Default::default()
        },
        init: process_request(id, "", process)?,
        root: bundle.join(root.path()),
        binds,
        cpus: cpus(resources)?,
        memory_bytes: memory(resources)?,
    })
}

/// Reads the process of an exec, which containerd sends as the specification's JSON.
pub(super) fn read_exec(
    id: &str,
    exec_id: &str,
    json: &[u8],
) -> Result<StartProcessRequest, ShimError> {
    let process: OciProcess = serde_json::from_slice(json).map_err(|source| ShimError::Json {
        what: format!("the process of exec {exec_id}"),
        source,
    })?;
    process_request(id, exec_id, &process)
}

fn process_request(
    id: &str,
    exec_id: &str,
    process: &OciProcess,
) -> Result<StartProcessRequest, ShimError> {
    if process
        .apparmor_profile()
        .as_ref()
        .is_some_and(|profile| !profile.is_empty())
    {
        return Err(unsupported("process.apparmorProfile"));
    }
    if process
        .selinux_label()
        .as_ref()
        .is_some_and(|label| !label.is_empty())
    {
        return Err(unsupported("process.selinuxLabel"));
    }
    let user = process.user();
    let size = process.console_size().map(|size| WindowSize {
        rows: u32::try_from(size.height()).unwrap_or(0),
        columns: u32::try_from(size.width()).unwrap_or(0),
        ..Default::default()
    });
    let rlimits = process.rlimits().iter().flatten().map(|limit| Rlimit {
        type_: limit.typ().to_string(),
        soft: limit.soft(),
        hard: limit.hard(),
        ..Default::default()
    });
    Ok(StartProcessRequest {
        container_id: id.to_owned(),
        exec_id: exec_id.to_owned(),
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().display().to_string(),
        user: Some(User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0),
            has_umask: user.umask().is_some(),
            ..Default::default()
        })
        .into(),
        terminal: process.terminal().unwrap_or(false),
        window_size: size.into(),
        rlimits: rlimits.collect(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        capabilities: process.capabilities().as_ref().map(capabilities).into(),
        ..Default::default()
    })
}

/// The sets as masks; a set that is not named is empty.
fn capabilities(sets: &LinuxCapabilities) -> Capabilities {
    let mask = |set: &Option<std::collections::HashSet<Capability>>| -> u64 {
        let names = set.iter().flatten().map(ToString::to_string);
        let known =
            names.filter_map(|name| CapabilitySet::from_name(name.trim_start_matches("CAP_")));
        known
            .map(|capability| capability.bits())
            .fold(0, u64::bitor)
    };
    Capabilities {
        bounding: mask(sets.bounding()),
        effective: mask(sets.effective()),
        inheritable: mask(sets.inheritable()),
        permitted: mask(sets.permitted()),
        ambient: mask(sets.ambient()),
        ..Default::default()
    }
}

fn refuse_unsupported(spec: &Spec) -> Result<(), ShimError> {
    if spec.hooks().is_some() {
        return Err(unsupported("hooks"));
    }
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    for namespace in linux.namespaces().iter().flatten() {
        if let Some(path) = namespace.path() {
            // As the specification spells it; `Display` has the kernel's short names.
            let kind = serde_json::json!(namespace.typ());
            let kind = kind.as_str().unwrap_or_default();
            let what = format!("joining the {kind} namespace {}", path.display());
            return Err(ShimError::Unsupported { what });
        }
    }
    let refused = [
        ("linux.seccomp", linux.seccomp().is_some()),
        (
            "linux.sysctl",
            linux.sysctl().as_ref().is_some_and(|map| !map.is_empty()),
        ),
        (
            "linux.uidMappings",
            linux
                .uid_mappings()
                .as_ref()
                .is_some_and(|list| !list.is_empty()),
        ),
        (
            "linux.gidMappings",
            linux
                .gid_mappings()
                .as_ref()
                .is_some_and(|list| !list.is_empty()),
        ),
        (
            "linux.devices",
            linux
                .devices()
                .as_ref()
                .is_some_and(|list| !list.is_empty()),
        ),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        (
            "linux.mountLabel",
            linux
                .mount_label()
                .as_ref()
                .is_some_and(|label| !label.is_empty()),
        ),
    ];
    match refused.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(unsupported(name)),
        None => Ok(()),
    }
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
        // The guest has no message queues and no cgroups of its own yet, and says so by their absence.
        optional: matches!(fstype.as_str(), "mqueue" | "cgroup" | "cgroup2" | "sysfs"),
        type_: fstype,
        options: mount.options().clone().unwrap_or_default(),
        ..Default::default()
    }
}

/// A memory limit is the microVM's size: the guest cannot have more than that.
fn memory(resources: Option<&LinuxResources>) -> Result<u64, ShimError> {
    let limit = resources
        .and_then(|resources| resources.memory().as_ref())
        .and_then(oci_spec::runtime::LinuxMemory::limit);
    match limit {
        None | Some(-1) => Ok(DEFAULT_MEMORY),
        Some(limit) => u64::try_from(limit).ok().filter(|&limit| limit >= MIN_MEMORY).ok_or_else(|| {
            invalid(&format!("the memory limit of {limit} bytes is below the {MIN_MEMORY} that a microVM needs"))
        }),
    }
}

/// A CPU quota is a number of virtual CPUs; parts of a CPU are refused.
fn cpus(resources: Option<&LinuxResources>) -> Result<u32, ShimError> {
    let Some(cpu) = resources.and_then(|resources| resources.cpu().as_ref()) else {
        return Ok(1);
    };
    if cpu
        .shares()
        .is_some_and(|shares| shares != 0 && shares != DEFAULT_SHARES)
    {
        return Err(unsupported("linux.resources.cpu.shares"));
    }
    if cpu.cpus().as_ref().is_some_and(|set| !set.is_empty()) {
        return Err(unsupported("linux.resources.cpu.cpus"));
    }
    let quota = cpu.quota().filter(|&quota| quota > 0);
    match (
        quota.and_then(|quota| u64::try_from(quota).ok()),
        cpu.period().unwrap_or(100_000),
    ) {
        (None, _) => Ok(1),
        (Some(quota), period) if period > 0 && quota % period == 0 => {
            u32::try_from(quota / period).map_err(|_| invalid("the CPU quota is out of range"))
        }
        (Some(quota), period) => Err(invalid(&format!(
            "the CPU quota of {quota} µs in {period} µs is not a whole number of CPUs, which is what a microVM has"
        ))),
    }
}

fn unsupported(what: &str) -> ShimError {
    ShimError::Unsupported {
        what: what.to_owned(),
    }
}

fn invalid(what: &str) -> ShimError {
    ShimError::Invalid {
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ShimError, container};

    fn read(change: impl FnOnce(&mut serde_json::Value)) -> Result<super::Container, ShimError> {
        let mut json = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
                "args": ["sh"], "env": ["A=b"], "cwd": "/", "noNewPrivileges": true,
                "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512}]
            },
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
                {"destination": "/host", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]}
            ],
            "linux": {
                "resources": {"memory": {"limit": 134217728}, "cpu": {"shares": 1024, "quota": 200000, "period": 100000}},
                "namespaces": [{"type": "pid"}, {"type": "network"}]
            }
        });
        change(&mut json);
        let spec = serde_json::from_value(json).expect("a specification");
        container("c1", Path::new("/bundle"), &spec)
    }

    #[test]
    fn reads_what_a_container_needs() {
        let got = read(|_| {}).unwrap();
        assert_eq!((got.cpus, got.memory_bytes), (2, 128 << 20));
        assert_eq!(got.root, Path::new("/bundle/rootfs"));
        assert!(got.create.readonly_rootfs && got.init.no_new_privileges);
        assert_eq!(got.init.capabilities.bounding, 1 | 1 << 21 | 1 << 40);
        assert_eq!(got.init.capabilities.effective, 0);
        assert_eq!(got.init.rlimits[0].type_, "RLIMIT_NOFILE");
        assert_eq!(got.init.user.additional_gids, [7]);
        assert_eq!(got.binds, [(1, "/srv".into())]);
        assert_eq!(got.create.mounts[1].type_, "bind");
    }

    #[test]
    fn refuses_by_name_what_it_would_ignore() {
        type Change = fn(&mut serde_json::Value);
        let cases: [(&str, Change); 6] = [
            ("linux.seccomp", |j| {
                j["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"});
            }),
            ("linux.sysctl", |j| {
                j["linux"]["sysctl"] = serde_json::json!({"kernel.msgmax": "1"});
            }),
            ("network namespace /run/ns", |j| {
                j["linux"]["namespaces"][1]["path"] = "/run/ns".into();
            }),
            ("whole number", |j| {
                j["linux"]["resources"]["cpu"]["quota"] = 50_000.into();
            }),
            ("memory limit", |j| {
                j["linux"]["resources"]["memory"]["limit"] = 1_048_576.into();
            }),
            ("apparmor", |j| {
                j["process"]["apparmorProfile"] = "cri".into();
            }),
        ];
        for (word, change) in cases {
            let error = read(change).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}

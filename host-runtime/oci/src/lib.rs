//! From the OCI specification to what the agent is asked; what Nacre does not do is refused by name.
//!
//! [`fields`] decides which fields may be set at all; [`mounts`], [`resources`], [`process`] and [`hooks`] read their parts. A
//! microVM of its own gives a container everything that fresh namespaces would; joining or keeping
//! somebody else's namespace is refused.

#![forbid(unsafe_code)]

mod error;
mod features;
pub mod fields;
mod hooks;
mod mounts;
mod process;
mod resources;
mod seccomp;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process as OciProcess, Spec};
use serde::de::DeserializeOwned;

use agent_protocol::{CreateContainerRequest, Namespace, NamespaceKind, StartProcessRequest};

pub use error::OciError;
pub use features::features;
pub use fields::Dropped;
pub use hooks::{After, Hooks};
pub use mounts::Bind;
pub use resources::CpuLimits;

/// The annotation that says what a container's microVM runs on, `kvm` or `qemu`.
const MACHINE: &str = "dev.nacre.machine";

/// A container's configuration, checked.
#[derive(Debug)]
pub struct Plan {
    /// What the agent is asked to mount.
    pub create: CreateContainerRequest,
    /// What it is asked to start first.
    pub init: StartProcessRequest,
    /// The root directory on the host, for a container without snapshot mounts.
    pub root: PathBuf,
    /// The host paths among the mounts.
    pub binds: Vec<Bind>,
    /// What its microVM runs on, if that is said.
    pub machine: Option<String>,
    /// How many CPUs its microVM has.
    pub cpus: u32,
    /// How much memory, in bytes.
    pub memory_bytes: u64,
    /// Where its cgroup is to be on the host, if that is said.
    pub cgroups_path: Option<String>,
    /// What that is to hold it to, beside its size.
    pub limits: CpuLimits,
    /// Programs of the host to run before and after.
    pub hooks: Hooks,
    /// The fields that are set and not followed.
    pub dropped: Vec<Dropped>,
}

/// Go's types have an empty one where there is none.
fn cgroups_path(linux: &Linux) -> Option<String> {
    let path = linux.cgroups_path().as_ref()?.display().to_string();
    Some(path).filter(|path| !path.is_empty())
}

fn annotation(spec: &Spec, name: &str) -> Option<String> {
    spec.annotations().as_ref()?.get(name).cloned()
}

/// Reads and checks `config.json`.
///
/// # Errors
/// When it cannot be read, is no such document, or asks for what Nacre does not do.
pub fn read(id: &str, bundle: &Path) -> Result<Plan, OciError> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(|source| OciError::Read { path, source })?;
    container(id, bundle, &text)
}

fn container(id: &str, bundle: &Path, text: &[u8]) -> Result<Plan, OciError> {
    let (spec, dropped): (Spec, _) = checked("config.json", "", text)?;
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| invalid("config.json names no root"))?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| invalid("config.json names no process"))?;
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| invalid("config.json has no part \"linux\""))?;
    check_namespaces(linux)?;
    check_propagation(linux)?;
    let size = resources::size(linux.resources().as_ref())?;
    let (mounts, binds) = mounts::mounts(&spec);
    let filter = linux.seccomp().as_ref().map(seccomp::filter).transpose()?;
    let filter = filter.unwrap_or_default();
    Ok(Plan {
        create: CreateContainerRequest {
            id: id.to_owned(),
            rootfs: "rootfs".to_owned(),
            readonly_rootfs: root.readonly().unwrap_or(false),
            mounts,
            hostname: spec.hostname().clone().unwrap_or_default(),
            domainname: spec.domainname().clone().unwrap_or_default(),
            masked_paths: linux.masked_paths().clone().unwrap_or_default(),
            readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
            // Refused above when the list lacks one; of networks the microVM is the container's own.
            namespaces: own_namespaces(),
            sysctls: sysctls(linux),
            cgroup: resources::group(linux.resources().as_ref())?,
            ..Default::default()
        },
        init: StartProcessRequest {
            seccomp: filter.program,
            seccomp_flags: filter.flags,
            ..process::request(id, "", process)?
        },
        root: bundle.join(root.path()),
        binds,
        machine: annotation(&spec, MACHINE),
        cpus: size.cpus,
        memory_bytes: size.memory_bytes,
        cgroups_path: cgroups_path(linux),
        limits: size.limits,
        hooks: Hooks::new(id, bundle, &spec),
        dropped,
    })
}

/// Reads the process of an exec, which containerd sends as the specification's JSON.
///
/// # Errors
/// As [`read`].
pub fn read_exec(id: &str, exec_id: &str, json: &[u8]) -> Result<StartProcessRequest, OciError> {
    let what = format!("the process of exec {exec_id}");
    // No field of a process is dropped, so there is nothing to warn of.
    let (process, _): (OciProcess, _) = checked(&what, "process", json)?;
    process::request(id, exec_id, &process)
}

/// Parses a document, or the part of one that is at `path`, once no field is set that is refused; and which are dropped.
fn checked<T: DeserializeOwned>(
    what: &str,
    path: &str,
    text: &[u8],
) -> Result<(T, Vec<Dropped>), OciError> {
    let failed = |source| OciError::Json {
        what: what.to_owned(),
        source,
    };
    let value = serde_json::from_slice(text).map_err(failed)?;
    let dropped = fields::check(path, &value)?;
    let parsed = serde_json::from_value(value).map_err(failed)?;
    Ok((parsed, dropped))
}

/// Those that are not dropped.
fn sysctls(linux: &Linux) -> HashMap<String, String> {
    let mut sysctls = linux.sysctl().clone().unwrap_or_default();
    sysctls.retain(|name, _| !name.starts_with("net."));
    sysctls
}

fn own_namespaces() -> Vec<Namespace> {
    let kinds = [
        NamespaceKind::NAMESPACE_KIND_PID,
        NamespaceKind::NAMESPACE_KIND_UTS,
        NamespaceKind::NAMESPACE_KIND_IPC,
    ];
    let own = |kind: NamespaceKind| Namespace {
        kind: kind.into(),
        ..Default::default()
    };
    kinds.into_iter().map(own).collect()
}

/// A container has its own of everything that a microVM has; a namespace that is not in the list is the host's,
/// which is refused as joining somebody's is. Cgroups and time are as in a fresh namespace in any case.
fn check_namespaces(linux: &Linux) -> Result<(), OciError> {
    let own = linux.namespaces().iter().flatten();
    for namespace in own.clone() {
        // As the specification spells it; `Display` has the kernel's short names.
        let kind = serde_json::json!(namespace.typ());
        let kind = kind.as_str().unwrap_or_default();
        if let Some(path) = namespace
            .path()
            .as_ref()
            .filter(|path| !path.as_os_str().is_empty())
        {
            return Err(unsupported(&format!(
                "joining the {kind} namespace {}",
                path.display()
            )));
        }
        if namespace.typ() == LinuxNamespaceType::User {
            return Err(unsupported("a user namespace (linux.namespaces)"));
        }
    }
    for (kind, name) in [
        (LinuxNamespaceType::Mount, "mount"),
        (LinuxNamespaceType::Pid, "pid"),
        (LinuxNamespaceType::Network, "network"),
        (LinuxNamespaceType::Ipc, "ipc"),
        (LinuxNamespaceType::Uts, "uts"),
    ] {
        if own.clone().all(|namespace| namespace.typ() != kind) {
            return Err(unsupported(&format!(
                "sharing the host's {name} namespace (linux.namespaces without {name})"
            )));
        }
    }
    Ok(())
}

/// No mount of the host comes into a microVM once it runs, and none leaves it.
fn check_propagation(linux: &Linux) -> Result<(), OciError> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("" | "private" | "rprivate") => Ok(()),
        Some(word) => Err(unsupported(&format!("linux.rootfsPropagation {word}"))),
    }
}

fn unsupported(what: &str) -> OciError {
    OciError::Unsupported {
        what: what.to_owned(),
    }
}

fn invalid(what: &str) -> OciError {
    OciError::Invalid {
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{Bind, OciError, container, read_exec};

    fn document() -> Value {
        json!({
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
                "resources": {
                    "memory": {"limit": 134_217_728},
                    "cpu": {"shares": 1024, "quota": 200_000, "period": 100_000},
                    "devices": [{"allow": false, "access": "rwm"}]
                },
                "cgroupsPath": "/default",
                "maskedPaths": ["/proc/kcore"],
                "readonlyPaths": ["/proc/sys"],
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
                ]
            }
        })
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<super::Plan, OciError> {
        let mut json = document();
        change(&mut json);
        container("c1", Path::new("/bundle"), json.to_string().as_bytes())
    }

    #[test]
    fn reads_what_a_container_needs() {
        let got = read(|_| {}).unwrap();
        assert_eq!((got.cpus, got.memory_bytes), (2, 128 << 20));
        assert_eq!(got.root, Path::new("/bundle/rootfs"));
        assert!(got.create.readonly_rootfs && got.init.no_new_privileges);
        assert_eq!(got.init.capabilities.bounding, 1 | 1 << 21 | 1 << 40);
        assert_eq!(got.init.capabilities.effective, 0);
        let limit = &got.init.rlimits[0];
        assert_eq!(
            (&*limit.type_, limit.soft, limit.hard),
            ("RLIMIT_NOFILE", 512, 1024)
        );
        assert_eq!(got.init.user.additional_gids, [7]);
        let (mount, source, read_only) = (1, "/srv".into(), true);
        assert_eq!(
            got.binds,
            [Bind {
                mount,
                source,
                read_only
            }]
        );
        assert_eq!(got.create.mounts[1].type_, "bind");
        assert_eq!(got.create.masked_paths, ["/proc/kcore"]);
        assert_eq!(got.create.readonly_paths, ["/proc/sys"]);
    }

    #[test]
    fn refuses_by_name_what_it_would_ignore() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 9] = [
            ("linux.seccomp.listenerPath", |j| {
                j["linux"]["seccomp"] =
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/a.sock"});
            }),
            ("linux.sysctl", |j| {
                j["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
            }),
            ("network namespace /run/ns", |j| {
                j["linux"]["namespaces"][1]["path"] = "/run/ns".into();
            }),
            ("host's network namespace", |j| {
                j["linux"]["namespaces"][1]["type"] = "cgroup".into();
            }),
            ("user namespace", |j| {
                j["linux"]["namespaces"][1]["type"] = "user".into();
            }),
            ("linux.rootfsPropagation rshared", |j| {
                j["linux"]["rootfsPropagation"] = "rshared".into();
            }),
            ("process.apparmorProfile", |j| {
                j["process"]["apparmorProfile"] = "cri".into();
            }),
            ("process.ioPriority", |j| {
                j["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE"});
            }),
            ("linux.personality", |j| {
                j["linux"]["personality"] = json!({"domain": "LINUX32"});
            }),
        ];
        for (word, change) in cases {
            let error = read(change).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_exec_is_checked_as_a_container_is() {
        let exec = |process: &Value| {
            read_exec("c1", "e1", process.to_string().as_bytes()).map_err(|error| error.to_string())
        };
        let mut process = document()["process"].clone();
        assert_eq!(exec(&process).unwrap().exec_id, "e1");
        process["scheduler"] = json!({"policy": "SCHED_FIFO"});
        assert!(exec(&process).unwrap_err().contains("process.scheduler"));
    }

    /// Whatever the document holds, it is refused or read; that it makes no panic is the test.
    #[test]
    fn any_document_is_read_or_refused() {
        let text = document().to_string().into_bytes();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let mut text = text.clone();
            for _ in 0..=next(3) {
                let at = next(text.len().max(1));
                match next(4) {
                    _ if text.is_empty() => break,
                    0 => text[at] = b"0{}[]\",:-9e"[next(11)],
                    1 => text.truncate(at.max(1)),
                    2 => drop(text.remove(at)),
                    _ => text.insert(at, b"19.-e\"nt"[next(8)]),
                }
            }
            read += usize::from(container("c1", Path::new("/bundle"), &text).is_ok());
            let _ = read_exec("c1", "e1", &text);
        }
        // Changes to names and numbers leave some documents as good as before.
        assert!(read > 0 && read < 20_000, "{read}");
    }
}

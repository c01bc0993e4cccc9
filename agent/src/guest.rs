//! What the host does with the guest as a whole, and with files of a container, and what waits for the kernel.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use agent_protocol::{
    CreateContainerRequest, NamespaceKind, ReadFileRequest, ReadFileResponse, WriteFileRequest,
};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::time::{ClockId, Timespec};

use crate::mounts::c_string;
use crate::pod::Pod;
use crate::refusal::{Answer, Refusal};

/// What one call reads at most.
const MOST_READ: u32 = 1 << 20;

/// Sets the wall clock.
pub(crate) fn set_clock(realtime_ns: i64) -> Answer<()> {
    let time = Timespec {
        tv_sec: realtime_ns.div_euclid(1_000_000_000),
        tv_nsec: realtime_ns.rem_euclid(1_000_000_000),
    };
    rustix::time::clock_settime(ClockId::Realtime, time)
        .map_err(|errno| Refusal::system("set the guest's clock", errno))
}

/// Sets what kernel and programs of the guest may use.
pub(crate) fn limit_memory(bytes: u64) -> Answer<()> {
    let file = File::options()
        .write(true)
        .open("/proc/sys/vm/memory_limit_kbytes");
    let set = file.and_then(|mut file| file.write_all((bytes >> 10).to_string().as_bytes()));
    let mib = bytes >> 20;
    set.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => Refusal::state(format!(
            "more than {mib} MiB of the pod's memory are in use; end some of its programs first"
        )),
        _ => Refusal::io(&format!("limit the guest's memory to {mib} MiB"), &error),
    })
}

/// Stirs bytes into the kernel's random numbers.
pub(crate) fn reseed(entropy: &[u8]) -> Answer<()> {
    let file = File::options().write(true).open("/dev/urandom");
    let written = file.and_then(|mut file| file.write_all(entropy));
    written.map_err(|error| Refusal::io("stir the guest's random numbers", &error))
}

/// Writes a piece of a file.
pub(crate) fn write_file(pod: &Pod, request: &WriteFileRequest) -> Answer<()> {
    let mut flags = OFlags::WRONLY | OFlags::CREATE;
    if request.offset == 0 {
        flags |= OFlags::TRUNC;
    }
    let mode = Mode::from_raw_mode(request.mode & 0o7777);
    let file = open(pod, &request.container_id, &request.path, flags, mode)?;
    let written = file.write_all_at(&request.data, request.offset);
    written.map_err(|error| Refusal::io(&format!("write \"{}\"", request.path), &error))
}

/// Reads a piece of a file.
pub(crate) fn read_file(pod: &Pod, request: &ReadFileRequest) -> Answer<ReadFileResponse> {
    let (flags, none) = (OFlags::RDONLY, Mode::empty());
    let file = open(pod, &request.container_id, &request.path, flags, none)?;
    let what = |error| Refusal::io(&format!("read \"{}\"", request.path), &error);
    let length = request.length.min(MOST_READ);
    let mut data = Vec::new();
    let mut file = Positioned(&file, request.offset).take(length.into());
    file.read_to_end(&mut data).map_err(what)?;
    Ok(ReadFileResponse {
        data,
        ..Default::default()
    })
}

/// Reads on from an offset.
struct Positioned<'a>(&'a File, u64);

impl std::io::Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read_at(buffer, self.1)?;
        self.1 += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

/// Opens a regular file beneath a container's root: links in it lead nowhere else, and no pipe makes the agent wait.
fn open(pod: &Pod, container: &str, path: &str, flags: OFlags, mode: Mode) -> Answer<File> {
    let root = pod.lock().container(container)?.root.clone();
    let what = || format!("open \"{path}\" in container \"{container}\"");
    let failed = |errno| Refusal::system(what(), errno);
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, root.as_c_str(), directory, Mode::empty()).map_err(failed)?;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(root, Path::new(path), flags, mode, resolve).map_err(failed)?;
    let file = File::from(file);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        _ => Err(Refusal::invalid(format!(
            "\"{path}\" in container \"{container}\" is no regular file"
        ))),
    }
}

/// Which namespace of a kind a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that the guest began with.
    #[default]
    Pod,
    /// One of its own.
    Own,
    /// That of the container of this name.
    Of(String),
}

/// The namespaces that a container is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    pub(crate) pids: Which,
    pub(crate) names: Which,
    pub(crate) ipc: Which,
}

/// Refuses by name what a container asks for and the kernel does not have, and tells its namespaces.
pub(crate) fn check(request: &CreateContainerRequest) -> Answer<Namespaces> {
    if let Some(device) = request.devices.first() {
        return unsupported(&format!("the device \"{}\"", device.path));
    }
    if let Some(rule) = request.device_rules.first() {
        let verb = if rule.allow { "allowing" } else { "denying" };
        let (kind, major, minor) = (&rule.type_, rule.major, rule.minor);
        let what = format!("{verb} the devices {kind} {major}:{minor} (device rules)");
        return unsupported(&what);
    }
    if let Some(hook) = request.hooks.first() {
        return unsupported(&format!("a {} hook in the guest", hook.point));
    }
    let mut wanted = Namespaces::default();
    for namespace in &request.namespaces {
        let slot = match namespace.kind.enum_value() {
            Ok(NamespaceKind::NAMESPACE_KIND_PID) => &mut wanted.pids,
            Ok(NamespaceKind::NAMESPACE_KIND_UTS) => &mut wanted.names,
            Ok(NamespaceKind::NAMESPACE_KIND_IPC) => &mut wanted.ipc,
            Ok(NamespaceKind::NAMESPACE_KIND_NETWORK) if namespace.container_id.is_empty() => {
                return unsupported("an own network namespace");
            }
            Ok(NamespaceKind::NAMESPACE_KIND_NETWORK) => {
                let other = &namespace.container_id;
                return unsupported(&format!("the network namespace of container \"{other}\""));
            }
            Ok(NamespaceKind::NAMESPACE_KIND_UNSPECIFIED) | Err(_) => {
                return Err(Refusal::invalid("a namespace without a kind"));
            }
        };
        *slot = match namespace.container_id.as_str() {
            "" => Which::Own,
            other => Which::Of(other.to_owned()),
        };
    }
    Ok(wanted)
}

/// Those of an IPC namespace (namespaces(7)).
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The files of a container's sysctls and their values. Only what is of a namespace of its own can be set: the rest is
/// everybody's.
pub(crate) fn sysctls(
    request: &CreateContainerRequest,
    namespaces: &Namespaces,
) -> Answer<Vec<(CString, CString)>> {
    let mut wanted: Vec<_> = request.sysctls.iter().collect();
    wanted.sort();
    let file = |(name, value): (&String, &String)| {
        if !OF_IPC.contains(&name.as_str()) {
            return unsupported(&format!("setting the sysctl \"{name}\""));
        }
        if namespaces.ipc != Which::Own {
            return Err(Refusal::invalid(format!(
                "the sysctl \"{name}\" is of an IPC namespace, and the container has none of its own"
            )));
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        Ok((c_string(path)?, c_string(value.as_str())?))
    };
    wanted.into_iter().map(file).collect()
}

fn unsupported<T>(what: &str) -> Answer<T> {
    Err(not_yet(what))
}

/// The refusal of what the guest's kernel does not have.
pub(crate) fn not_yet(what: &str) -> Refusal {
    Refusal::unsupported(format!("the guest does not support {what}"))
}

#[cfg(test)]
mod tests {
    use agent_protocol::{Device, DeviceRule, Hook, Namespace};

    use super::*;

    fn namespace(kind: NamespaceKind, of: &str) -> Namespace {
        Namespace {
            kind: kind.into(),
            container_id: of.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn what_the_kernel_does_not_have_is_refused_by_name() {
        type Change = fn(&mut CreateContainerRequest);
        let cases: [(&str, Change); 6] = [
            ("/dev/fuse", |request| {
                let path = "/dev/fuse".to_owned();
                request.devices = vec![Device {
                    path,
                    ..Default::default()
                }];
            }),
            ("denying the devices c 1:3", |request| {
                let (type_, major, minor) = ("c".to_owned(), 1, 3);
                request.device_rules = vec![DeviceRule {
                    type_,
                    major,
                    minor,
                    ..Default::default()
                }];
            }),
            ("startContainer", |request| {
                let point = "startContainer".to_owned();
                request.hooks = vec![Hook {
                    point,
                    ..Default::default()
                }];
            }),
            ("an own network namespace", |request| {
                request.namespaces = vec![namespace(NamespaceKind::NAMESPACE_KIND_NETWORK, "")];
            }),
            ("network namespace of container \"other\"", |request| {
                request.namespaces =
                    vec![namespace(NamespaceKind::NAMESPACE_KIND_NETWORK, "other")];
            }),
            ("without a kind", |request| {
                request.namespaces = vec![Namespace::default()];
            }),
        ];
        for (word, change) in cases {
            let mut request = CreateContainerRequest::default();
            change(&mut request);
            let said = check(&request).expect_err(word).to_string();
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn sysctls_are_those_of_an_own_namespace() {
        let mut request = CreateContainerRequest::default();
        let mut set = |name: &str, which: &Which| {
            request.sysctls = [(name.to_owned(), "1".to_owned())].into();
            let namespaces = Namespaces {
                ipc: which.clone(),
                ..Default::default()
            };
            let set = sysctls(&request, &namespaces);
            set.map_err(|refusal| refusal.to_string())
        };
        let files = set("kernel.msgmax", &Which::Own).unwrap();
        assert_eq!(
            files,
            [(c"/proc/sys/kernel/msgmax".to_owned(), c"1".to_owned())]
        );
        let said = set("kernel.msgmax", &Which::Pod).unwrap_err();
        assert!(said.contains("none of its own"), "{said}");
        let said = set("vm.swappiness", &Which::Own).unwrap_err();
        assert!(said.contains("vm.swappiness"), "{said}");
    }

    #[test]
    fn namespaces_are_those_that_are_named() {
        let mut request = CreateContainerRequest::default();
        assert_eq!(check(&request).ok(), Some(Namespaces::default()));
        request.namespaces = vec![
            namespace(NamespaceKind::NAMESPACE_KIND_PID, ""),
            namespace(NamespaceKind::NAMESPACE_KIND_IPC, "other"),
        ];
        let wanted = Namespaces {
            pids: Which::Own,
            names: Which::Pod,
            ipc: Which::Of("other".to_owned()),
        };
        assert_eq!(check(&request).ok(), Some(wanted));
    }
}

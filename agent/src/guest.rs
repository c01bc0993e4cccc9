//! What the host does with the guest as a whole, and with files of a container, and what waits for the kernel.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use agent_protocol::{
    CreateContainerRequest, NamespaceKind, ReadFileRequest, ReadFileResponse, WriteFileRequest,
};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::time::{ClockId, Timespec};

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

/// Which namespaces a container has of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) pids: bool,
    pub(crate) names: bool,
}

/// Refuses by name what a container asks for and the kernel does not have, and tells its own namespaces.
pub(crate) fn check(request: &CreateContainerRequest) -> Answer<Own> {
    if let Some(name) = request.sysctls.keys().min() {
        return unsupported(&format!("setting the sysctl \"{name}\""));
    }
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
    let mut own = Own::default();
    for namespace in &request.namespaces {
        let (slot, name) = match namespace.kind.enum_value() {
            Ok(NamespaceKind::NAMESPACE_KIND_PID) => (Some(&mut own.pids), "PID"),
            Ok(NamespaceKind::NAMESPACE_KIND_UTS) => (Some(&mut own.names), "UTS"),
            Ok(NamespaceKind::NAMESPACE_KIND_IPC) => (None, "IPC"),
            Ok(NamespaceKind::NAMESPACE_KIND_NETWORK) => (None, "network"),
            Ok(NamespaceKind::NAMESPACE_KIND_UNSPECIFIED) | Err(_) => {
                return Err(Refusal::invalid("a namespace without a kind"));
            }
        };
        let other = &namespace.container_id;
        match slot {
            _ if !other.is_empty() => {
                return unsupported(&format!("the {name} namespace of container \"{other}\""));
            }
            Some(slot) => *slot = true,
            None => return unsupported(&format!("an own {name} namespace")),
        }
    }
    Ok(own)
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
        let cases: [(&str, Change); 7] = [
            ("kernel.msgmax", |request| {
                let sysctl = ("kernel.msgmax".to_owned(), "1".to_owned());
                request.sysctls.extend([sysctl]);
            }),
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
            ("an own IPC namespace", |request| {
                request.namespaces = vec![namespace(NamespaceKind::NAMESPACE_KIND_IPC, "")];
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
    fn own_namespaces_are_those_that_are_named() {
        let mut request = CreateContainerRequest::default();
        assert_eq!(check(&request).ok(), Some(Own::default()));
        request.namespaces = vec![namespace(NamespaceKind::NAMESPACE_KIND_PID, "")];
        let (pids, names) = (true, false);
        assert_eq!(check(&request).ok(), Some(Own { pids, names }));
    }
}

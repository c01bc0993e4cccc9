//! What a container sees mounted: from the host's list to prepared system calls.
//!
//! [`mounting`](crate::mounting) then makes them, in a child that has the container's root as its
//! own. Everything that can be refused by name is refused here.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use agent_protocol::{FailureKind, Mount, MountOptions, SHARED_TAG};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::mounting::{self, Kind, Outcome, Prepared};
use crate::network::RESOLV_CONF;
use crate::refusal::{Answer, Refusal};

/// What became of a container's mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// The destinations that are mounted, in order.
    pub(crate) destinations: Vec<CString>,
    /// The directories that were made for them, in order.
    pub(crate) made: Vec<CString>,
    /// The destinations of optional mounts that the kernel does not offer.
    pub(crate) skipped: Vec<String>,
    /// All of them; the container's first process makes the late ones.
    pub(crate) prepared: Vec<Prepared>,
}

/// The container whose mounts are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Its root directory.
    pub(crate) root: &'a CStr,
    /// The shared directory, beneath which the sources of binds are.
    pub(crate) shared: &'a Path,
    /// Whether the root is to be read-only once everything is mounted.
    pub(crate) read_only: bool,
}

/// What is mounted, masked and protected, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) mounts: &'a [Mount],
    pub(crate) masked: &'a [String],
    pub(crate) read_only: &'a [String],
    /// The processes' PID namespace is their own, so what shows it is mounted by the first of them.
    pub(crate) pid_namespace: bool,
}

/// Mounts what a container wants; on failure nothing of it stays. `forked` is told of children.
pub(crate) fn mount_all(
    place: Place<'_>,
    wanted: Wanted<'_>,
    forked: impl Fn(),
) -> Answer<Mounted> {
    let mut prepared = prepare_all(place.shared, wanted)?;
    leave_out(&mut prepared, &file_systems());
    let mut mounted = Mounted::default();
    if place.read_only {
        mounted.destinations.push(c"/".to_owned());
    }
    let outcomes = mounting::mount_each(place.root, place.read_only, &prepared, &forked)?;
    for outcome in outcomes {
        match outcome {
            Outcome::Done(index) => {
                mounted
                    .destinations
                    .extend(prepared.get(index).map(|one| one.destination.clone()));
            }
            Outcome::Skipped(index) => {
                // A path to mask that is not there is nothing to tell of.
                mounted
                    .skipped
                    .extend(wanted.mounts.get(index).map(|one| one.destination.clone()));
            }
            Outcome::Made(index, number) => {
                let place = prepared.get(index);
                let way = |one: &Prepared| one.directories.get(number).cloned();
                mounted
                    .made
                    .extend(place.map(|one| way(one).unwrap_or_else(|| one.destination.clone())));
            }
            Outcome::Failed(index, errno) => {
                // The reason of the failure is the news, not what it leaves to clean up.
                let _ = mounting::unmount_each(
                    place.root,
                    &mounted.destinations,
                    &mounted.made,
                    &forked,
                );
                return Err(refused(place.root, wanted, index, errno));
            }
        }
    }
    mounted.prepared = prepared;
    Ok(mounted)
}

fn prepare_all(shared: &Path, wanted: Wanted<'_>) -> Answer<Vec<Prepared>> {
    let mounts = wanted.mounts.iter().map(|mount| prepare(shared, mount));
    let masked = wanted
        .masked
        .iter()
        .map(|path| prepare_path(path, Kind::Mask));
    let read_only = wanted
        .read_only
        .iter()
        .map(|path| prepare_path(path, Kind::ReadOnly));
    let mut all: Vec<_> = mounts
        .chain(masked)
        .chain(read_only)
        .collect::<Answer<_>>()?;
    if wanted.pid_namespace {
        defer(&mut all);
    } else if let Some(shown) = all.iter_mut().find(|mount| is_cgroup(&mount.kind)) {
        // It would show the groups of all containers.
        if !shown.optional {
            return Err(Refusal::unsupported(
                "a mount of control groups needs a PID namespace of the container's own",
            ));
        }
        shown.absent = true;
    }
    Ok(all)
}

/// Leaves to the first process what shows process ids, what lies on top of that, and what covers parts of it.
fn defer(all: &mut [Prepared]) {
    let mut shown: Vec<PathBuf> = Vec::new();
    for mount in all {
        let destination = PathBuf::from(OsStr::from_bytes(mount.destination.as_bytes()));
        let is_proc = matches!(&mount.kind, Kind::FileSystem { kind, .. } if **kind == *c"proc");
        let covers = matches!(mount.kind, Kind::Mask | Kind::ReadOnly);
        // What shows control groups does so from the container's own on, as its first process sees them.
        let is_cgroup = is_cgroup(&mount.kind);
        let is_above = shown.iter().any(|below| destination.starts_with(below));
        mount.late = is_proc || is_cgroup || covers || is_above;
        if is_proc || is_cgroup {
            shown.push(destination);
        }
    }
}

fn is_cgroup(kind: &Kind) -> bool {
    matches!(kind, Kind::FileSystem { kind, .. } if **kind == *c"cgroup2")
}

/// The kernel's file systems (proc(5), `/proc/filesystems`); empty when they cannot be read.
fn file_systems() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split('\t').nth(1));
    names.map(str::to_owned).collect()
}

/// Leaves out the optional mounts of file systems that the kernel does not have, before anything is made for them: their
/// places may lie where nothing can be made, as that of `cgroup` does in sysfs.
fn leave_out(all: &mut [Prepared], known: &[String]) {
    for mount in all {
        if let (Kind::FileSystem { kind, .. }, true) = (&mount.kind, mount.optional) {
            let is_known = known.iter().any(|name| name.as_bytes() == kind.as_bytes());
            mount.absent |= !known.is_empty() && !is_known;
        }
    }
}

/// A path of the container that is to be masked or protected.
fn prepare_path(path: &str, kind: Kind) -> Answer<Prepared> {
    Ok(Prepared {
        directories: Vec::new(),
        destination: c_string(checked_destination(path)?)?,
        source: CString::default(),
        kind,
        flags: MountFlags::empty(),
        data: CString::default(),
        optional: true,
        absent: false,
        late: false,
    })
}

fn refused(root: &CStr, wanted: Wanted<'_>, index: usize, errno: Errno) -> Refusal {
    let paths = wanted.masked.iter().map(|path| ("mask", path));
    let paths = paths.chain(wanted.read_only.iter().map(|path| ("protect", path)));
    if let Some(mount) = wanted.mounts.get(index) {
        return refused_mount(mount, errno);
    }
    let what = match paths.clone().nth(index.saturating_sub(wanted.mounts.len())) {
        Some((verb, path)) => format!("{verb} {path}"),
        None => format!("set up the root file system {}", root.to_string_lossy()),
    };
    Refusal::system(what, errno)
}

fn refused_mount(mount: &Mount, errno: Errno) -> Refusal {
    let options = mount.options.join(",");
    let with = match options.as_str() {
        "" => String::new(),
        options => format!(" with the options {options}"),
    };
    let what = format!("mount {} at {}{with}", mount.type_, mount.destination);
    match errno {
        Errno::NODEV | Errno::NOSYS => {
            Refusal::with_errno(FailureKind::FAILURE_KIND_UNSUPPORTED, what, errno)
        }
        _ => Refusal::system(what, errno),
    }
}

fn prepare(shared: &Path, mount: &Mount) -> Answer<Prepared> {
    let destination = checked_destination(&mount.destination)?;
    let options = MountOptions::sort(&mount.options).map_err(|word| refused_option(word, mount))?;
    let (kind, source) = match mount.type_.as_str() {
        _ if options.bind || mount.type_ == "bind" => {
            let source = beneath(shared, &mount.source)?;
            let directory = source.is_dir();
            let recursive = options.recursive;
            if let Some(word) = options.data.first() {
                // A bind has no file system to understand it: Linux would ignore it.
                return Err(refused_option(word, mount));
            }
            (
                Kind::Bind {
                    directory,
                    recursive,
                },
                source.to_string_lossy().into_owned(),
            )
        }
        // What the host has told of names, over whatever file the image has.
        "resolv" => (
            Kind::Bind {
                directory: false,
                recursive: false,
            },
            RESOLV_CONF.to_owned(),
        ),
        // What is attached beside the shared directory; that itself is not for containers to mount.
        "virtiofs" if attached(&mount.source) => (
            Kind::FileSystem {
                kind: c_string("virtiofs")?,
                devices: false,
            },
            mount.source.clone(),
        ),
        "proc" | "tmpfs" | "devpts" | "devtmpfs" | "sysfs" | "mqueue" | "cgroup" | "cgroup2" => {
            let devices = destination == "/dev" && mount.type_ == "tmpfs";
            let source = if mount.source.is_empty() {
                &mount.type_
            } else {
                &mount.source
            };
            // There is the second version only, by either name.
            let kind = match mount.type_.as_str() {
                "cgroup" => "cgroup2",
                other => other,
            };
            (
                Kind::FileSystem {
                    kind: c_string(kind)?,
                    devices,
                },
                source.clone(),
            )
        }
        other => {
            return Err(Refusal::unsupported(format!(
                "a mount of type \"{other}\" at {destination} is not supported"
            )));
        }
    };
    let directories = destination
        .match_indices('/')
        .skip(1)
        .map(|(end, _)| &destination[..end])
        .map(c_string)
        .collect::<Answer<Vec<_>>>()?;
    Ok(Prepared {
        directories,
        destination: c_string(&destination)?,
        source: c_string(source)?,
        kind,
        flags: options.flags,
        data: c_string(options.data.join(","))?,
        optional: mount.optional,
        absent: false,
        late: false,
    })
}

/// Whether this source is a directory attached to the shared one's device.
fn attached(source: &str) -> bool {
    let name = source.strip_prefix(SHARED_TAG);
    name.is_some_and(|name| name.starts_with('/') && name.len() > 1)
}

/// An absolute path of plain names, without a slash at its end.
fn checked_destination(path: &str) -> Answer<String> {
    let names: Vec<_> = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect();
    if !path.starts_with('/') || names.is_empty() || names.contains(&"..") {
        return Err(Refusal::invalid(format!(
            "the mount destination \"{path}\" is not an absolute path below the root"
        )));
    }
    Ok(format!("/{}", names.join("/")))
}

/// A path beneath the shared directory, made of plain names.
pub(crate) fn beneath(shared: &Path, path: &str) -> Answer<PathBuf> {
    let mut full = shared.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => full.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Refusal::invalid(format!(
                    "\"{path}\" is not a path beneath the shared directory"
                )));
            }
        }
    }
    Ok(full)
}

fn refused_option(option: &str, mount: &Mount) -> Refusal {
    Refusal::unsupported(format!(
        "the mount option \"{option}\" at {} is not supported",
        mount.destination
    ))
}

/// A string for the kernel; a NUL byte in it is the host's mistake.
pub(crate) fn c_string(text: impl AsRef<str>) -> Answer<CString> {
    let text = text.as_ref();
    CString::new(text).map_err(|_| Refusal::invalid(format!("{text:?} holds a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(kind: &str, options: &[&str]) -> Result<Prepared, String> {
        let mount = Mount {
            destination: "/at".to_owned(),
            type_: kind.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Default::default()
        };
        prepare(Path::new("/shared"), &mount).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn what_nobody_would_heed_is_refused_by_name() {
        for (kind, option) in [
            ("bind", "idmap"),
            ("bind", "size=1k"),
            ("bind", "rro"),
            ("bind", "rslave"),
            ("tmpfs", "shared"),
            ("tmpfs", "unbindable"),
        ] {
            let said = prepared(kind, &[option]).expect_err(option);
            assert!(said.contains(option) && said.contains("/at"), "{said}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_have_is_left_out_when_it_is_optional() {
        let absent = |kind: &str, optional: bool, known: &[&str]| {
            let mut all = [prepared(kind, &[]).expect("a mount")];
            all[0].optional = optional;
            let known: Vec<_> = known.iter().map(|name| (*name).to_owned()).collect();
            leave_out(&mut all, &known);
            all[0].absent
        };
        // Under either name it is version 2.
        assert!(!absent("cgroup", true, &["proc", "cgroup2"]));
        assert!(absent("cgroup", true, &["proc"]));
        assert!(!absent("cgroup2", true, &["proc", "cgroup2"]));
        assert!(!absent("cgroup", false, &["proc"]));
        // Who cannot ask tries.
        assert!(!absent("cgroup", true, &[]));
        assert!(file_systems().iter().any(|name| name == "proc"));
    }

    #[test]
    fn paths_to_mask_are_absolute_and_plain() {
        for path in ["", "/", "proc/kcore", "/proc/../etc"] {
            assert!(prepare_path(path, Kind::Mask).is_err(), "{path}");
        }
        let at = prepare_path("/proc//kcore/", Kind::Mask).expect("a path");
        assert_eq!(at.destination, c"/proc/kcore".to_owned());
    }
}
